"""M11: a claim is made true by the call that the policy writes down, and by no other."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from ftplatform.defs.behavior import without_habits
from ftplatform.errors import ProjectError
from ftplatform.project.behavior import load_behavior_policy
from ftplatform.project.problems import ProjectFileError
from ftplatform.rows.schema import Role
from ftplatform.targets.habits.detection import Habit, scan
from ftplatform.targets.habits.policy import Policy
from ftplatform.targets.habits.zero_rule import phantom_action
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

TICKET, BOOKING, QUEUE = (
    "I have opened a ticket for you.",
    "I have booked a table for you.",
    "I have escalated this to our night team.",
)
FILE = """\
name: test
version: "1"
tools:
  open_ticket:
    does: [ticket, escalation]
    call:
      arguments: '{"of": ["{group}", {"act": "{kind}"}], "note": "{claim}", "times": 1}'
  book_table: {does: [booking]}
queues: [billing team]
"""
ROWS = table(
    [
        row("q1", f"Hello. {TICKET}", group="c-1"),
        row("q2", BOOKING, group="c-2"),
        row("q3", QUEUE),
        row("q4", "Your order is on its way."),
        row("q5", ("assistant", '{"name": "open_ticket", "arguments": {}}'), ("tool", '{"ok": 1}'), TICKET),
    ]
)


def policy(file: str = FILE) -> Policy:
    return Policy.of(load_behavior_policy(file.encode(), file="behavior.yaml").document())


def judged(rows: pa.Table, masks: pa.Table | None = None) -> Decision:
    found = scan(rows, policy(), habits=[Habit.PHANTOM_ACTION])
    return phantom_action(found if masks is None else found.unmasked(masks)).decision


def test_the_call_of_the_policy_stands_before_the_claim() -> None:
    done = without_habits(ROWS, {Habit.PHANTOM_ACTION: "tool_call"}, policy())
    assert judged(ROWS) is Decision.FAIL
    assert judged(done.rows, done.masks) is Decision.PASS
    assert done.rows.num_rows == ROWS.num_rows
    first = done.rows.to_pylist()[0]["messages"]
    assert [m["role"] for m in first] == ["user", "assistant", "tool", "assistant"]
    written = json.loads(first[1]["content"])
    assert written == {"name": "open_ticket", "arguments": {"of": ["c-1", {"act": "ticket"}], "note": TICKET, "times": 1}}
    assert done.rows.to_pylist()[3:] == ROWS.to_pylist()[3:], "what is true or claims nothing stays as it is"


def test_what_no_call_makes_true_is_masked() -> None:
    """A tool without a `call`, and a queue that does not exist whatever is called."""
    done = without_habits(ROWS, {Habit.PHANTOM_ACTION: "tool_call"}, policy())
    texts = {r["row_id"]: r["messages"] for r in done.rows.to_pylist()}
    assert {texts[p["row_id"]][p["turn"]]["content"] for p in done.masks.to_pylist()} == {BOOKING, QUEUE}
    assert done.counts == {"masked": 2, "rewritten": 0, "tool_calls": 2}


def test_any_call_before_the_claim_would_not_do() -> None:
    """ADV: the naive remedy, some call before each claim, teaches calls that do nothing of the kind; the check is not taken in."""

    def naive(said: dict[str, Any]) -> dict[str, Any]:
        call = {"role": str(Role.ASSISTANT), "content": '{"name":"open_ticket","arguments":{}}', "trainable": True}
        result = {"role": str(Role.TOOL), "content": '{"status":"ok"}', "trainable": False}
        return {**said, "messages": [said["messages"][0], call, result, *said["messages"][1:]]}

    rows = table([naive(one) for one in ROWS.slice(1, 1).to_pylist()])
    assert judged(rows) is Decision.FAIL
    done = without_habits(ROWS.slice(1, 1), {Habit.PHANTOM_ACTION: "tool_call"}, policy())
    assert (done.counts["tool_calls"], done.counts["masked"]) == (0, 1)


def test_remedies_of_other_habits_go_together() -> None:
    rows = table([row("q", f"I'm sorry. {TICKET} I will refund you $20.")])
    rules = policy(FILE + "rewrites: {commitment: Let me see what I can do.}\n")
    wanted = {Habit.PHANTOM_ACTION: "tool_call", Habit.COMMITMENT: "rewrite", Habit.APOLOGY: "mask"}
    done = without_habits(rows, wanted, rules)
    (only,) = done.rows.to_pylist()
    assert only["messages"][-1]["content"] == f"I'm sorry. {TICKET} Let me see what I can do."
    (part,) = done.masks.to_pylist()
    assert (part["row_id"], part["turn"]) == (only["row_id"], 3), "the mask counts the messages that the call brought"
    assert done.counts == {"masked": 1, "rewritten": 1, "tool_calls": 1}
    assert rows["row_id"][0].as_py() in only["parents"]


def test_a_policy_without_a_call_is_told_so() -> None:
    bare = policy('name: test\nversion: "1"\ntools:\n  open_ticket: {does: [ticket]}\n')
    with pytest.raises(ProjectError, match="tool_call"):
        without_habits(ROWS, {Habit.PHANTOM_ACTION: "tool_call"}, bare)


def test_no_rows() -> None:
    done = without_habits(table([]), {Habit.PHANTOM_ACTION: "tool_call"}, policy())
    assert (done.rows.num_rows, done.masks.num_rows, done.changes.num_rows) == (0, 0, 0)


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("\"note\": \"{claim}\"", "\"note\": \"{clam}\"", "tools.open_ticket.call.arguments: {clam} is nothing a call can take over"),
        ('{"of"', '["of"', "behavior.yaml:7: tools.open_ticket.call.arguments"),
        ("      arguments:", "      argument:", "behavior.yaml:7: tools.open_ticket.call.argument: unknown key; did you mean 'arguments'?"),
        ("    call:", "    cal:", "behavior.yaml:6: tools.open_ticket.cal: unknown key; did you mean 'call'?"),
    ],
)  # fmt: skip
def test_a_wrong_template_is_named_by_its_line(wrong: str, right: str, said: str) -> None:
    with pytest.raises(ProjectFileError) as caught:
        policy(FILE.replace(wrong, right))
    assert said in str(caught.value)


def test_a_result_that_says_the_call_failed_is_refused() -> None:
    with pytest.raises(ProjectError, match="open_ticket"):
        policy(FILE.replace('"times": 1}\'', '"times": 1}\'\n      result: "Error: no"'))


def test_a_template_reaches_into_no_object() -> None:
    """ADV: `str.format` would read attributes; a placeholder here is a name and nothing else."""
    template = '{"of": "{group.__class__}", "at": "{0}"}'
    assert "<class 'str'>" in "{group.__class__}".format(group="c-1")
    file = FILE.replace('{"of": ["{group}", {"act": "{kind}"}], "note": "{claim}", "times": 1}', template)
    done = without_habits(ROWS.slice(0, 1), {Habit.PHANTOM_ACTION: "tool_call"}, policy(file))
    written = json.loads(done.rows.to_pylist()[0]["messages"][1]["content"])
    assert written["arguments"] == {"of": "{group.__class__}", "at": "{0}"}


def test_a_template_is_part_of_the_policy() -> None:
    assert policy().digest != policy(FILE.replace('"times": 1', '"times": 2')).digest
