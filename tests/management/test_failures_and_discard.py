"""rmq_failures lists what failed, rmq_discard decides that it is not sent; neither shows a body."""

import json

import pytest

from rmq_publisher.outbox.transitions import messages
from tests.management.test_retry_prune_stats import HOUR, run
from tests.support.stored_rows import stored


def states(database):
    return dict(messages(database).values_list("message_id", "state"))


@pytest.fixture
def rows(store):
    stored(store, "pending", message_id="pending")
    stored(store, "delivered", message_id="delivered", age=10)
    stored(store, "discarded", message_id="discarded", age=20)
    stored(store, "failed", message_id="failed", age=90, last_error_type="Nacked")
    stored(
        store, "dead", message_id="dead", age=2 * HOUR + 60, last_error_code=312,
        last_error_text="returned: 312 NO_ROUTE", body=b"s3cr3t", header=b"s3cr3t",
    )  # fmt: skip
    return store


def test_failures_lists_what_needs_attention_the_last_one_first(rows):
    said = run("rmq_failures", database=rows)
    lines = said.out.splitlines()
    assert lines[0].startswith("failed      1m ago  failed  exchange '', routing key 'orders'")
    assert "Nacked" in lines[1]
    assert lines[2].startswith("dead        2h ago  dead  exchange ''")
    assert lines[3] == "    Unroutable 312: returned: 312 NO_ROUTE"
    assert lines[4] == "2 failures."
    assert "s3cr3t" not in said.out


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--state", "dead"], ["dead"]),
        (["--error", "Nacked"], ["failed"]),
        (["--since", "1h"], ["failed"]),
        (["--state", "delivered", "--state", "discarded"], ["delivered", "discarded"]),
        (["delivered", "dead"], ["delivered", "dead"]),
        (["--limit", "1"], ["failed"]),
        (["--exchange", "elsewhere"], []),
    ],
)
def test_failures_as_json(rows, arguments, ids):
    said = run("rmq_failures", "--json", *arguments, database=rows)
    document = json.loads(said.out)
    assert [row["message_id"] for row in document["failures"]] == ids
    assert document["total"] == (2 if "--limit" in arguments else len(ids))
    assert "s3cr3t" not in said.out


def test_failures_says_what_it_left_out_and_what_it_did_not_find(rows):
    assert (
        "1 of 2 failures; see --limit." in run("rmq_failures", "--limit", "1", database=rows).out
    )
    assert "Not found among the failures: x, pending" in (
        run("rmq_failures", "x", "pending", database=rows).error
    )
    assert (
        run("rmq_failures", "--limit", "0", database=rows).error == "--limit must be at least 1."
    )
    assert "no error 'Foo'" in run("rmq_failures", "--error", "Foo", database=rows).error
    nothing = run("rmq_failures", "--exchange", "elsewhere", database=rows)
    assert nothing.out == "No failures.\n"


@pytest.mark.parametrize("column", ["message_id", "last_error_text"])
def test_failures_steers_no_terminal(store, column):
    stored(store, "dead", **{column: "a\x1b[2J\nb"})
    said = run("rmq_failures", database=store)
    assert "\x1b" not in said.out
    assert r"a\x1b[2J\nb" in said.out


@pytest.mark.parametrize(
    ("arguments", "discarded"),
    [
        (["dead"], {"dead"}),
        (["--state", "dead"], {"dead"}),
        (["--error", "Nacked"], {"failed"}),
        (["--since", "1h"], {"failed"}),
        (["--exchange", ""], {"failed", "dead"}),
    ],
)
def test_discard(rows, arguments, discarded):
    before = states(rows)
    dry = run("rmq_discard", *arguments, "--dry-run", database=rows)
    assert dry.out == f"{len(discarded)} would be discarded.\n"
    assert states(rows) == before
    said = run("rmq_discard", *arguments, database=rows)
    assert (said.out, said.error) == (f"{len(discarded)} discarded.\n", "")
    assert states(rows) == before | dict.fromkeys(discarded, "discarded")


def test_discard_of_everything_must_be_asked_for(rows):
    before = states(rows)
    said = run("rmq_discard", database=rows)
    assert "--dry-run" in said.error
    assert states(rows) == before


def test_discard_leaves_alone_what_is_being_sent_or_is_not_failed(store):
    stored(store, "failed", held=True, message_id="held")
    stored(store, "pending", message_id="pending")
    said = run("rmq_discard", "held", "pending", database=store)
    assert said.out == "0 discarded.\nSkipped 1: being sent right now.\n"
    assert said.error == "Not found among failed and dead messages: pending"
    assert states(store) == {"held": "failed", "pending": "pending"}
