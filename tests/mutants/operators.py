"""The admin's page: what an operator is told and shown first, and what may be retried or discarded."""

from __future__ import annotations

from .mutant import Mutant

FAILURES = ("management/test_failures_and_discard.py",)
TESTS = ("modeladmin/test_operator.py",)
PENDING = ("modeladmin/test_pending.py",)
OPERATIONS = "modeladmin/operations.py"
FILTERS = "modeladmin/filters.py"
DETAIL = "modeladmin/change_view.py"

MUTANTS = (
    Mutant(
        "a failed retry is only a warning",
        "A retry of which nothing was sent is told as an error.",
        OPERATIONS,
        "        return messages.ERROR\n",
        "        return messages.WARNING\n",
        TESTS,
    ),
    Mutant(
        "the question counts what was delivered",
        "The question before discarding counts only what can still be discarded.",
        OPERATIONS,
        "    open_rows = [row for row in rows if row.pk in found]\n",
        "    open_rows = list(rows)\n",
        TESTS,
    ),
    Mutant(
        "the halves of the chart differ in scale",
        "Published and failed messages are drawn on one scale.",
        "modeladmin/chart.py",
        "        down = min(HEIGHT - line, _height(bucket.failed, most))\n",
        "        down = min(HEIGHT - line, _height(bucket.failed, most_failed))\n",
        TESTS,
    ),
    Mutant(
        "the list begins with everything",
        "The list begins with the unresolved failures.",
        FILTERS,
        ' else "unresolved"\n',
        " else ALL\n",
        TESTS,
    ),
    Mutant(
        "a search finds the unresolved only",
        "A search finds delivered and discarded messages, too.",
        FILTERS,
        "    return ALL if request.GET.get(",
        '    return "unresolved" if request.GET.get(',
        TESTS,
    ),
    Mutant(
        "a group takes every reply code",
        "A group of failures has one error and one reply code.",
        FILTERS,
        "        return found.filter(last_error_code=code) if code else found\n",
        "        return found\n",
        TESTS,
    ),
    Mutant(
        "a delivered message offers a retry",
        "A message that was delivered or discarded offers neither retry nor discard.",
        DETAIL,
        '        if row.state in ("delivered", "discarded"):\n',
        '        if row.state == "discarded":\n',
        TESTS,
    ),
    Mutant(
        "attempts leave out the confirm",
        "The number of attempts agrees with the table under it.",
        DETAIL,
        "        (int(delivered), ",
        "        (0, ",
        TESTS,
    ),
    Mutant(
        "the neighbours are those of every list",
        "Next and previous lead through the list from which the user came.",
        DETAIL,
        'request.GET.get("_changelist_filters", "")',
        '""',
        TESTS,
    ),
    Mutant(
        "zero seconds ago",
        "A time less than a second away is now.",
        "modeladmin/formatting.py",
        '    if seconds < 1:\n        return _("just now")\n',
        "",
        TESTS,
    ),
    Mutant(
        "nobody sends without a relay",
        "Without a relay, this process can send the matching messages itself.",
        "modeladmin/views.py",
        ' and "now" in request.POST:',
        ' and "never" in request.POST:',
        TESTS,
    ),
    Mutant(
        "a person cancels what was taken",
        "In the admin, too, what a process has taken is not cancelled.",
        "outbox/scheduled.py",
        'id__in=some, state="pending", token=0)',
        'id__in=some, state="pending")',
        PENDING,
    ),
    Mutant(
        "what is behind another message waits for a relay",
        "The page says which message of its key holds a pending one.",
        "modeladmin/pending_holds.py",
        "        if first < row.pk:\n",
        "        if False:\n",
        PENDING,
    ),
    Mutant(
        "messages are cancelled without a question",
        "The page asks before selected messages are cancelled.",
        "modeladmin/pending_page.py",
        "        if rows and (is_across(request) or not confirmed(request)):\n",
        "        if False:\n",
        PENDING,
    ),
    Mutant(
        "whoever looks may cancel",
        "Cancelling messages has a permission of its own.",
        "modeladmin/pending_page.py",
        'permissions=["cancel"], ',
        "",
        PENDING,
    ),
    Mutant(
        "what nobody sends is no error",
        "Scheduled messages that no relay sends are an error on the page.",
        "modeladmin/tiles.py",
        '"errors": [text % late] if late else []',
        '"errors": []',
        PENDING,
    ),
    Mutant(
        "nobody hears of what a person cancels",
        "`message_cancelled` is sent for what is cancelled in the admin.",
        "publisher/scheduling.py",
        "            tell_cancelled(message_id, database)\n",
        "            pass\n",
        PENDING,
    ),
    Mutant(
        "everything is discarded without a filter",
        "`rmq_discard` of all messages must be asked for.",
        "management/commands/rmq_discard.py",
        '        if not chosen and not options["state"]:\n',
        "        if False:\n",
        FAILURES,
    ),
    Mutant(
        "a failure controls the terminal",
        "`rmq_failures` prints no control character of an id or of the broker.",
        "management/commands/rmq_failures.py",
        "    return text if text.isprintable() else ascii(text)\n",
        "    return text\n",
        FAILURES,
    ),
    Mutant(
        "a relay waits for a table that is missing",
        "A relay without its table ends at once and names `migrate`.",
        "outbox/relay.py",
        "isinstance(error, UNAVAILABLE) and not is_table_missing(error)",
        "isinstance(error, UNAVAILABLE)",
        ("management/test_missing_table.py",),
    ),
    Mutant(
        "rmq_check compares nothing",
        "`rmq_check` reports a queue whose arguments differ.",
        "topology/declare.py",
        "tuple(row for row in compare(alias, further) if row.is_bad)",
        "tuple(row for row in compare(alias) if row.state == MISSING)",
        ("management/test_declare_and_check.py",),
    ),
)
