/* Refreshes the list while its tab is visible and nobody is working in it. Without this script the pages
   are the same, but are not refreshed. */
"use strict";
{
    const EVERY_MS = 5000;
    const byId = (id) => document.getElementById(id);
    let paused = false;
    let heard = ""; // what was read out last
    let stale = false; // whether rows were exchanged that the admin's own script has not seen

    // Why the page stands still: which of the note's texts says so; empty where it does not.
    const reason = () => {
        const focused = document.activeElement || document.body;
        if (paused) {
            return "paused";
        }
        if (document.querySelector("input.action-select:checked, #action-toggle:checked")) {
            return "ticked";
        }
        if (focused.matches("input, select, textarea")) {
            return "typing";
        }
        if (!window.getSelection().isCollapsed) {
            return "marked";
        }
        // Whoever has unfolded something reads on; the focus is given back after the exchange.
        const passive = focused.matches("#rmq-below summary[id]");
        return !passive && focused.closest("#rmq-results, #rmq-pages, #rmq-strip, #rmq-below, .rmq-filters") ? "focused" : "";
    };

    const explain = (why) => {
        const note = byId("rmq-note");
        note.textContent = note.dataset[why] || "";
    };

    const exchange = (fresh, id) => {
        const [old, renewed] = [byId(id), fresh.getElementById(id)];
        if (!old || !renewed) {
            return;
        }
        const open = Array.from(old.querySelectorAll("details[open]"), (each) => each.id);
        const focused = old.contains(document.activeElement) && byId(document.activeElement.id);
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
        if (focused && byId(focused.id)) {
            byId(focused.id).focus({ preventScroll: true });
        }
    };

    const say = (text) => {
        if (text !== heard) {
            byId("rmq-said").textContent = heard = text;
        }
    };

    const refresh = async (live) => {
        let answer;
        try {
            answer = await fetch(live.dataset.url + window.location.search, {
                credentials: "same-origin",
                headers: { Accept: "text/html" },
            });
        } catch {
            explain("away");
            return true;
        }
        if (answer.redirected || answer.status === 403) {
            explain("signedOut");
            return false;
        }
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (!answer.ok || !fresh.getElementById("rmq-strip")) {
            explain("away");
        } else if (!document.hidden) {
            const why = reason(); // somebody may have begun since it was asked for
            explain(why);
            if (why) {
                return true;
            }
            say(fresh.getElementById("rmq-strip").dataset.announcement);
            ["rmq-strip", "rmq-results", "rmq-pages", "rmq-below"].forEach((id) => exchange(fresh, id));
            stale = true;
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
            explain(reason());
        });
        button.hidden = false;
        label();
        heard = byId("rmq-strip").dataset.announcement;
        const tick = async () => {
            const why = document.hidden ? "" : reason();
            if (why) {
                explain(why);
            }
            if (document.hidden || why || (await refresh(live))) {
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
                // A theme's may look for all else within a parent; Django's own asks for none.
                window.Actions(boxes, { parent: byId("rmq-results") });
            }
        }
    };

    // What the admin's script does as well, where it knows the rows: a theme's may ask for more than we give.
    const tickAll = (event) => {
        if (event.target.matches("#action-toggle")) {
            document.querySelectorAll("#result_list tr input.action-select").forEach((box) => {
                box.checked = event.target.checked;
            });
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
            document.addEventListener("click", tickAll);
            keepFresh(live);
        }
        document.querySelectorAll("button[data-copy]").forEach(copying);
    });
}
