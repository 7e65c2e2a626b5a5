/* The list refreshes itself while its tab is seen and nobody is at work in it. Without this script the pages
   are the same, and stand still. */
"use strict";
{
    const EVERY_MS = 5000;
    const byId = (id) => document.getElementById(id);
    let paused = false;
    let heard = ""; // what was read out last
    let stale = false; // whether rows were exchanged that the admin's own script has not seen

    const atWork = () => {
        const focused = document.activeElement;
        return (
            document.hidden ||
            document.querySelector("input.action-select:checked, #action-toggle:checked") !== null ||
            (focused !== null &&
                (focused.matches("input, select, textarea") ||
                    focused.closest("#rmq-results, #rmq-pages, #rmq-strip") !== null)) ||
            !window.getSelection().isCollapsed
        );
    };

    const exchange = (fresh, id) => {
        const [old, renewed] = [byId(id), fresh.getElementById(id)];
        if (!old || !renewed) {
            return;
        }
        const open = Array.from(old.querySelectorAll("details[open]"), (each) => each.id);
        // Only the rows, where there are some: the chosen action stays chosen.
        const parts = [".results", ".action-counter"].map((kind) => [
            old.querySelector(kind),
            renewed.querySelector(kind),
        ]);
        if (parts[0][0] && parts[0][1]) {
            parts.forEach(([before, after]) => before && after && before.replaceWith(after));
        } else {
            old.replaceChildren(...renewed.childNodes);
        }
        open.map(byId).forEach((each) => each && (each.open = true));
    };

    const say = (text) => {
        if (text !== heard) {
            byId("rmq-said").textContent = heard = text;
        }
    };

    const refresh = async (live) => {
        const note = byId("rmq-note");
        let answer;
        try {
            answer = await fetch(live.dataset.url + window.location.search, {
                credentials: "same-origin",
                headers: { Accept: "text/html" },
            });
        } catch {
            note.textContent = note.dataset.away;
            return true;
        }
        if (answer.redirected || answer.status === 403) {
            note.textContent = note.dataset.signedOut;
            return false;
        }
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (!answer.ok || !fresh.getElementById("rmq-strip")) {
            note.textContent = note.dataset.away;
        } else if (!atWork() && !paused) {
            say(fresh.getElementById("rmq-strip").dataset.announcement);
            ["rmq-strip", "rmq-results", "rmq-pages"].forEach((id) => exchange(fresh, id));
            stale = true;
            note.textContent = "";
        }
        return true;
    };

    const keepFresh = (live) => {
        const button = byId("rmq-pause");
        const label = () => {
            button.textContent = paused ? button.dataset.resume : button.dataset.pause;
        };
        button.addEventListener("click", () => {
            paused = !paused;
            label();
        });
        button.hidden = false;
        label();
        heard = byId("rmq-strip").dataset.announcement;
        const tick = async () => {
            const goOn = paused || atWork() || (await refresh(live));
            if (goOn) {
                window.setTimeout(tick, EVERY_MS);
            } else {
                button.hidden = true;
            }
        };
        window.setTimeout(tick, EVERY_MS);
    };

    // Exchanged rows are made known to the admin's script only when somebody is about to use them: each
    // time adds listeners of its that never go.
    const adopt = (event) => {
        if (stale && window.Actions && event.target.closest("#rmq-results")) {
            stale = false;
            const boxes = document.querySelectorAll("#result_list tr input.action-select");
            if (boxes.length) {
                window.Actions(boxes);
            }
        }
    };

    const copying = (button) => {
        button.hidden = !navigator.clipboard;
        button.addEventListener("click", async () => {
            await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
            button.textContent = button.dataset.copied;
        });
    };

    document.addEventListener("DOMContentLoaded", () => {
        const live = byId("rmq-live");
        if (live) {
            ["click", "change"].forEach((kind) => document.addEventListener(kind, adopt, true));
            keepFresh(live);
        }
        document.querySelectorAll("button[data-copy]").forEach(copying);
    });
}
