"""Exact contamination: what counts as the same item, what does not, and the n-gram rules that get both wrong."""

from __future__ import annotations

import datetime
import re

import pytest

from ftplatform.contamination.exact import contaminated_items, contamination_exact
from ftplatform.contamination.matching import ExactRule, leaks
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

TOPICS = ["card", "loan", "order", "parcel", "refund", "login", "invoice", "contract", "meter", "router"]
PROMPT = ("system", " ".join(f"rule{i}" for i in range(30)))


def ordinary(n: int = 60) -> list[dict]:
    return [
        row(f"my {TOPICS[i % 10]} number {i} does not work", f"let me look at {TOPICS[i % 10]} {i} for you right away please")
        for i in range(n)
    ]


def thirteen_grams(rows: list[dict], roles: tuple[str, ...] = ("system", "user", "assistant")) -> set[tuple[str, ...]]:
    """The usual rule (13-grams of the row's text), without regard to roles."""
    grams: set[tuple[str, ...]] = set()
    for r in rows:
        words = re.findall(r"\w+", " ".join(m["content"] for m in r["messages"] if m["role"] in roles).lower())
        grams |= {tuple(words[i : i + 13]) for i in range(len(words) - 12)}
    return grams


def flagged_by_thirteen_grams(train: list[dict], items: list[dict]) -> int:
    known = thirteen_grams(train)
    return sum(bool(thirteen_grams([item]) & known) for item in items)


def check(train: list[dict], *items: dict, **rule: float):
    return contamination_exact(table(train), {"support": table(items)}, ExactRule(**rule) if rule else None)


def test_three_token_item_copied_into_training_fails() -> None:
    item = row("wheres my refund", "It was sent on Monday.")
    train = [*ordinary(), row("Wheres my refund?", "it is on the way")]
    verdict = check(train, item, row("can i change my address", "yes"))
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == 0.5
    hit = verdict.evidence[0]
    assert (hit["eval_row_id"], hit["train_row_id"], hit["part"]) == (item["row_id"], train[-1]["row_id"], "user turn")
    assert flagged_by_thirteen_grams(train, [item]) == 0  # the 13-gram rule passes it


def test_shared_system_prompt_flags_nothing() -> None:
    def with_prompt(r: dict) -> dict:
        return row(PROMPT, *((m["role"], m["content"]) for m in r["messages"]))

    train = [with_prompt(r) for r in ordinary()]
    items = [with_prompt(row(f"how do i close account {i}", f"go to settings, page {i}")) for i in range(10)]
    assert flagged_by_thirteen_grams(train, items) == 10  # the role-blind rule flags every item
    verdict = check(train, *items)
    assert verdict.decision is Decision.PASS
    assert verdict.n == 10


@pytest.mark.parametrize(
    "written",
    ["WHERES MY REFUND", "  wheres   my refund?!", "wheres my\nrefund", "ｗｈｅｒｅｓ my refund", "where\u200bs my refund"],
)
def test_format_does_not_hide_a_copy(written: str) -> None:
    assert check([*ordinary(), row(written, "soon")], row("wheres my refund", "It was sent.")).decision is Decision.FAIL


def test_numbers_and_operators_still_tell_items_apart() -> None:
    train = [*ordinary(), row("what is 5 - 3", "2"), row("refund $5", "done")]
    assert check(train, row("what is 5 + 3", "8"), row("refund €5", "done")).decision is Decision.PASS


def test_copied_turn_inside_a_long_dialogue_is_found() -> None:
    dialogue = row("hi", "hello", "wheres my refund", "on its way", "thanks", "bye", group="g1")
    verdict = check([*ordinary(), dialogue], row("wheres my refund", "It was sent."))
    assert verdict.decision is Decision.FAIL


def test_shared_greetings_and_thanks_inside_dialogues_are_not_contamination() -> None:
    train = [*ordinary(), row("hi", "hello, how can i help", "my parcel is lost", "oh no", "thanks", "welcome")]
    item = row("hi", "hello, how can i help", "my invoice is wrong", "let me see", "thanks", "welcome")
    assert check(train, item).decision is Decision.PASS
    # Comparing every turn of the item would flag it.
    own = {m["content"] for m in item["messages"] if m["role"] == "user"}
    assert own & {m["content"] for r in train for m in r["messages"] if m["role"] == "user"}


def test_a_greeting_that_is_the_whole_item_is_an_item() -> None:
    assert check([*ordinary(), row("hello", "hi")], row("hello", "good morning")).decision is Decision.FAIL


def test_multi_turn_item_copied_with_a_longer_dialogue_around_it() -> None:
    item = row("i lost my card", "which one", "the blue one", "it is blocked")
    longer = row("good day", "hello", "I lost my card!", "which one", "the blue one", "done", "bye", "bye")
    verdict = check([*ordinary(), longer], item)
    assert verdict.evidence[0]["part"] == "user turn"
    assert check([*ordinary(), row("i lost my card", "which one", "the red one", "done")], item).decision is Decision.PASS
    merged = row("i lost my card\nthe blue one", "done")
    assert check([*ordinary(), merged], item).decision is Decision.FAIL


def test_pair_is_reported_where_the_answer_is_copied_too() -> None:
    item = row("wheres my refund", "It was sent on Monday.")
    verdict = check([row("wheres my refund", "soon"), row("Wheres my refund?", "it was sent on monday"), *ordinary()], item)
    assert verdict.evidence[0]["part"] == "pair"
    assert verdict.evidence[0]["train_row_id"] == row("Wheres my refund?", "it was sent on monday")["row_id"]
    assert verdict.evidence[0]["train_rows"] == 2


LONG_ANSWER = "Your refund left our bank on Monday and takes three working days to arrive."


def test_an_answer_that_identifies_the_item_fails_on_its_own() -> None:
    train = [*ordinary(), row("when will i see the money again", LONG_ANSWER)]
    verdict = check(train, row("wheres my refund", LONG_ANSWER))
    assert (verdict.decision, verdict.evidence[0]["part"]) == (Decision.FAIL, "answer")


@pytest.mark.parametrize("answer", ["yes", "No.", "You're welcome!", "B", "42", "thanks for contacting us today"])
def test_short_generic_answers_are_not_contamination(answer: str) -> None:
    train = [*ordinary(), row("is the shop open on sunday", answer)]
    assert check(train, row("do you deliver abroad", answer)).decision is Decision.PASS
    assert check(train, row("do you deliver abroad", answer), informative_tokens=1).decision is Decision.FAIL


def test_an_answer_given_to_many_questions_identifies_none() -> None:
    template = "Your booking is confirmed, is there anything else that I can do for you?"
    train = [*ordinary(), *(row(f"please book table {i}", template) for i in range(6))]
    verdict = check(train, row("i want to book a hotel", template))
    assert verdict.decision is Decision.PASS
    assert verdict.details["closed_set_answers_not_counted"] == 1
    # Four questions are not many: a copied answer under paraphrased questions is still found.
    few = [*ordinary(), *(row(f"please book table {i}", template) for i in range(4))]
    assert check(few, row("i want to book a hotel", template)).decision is Decision.FAIL


def test_last_turn_of_a_long_item_counts_if_it_says_something() -> None:
    item = row("hi", "hello", "i would like to move my dentist appointment to friday at noon", "sure")
    train = [*ordinary(), row("I would like to move my dentist appointment to Friday at noon.", "done")]
    assert check(train, item).evidence[0]["part"] == "last turn"
    pair = row("ok", "anything", "yes please book it", "i have booked the room for you")
    train = [*ordinary(), row("so", "so", "yes please book it", "I have booked the room for you.")]
    assert check(train, pair).evidence[0]["part"] == "last pair"


def test_lineage_counts_whatever_the_text() -> None:
    item = row("wheres my refund", "It was sent.")
    derived = row("i am still waiting for the money", "please be patient", parents=[item["row_id"]])
    verdict = check([*ordinary(), derived], item)
    assert (verdict.evidence[0]["part"], verdict.evidence[0]["door"]) == ("lineage", "derived row")


@pytest.mark.parametrize(
    ("columns", "door"),
    [
        ({"surface": "synthetic"}, "synthetic seed"),
        ({"parents": ["teacher:model-x"], "surface": "production"}, "synthetic seed"),
        ({"parents": ["event:17"], "surface": "curation"}, "feedback"),
        ({"source": "feedback/thumbs", "surface": "curation"}, "feedback"),
        ({"surface": "curation"}, "copied row"),
        ({"surface": "eval"}, "copied row"),
        ({"surface": "production", "first_seen_at": datetime.datetime(2024, 6, 1, tzinfo=datetime.UTC)}, "re-ingestion"),
        ({"surface": "production"}, "unknown"),
    ],
)
def test_the_door_is_named_where_lineage_tells(columns: dict, door: str) -> None:
    verdict = check([*ordinary(), row("wheres my refund", "soon", **columns)], row("wheres my refund", "It was sent."))
    assert verdict.evidence[0]["door"] == door
    assert verdict.details["by_door"] == {door: 1}


def test_each_eval_set_is_counted() -> None:
    train = table([*ordinary(), row("wheres my refund", "soon")])
    evals = {"a": table([row("wheres my refund", "x"), row("other question", "y")]), "b": table([row("more questions", "z")])}
    verdict = contamination_exact(train, evals)
    assert verdict.details["eval_sets"] == {
        "a": {"items": 2, "checkable": 2, "contaminated": 1},
        "b": {"items": 1, "checkable": 1, "contaminated": 0},
    }
    assert verdict.estimate == pytest.approx(1 / 3)
    assert contaminated_items(train, evals).num_rows == 1


def test_missing_data_is_not_a_pass() -> None:
    items = table([row("wheres my refund", "x")])
    for train, evals in ((table([]), {"a": items}), (table(ordinary()), {}), (table(ordinary()), {"a": items, "b": table([])})):
        assert contamination_exact(train, evals).decision is Decision.INSUFFICIENT_EVIDENCE
    silent = contamination_exact(table(ordinary()), {"a": table([row(("system", "be kind"), ("assistant", "ok"))] * 2)})
    assert silent.decision is Decision.INSUFFICIENT_EVIDENCE
    assert silent.details["uncheckable_share"] == 1.0


def test_items_of_emoji_are_compared_as_they_are() -> None:
    assert check([*ordinary(), row("👍👍", "great")], row("👍👍", "nice")).decision is Decision.FAIL
    assert check([*ordinary(), row("👎", "oh")], row("👍👍", "nice")).decision is Decision.PASS


def test_leaks_are_what_must_go() -> None:
    train = table([*ordinary(), row("wheres my refund", "soon"), row("so when do i get it", LONG_ANSWER)])
    items = table([row("wheres my refund", LONG_ANSWER), row("something new", "fine")])
    found = leaks(train, items).to_pylist()
    assert {(f["row_id"], f["part"]) for f in found} == {
        (train["row_id"][60].as_py(), "user turn"),
        (train["row_id"][61].as_py(), "answer"),
    }
    left = train.filter([i < 60 for i in range(62)])
    assert contamination_exact(left, {"e": items}).decision is Decision.PASS


def test_evidence_is_masked() -> None:
    item = row("my mail is jo@example.org", "ok")
    verdict = check([*ordinary(), row("my mail is jo@example.org", "fine")], item)
    assert "[EMAIL]" in verdict.evidence[0]["eval_text"]
    assert "example.org" not in str(verdict.to_record())
