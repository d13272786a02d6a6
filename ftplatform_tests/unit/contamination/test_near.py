"""Near contamination: what light edits, longer text and templates do, and the n-gram rules that get them wrong."""

from __future__ import annotations

import random
import re

import pyarrow as pa
import pytest

from ftplatform.contamination.near import contamination_near, near_leaks
from ftplatform.contamination.near_items import NearRule
from ftplatform.errors import InputDataError
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

TOPICS = """
card loan order parcel refund login invoice contract meter router sofa ticket lost broke returned bought changed cancelled opened moved sold
found paris shop airport office station garden bank museum hotel yesterday somebody called told wants dollars before things sent branch
again cheap green slow tired winter summer kitchen window ladder bottle engine train bridge river doctor teacher brother sister captain
farmer writes reads paints builds carries breaks needs likes hates owns seven eleven twenty ninety half double third every never often
because while until after under above beside between against without behind toward early late
"""
WORDS, COMMON = re.findall("[a-z]+", TOPICS), re.findall("[a-z]+", "the a of to and in is it my for on with")
PROMPT = ("system", " ".join(f"rule{i}" for i in range(30)))


def question(i: int) -> str:
    """Some 30 words in an order of their own, a third of them common ones."""
    pick = random.Random(i)
    return " ".join(pick.choice(COMMON if pick.random() < 0.35 else WORDS) for _ in range(28 + i % 6)) + "?"


def ordinary(n: int = 80, start: int = 1000) -> list[dict]:
    return [row(question(i), f"Let me look at case {i} for you, it takes {i % 9} days.") for i in range(start, start + n)]


def thirteen_grams(text: str, width: int = 13) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)}


def all_text(r: dict, roles: tuple[str, ...] = ("system", "user", "assistant", "tool")) -> str:
    return " ".join(m["content"] for m in r["messages"] if m["role"] in roles)


def flagged_by_thirteen_grams(train: list[dict], items: list[dict]) -> int:
    known = set().union(*(thirteen_grams(all_text(r)) for r in train))
    return sum(bool(thirteen_grams(all_text(item)) & known) for item in items)


def check(train: list[dict], items: list[dict], **rule: float):
    return contamination_near(table(train), {"support": table(items)}, NearRule(**rule) if rule else None)  # type: ignore[arg-type]


def every_seventh(text: str, phase: int, seed: int = 0) -> str:
    pick = random.Random(seed)
    return " ".join(pick.choice(["amber", "violet", "copper"]) if i % 7 == phase else w for i, w in enumerate(text.split()))


ITEMS = [row(question(i), f"The answer for {i} is written in letter {i}.") for i in range(40)]


def test_clean_training_data_pass() -> None:
    verdict = check(ordinary(), ITEMS)
    assert verdict.decision is Decision.PASS
    assert (verdict.n, verdict.estimate) == (40, 0.0)
    assert verdict.plot is not None
    assert verdict.plot.startswith("<svg")


@pytest.mark.parametrize("phase", range(7))
def test_items_with_every_seventh_word_changed_are_found_where_thirteen_grams_find_none(phase: int) -> None:
    edited = [row(every_seventh(question(i), phase, i), "no idea") for i in range(40)]
    verdict = check([*ordinary(), *edited], ITEMS)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate is not None
    assert verdict.estimate >= 0.95
    assert set(verdict.details["by_tier"]) == {"edited"}
    assert flagged_by_thirteen_grams(edited, ITEMS) == 0
    hit = verdict.evidence[0]
    assert 0.75 < float(str(hit["matched_words"])) < 0.95


def test_words_added_and_left_out_do_not_hide_an_item() -> None:
    words = question(7).split()
    changed = [*words[:9], "well", "erm", *words[9:15], *words[16:22], "indeed", *words[22:]]
    verdict = check([*ordinary(), row("hello there " + " ".join(changed), "ok")], ITEMS)
    assert [e["tier"] for e in verdict.evidence] == ["edited"]


def test_tiers_name_item_row_and_place() -> None:
    run = row("prologue " + " ".join(question(3).split()[4:18]) + " epilogue", "fine")
    edited = row(f"hello {every_seventh(question(4), 5)}", "fine")
    verdict = check([*ordinary(), run, edited], ITEMS)
    assert {(e["eval_set"], e["eval_row_id"], e["train_row_id"], e["tier"]) for e in verdict.evidence} == {
        ("support", ITEMS[3]["row_id"], run["row_id"], "run"),
        ("support", ITEMS[4]["row_id"], edited["row_id"], "edited"),
    }
    eleven = row("prologue " + " ".join(question(3).split()[4:15]) + " epilogue", "fine")
    assert check([*ordinary(), eleven], ITEMS).decision is Decision.PASS


def test_reordered_sentences_are_containment() -> None:
    first, second = (
        "the blue kettle leaks badly since monday and smells of rubber",
        "nobody answers emails about warranty claims or picks up any phone",
    )
    item, swapped = row(f"{first}. {second}."), f"{second}! {first}."
    verdict = check([*ordinary(), row(swapped, "ok")], [item, *ITEMS])
    assert [e["tier"] for e in verdict.evidence] == ["containment"]
    assert not thirteen_grams(swapped) & thirteen_grams(all_text(item))


def test_short_item_copied_whole_fails_and_is_called_checked() -> None:
    item = row("wheres my refund", "It was sent on Monday.")
    train = [*ordinary(), row("Wheres my refund?", "it is on the way")]
    verdict = check(train, [item, *ITEMS])
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["tier"] == "exact"
    assert verdict.details["eval_sets"]["support"]["short_contaminated"] == 1
    assert flagged_by_thirteen_grams(train, [item]) == 0
    clean = check(ordinary(), [item, *ITEMS])
    assert clean.decision is Decision.PASS
    assert clean.details["checked_by"]["exact (whole user turn)"] == 1
    assert clean.details["uncheckable_share"] == 0


def test_a_handful_of_words_inside_a_longer_turn_is_no_copy_but_a_telling_short_item_is() -> None:
    inside = row("since i asked you wheres my refund twice already please call me back", "ok")
    assert check([*ordinary(), inside], [row("wheres my refund"), *ITEMS]).decision is Decision.PASS
    telling = row("activate travel insurance for my platinum card")
    asked = row("hi, could you activate travel insurance for my platinum card today? thanks", "ok")
    verdict = check([*ordinary(), asked], [telling, *ITEMS])
    assert (verdict.decision, verdict.evidence[0]["tier"]) == (Decision.FAIL, "containment")


def test_short_items_that_differ_in_the_telling_word_are_different() -> None:
    train = [*ordinary(), *(row(f"what is the capital city of {land}", "a city") for land in ("spain", "italy", "peru"))]
    item = row("what is the capital city of france", "paris")
    words = all_text(item, ("user",)).split()
    assert len(set(words) & set(all_text(train[-1], ("user",)).split())) / len(words) > 0.8  # what counting words would say
    assert check(train, [item, *ITEMS]).decision is Decision.PASS


def test_shared_system_prompt_flags_nothing() -> None:
    def with_prompt(r: dict) -> dict:
        return row(PROMPT, *((m["role"], m["content"]) for m in r["messages"]))

    train, items = [with_prompt(r) for r in ordinary()], [with_prompt(r) for r in ITEMS]
    assert flagged_by_thirteen_grams(train, items) == len(items)  # the role-blind rule flags all of them
    verdict = check(train, items)
    assert (verdict.decision, verdict.estimate) == (Decision.PASS, 0.0)


def test_tool_text_flags_nothing() -> None:
    train = [row("show it", ("tool", question(i)), ("assistant", "here it is")) for i in range(40)]
    assert flagged_by_thirteen_grams(train, ITEMS) == 40
    assert check([*ordinary(), *train], ITEMS).decision is Decision.PASS


TEMPLATE = "Below is an instruction that describes a task paired with further context. Please write one response that completes the request"


def test_template_text_in_user_turns_flags_nothing_and_does_not_hide_a_leak() -> None:
    def framed(r: dict) -> dict:
        return row(f"{TEMPLATE}: {r['messages'][0]['content']}", r["messages"][1]["content"])

    train, items = [framed(r) for r in ordinary()], [framed(r) for r in ITEMS]
    assert flagged_by_thirteen_grams(train, items) == len(items)
    clean = check(train, items)
    assert (clean.decision, clean.estimate) == (Decision.PASS, 0.0)
    assert clean.details["template_tokens_left_out"] > 40 * 15
    leaked = [framed(row(every_seventh(question(i), 3), "x")) for i in range(5)]
    assert check([*train, *leaked], items).estimate == 5 / 40


FRAME = "what does the {} plan cost per month when i sign up for two years and pay everything up front"
PLANS = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbor", "indigo", "jasper", "krypton", "lagoon"]


def priced(plan: str, price: int | None = None) -> dict:
    return row(FRAME.format(plan), f"The {plan} plan is {(PLANS.index(plan) + 20) if price is None else price} euros.")


def longest_run_or_containment(item: dict, r: dict) -> bool:
    """The n-gram rule by itself: thirteen tokens in a row, or .8 of the item's 3-token shingles."""
    text, other = all_text(item, ("user",)), all_text(r, ("user",))
    own = thirteen_grams(text, 3)
    return bool(thirteen_grams(text) & thirteen_grams(other)) or len(own & thirteen_grams(other, 3)) >= 0.8 * len(own)


def test_other_fillings_of_a_template_are_no_copies_where_a_common_run_flags_all_and_misses_edits() -> None:
    items, train = [priced(plan) for plan in PLANS[:4]], [priced(plan) for plan in PLANS[4:8]]
    assert all(longest_run_or_containment(item, r) for item in items for r in train)
    verdict = check([*ordinary(), *train], [*items, *ITEMS])
    assert (verdict.decision, verdict.estimate) == (Decision.PASS, 0.0)
    assert verdict.details["other_fillings_of_templates_not_counted"] == 16
    # The template is below the tenth of the training rows from which its text is left out.
    assert verdict.details["template_tokens_left_out"] == 0
    # A real leak beside them, edited: the run misses it, we do not.
    leak = row(every_seventh(question(3), 3), "no idea")
    assert not longest_run_or_containment(ITEMS[3], leak)
    verdict = check([*ordinary(), *train, leak], [*items, *ITEMS])
    assert [e["train_row_id"] for e in verdict.evidence] == [leak["row_id"]]


@pytest.mark.parametrize("copies", [1, 2])
def test_an_item_with_only_its_name_changed_is_a_copy_where_nothing_shows_a_template(copies: int) -> None:
    train = [priced(plan) for plan in PLANS[4 : 4 + copies]]
    verdict = check([*ordinary(), *train], [priced("amber"), *ITEMS])
    assert verdict.details["eval_sets"]["support"]["contaminated"] == 1
    assert verdict.evidence[0]["train_rows"] == copies


def test_many_rows_with_a_reply_each_show_a_template_to_a_single_item() -> None:
    items = [priced("amber"), *ITEMS]
    assert check([*ordinary(), *(priced(plan) for plan in PLANS[4:])], items).decision is Decision.PASS
    # The same reply to all: what differs is not what is asked. Copies of one item, each with another word for the name.
    copies = [row(FRAME.format(plan), "I will look that up.") for plan in PLANS[4:]]
    verdict = check([*ordinary(), *copies], items)
    assert verdict.details["eval_sets"]["support"]["contaminated"] == 1


def test_copies_of_one_item_edited_here_and_there_stay_copies_however_many_and_whatever_their_replies() -> None:
    pick, train = random.Random(5), ordinary(200)
    for copy in range(20):
        words = question(3).split()
        for at in pick.sample(range(len(words)), 4):
            words[at] = pick.choice(PLANS)
        train.append(row(" ".join(words), f"reply {copy}"))
    verdict = check(train, ITEMS)
    assert verdict.evidence[0]["train_rows"] == 20


def test_a_copy_inside_a_template_family_is_found_by_what_fills_the_slot() -> None:
    items, train = [priced(plan) for plan in PLANS[:4]], [priced(plan) for plan in PLANS[4:8]]
    leak = row(FRAME.format("basalt").replace("month", "calendar month").replace("front", "advance"), "no idea")
    verdict = check([*ordinary(), *train, leak], [*items, *ITEMS])
    assert [(e["eval_row_id"], e["train_row_id"]) for e in verdict.evidence] == [(items[1]["row_id"], leak["row_id"])]


@pytest.mark.parametrize(("reply", "found"), [("Sure! It is 21 euros.", True), ("Sure! It is 45 euros.", False)])
def test_the_answer_decides_where_the_filling_is_another_word_for_the_same(reply: str, found: bool) -> None:
    items, train = [priced(plan) for plan in PLANS[:4]], [priced(plan) for plan in PLANS[4:8]]
    renamed = row(FRAME.format("basaltic"), reply)
    verdict = check([*ordinary(), *train, renamed], [*items, *ITEMS])
    assert [(e["eval_row_id"], e["train_row_id"]) for e in verdict.evidence] == (
        [(items[1]["row_id"], renamed["row_id"])] if found else []
    )


def test_an_answer_in_words_decides_unless_many_questions_have_it() -> None:
    def yes_or(plan: str, answer: str) -> dict:
        return row(FRAME.format(plan), answer)

    items = [yes_or(plan, f"ask the {plan} desk") for plan in PLANS[:4]]
    train = [yes_or(plan, f"please ask the {plan} desk") for plan in PLANS[4:7]]
    renamed = yes_or("basaltic", "just ask the basalt desk")
    verdict = check([*ordinary(), *train, renamed], [*items, *ITEMS])
    assert [e["train_row_id"] for e in verdict.evidence] == [renamed["row_id"]]
    everywhere = [yes_or(plan, "yes of course") for plan in PLANS[:4]], [yes_or(plan, "yes of course") for plan in PLANS[4:10]]
    assert check([*ordinary(), *everywhere[1]], [*everywhere[0], *ITEMS]).decision is Decision.PASS


def test_rows_that_fill_a_template_otherwise_need_not_leave_training() -> None:
    train, items = table([*ordinary(), *(priced(plan) for plan in PLANS[4:8])]), table([priced(plan) for plan in PLANS[:4]])
    assert near_leaks(train, items).num_rows == 0


def test_an_item_copied_into_half_of_the_rows_is_no_template() -> None:
    train = [*ordinary(), *(row(question(5), f"answer {i}") for i in range(80))]
    verdict = check(train, ITEMS)
    assert verdict.decision is Decision.FAIL
    assert (verdict.evidence[0]["eval_row_id"], verdict.evidence[0]["train_rows"]) == (ITEMS[5]["row_id"], 80)


def test_shared_sums_are_no_contamination() -> None:
    sums = "60 + 20 = << 60 + 20 = 80 >> 80 and 80 * 3 = << 80 * 3 = 240 >> 240"
    items = [
        *ITEMS,
        row("how long do both rides take together if the first lasts an hour and a bit", f"Riding lasts {sums} minutes"),
    ]
    train = [*ordinary(), row("how much do all the tins in two shelves and a box weigh when full", f"Shelves weigh {sums} grams")]
    assert flagged_by_thirteen_grams(train, items) == 1
    assert check(train, items).decision is Decision.PASS


LONG_ANSWER = (
    "Your replacement modem leaves our Rotterdam warehouse tonight, and the courier rings before noon unless customs keeps it back."
)


def test_an_edited_answer_is_found_and_a_closed_set_is_not_counted() -> None:
    items = [row("when does my modem arrive after that mess last month", LONG_ANSWER), *ITEMS]
    one = row("something else entirely", every_seventh(LONG_ANSWER, 4))
    verdict = check([*ordinary(), one], items)
    assert [(e["part"], e["tier"]) for e in verdict.evidence] == [("answer", "edited")]
    many = [row(f"question {word} about deliveries", LONG_ANSWER) for word in ("one", "two", "three", "four", "five")]
    verdict = check([*ordinary(), *many], items)
    assert verdict.decision is Decision.PASS
    assert verdict.details["closed_set_answers_not_counted"] == 1


@pytest.mark.parametrize(
    ("columns", "door"),
    [
        ({}, "copied row"),
        ({"surface": "synthetic"}, "synthetic seed"),
        ({"surface": "production", "source": "feedback/thumbs"}, "feedback"),
        ({"surface": "production", "parents": [ITEMS[2]["row_id"]]}, "derived row"),
        ({"surface": "production"}, "unknown"),
        ({"source": "feedback/triage"}, "triage"),
        ({"parents": ["triage:2026-03"]}, "triage"),
        ({"meta": '{"triage": "failed in run 7"}'}, "triage"),
        ({"meta": "[" * 100_000}, "copied row"),
        ({"meta": '{"triage": false}'}, "copied row"),
    ],
)
def test_the_door_is_named(columns: dict, door: str) -> None:
    verdict = check([*ordinary(), row(every_seventh(question(2), 1), "x", **columns)], ITEMS)
    assert verdict.evidence[0]["door"] == door
    assert verdict.details["by_door"] == {door: 1}


def test_several_items_in_one_turn_are_a_few_shot_prompt_and_in_two_turns_are_not() -> None:
    shots = f"Answer like this.\nQ: {question(1)}\nA: yes\nQ: {question(2)}\nA: no\nQ: and mine?"
    verdict = check([*ordinary(), row(shots, "fine")], ITEMS)
    assert {e["door"] for e in verdict.evidence} == {"few-shot prompt"}
    assert verdict.details["eval_sets"]["support"]["contaminated"] == 2
    dialogue = row(question(1), "yes", question(2), "no")
    assert {e["door"] for e in check([*ordinary(), dialogue], ITEMS).evidence} == {"copied row"}


def test_a_system_prompt_counts_only_as_a_few_shot_prompt() -> None:
    one = [row(("system", f"Be kind. Example: {question(1)}"), "hi", "hello")]
    assert check([*ordinary(), *one], ITEMS).decision is Decision.PASS
    two = [row(("system", f"Be kind. Example: {question(1)} Another: {question(2)}"), f"hi {i}", "hello") for i in range(4)]
    verdict = check([*ordinary(), *two], ITEMS)
    assert verdict.decision is Decision.FAIL
    assert {(e["door"], e["found_in"]) for e in verdict.evidence} == {("few-shot prompt", "system")}


def test_evidence_is_masked_and_marks_the_common_words() -> None:
    text = "please refund the broken espresso machine i bought for anna in graz with card 4111 1111 1111 1111 last tuesday evening"
    verdict = check([*ordinary(), row(f"hello. {text.replace('espresso', 'coffee')}", "x")], [row(text), *ITEMS])
    hit = verdict.evidence[0]
    for name in ("eval_text", "train_text"):
        assert "4111" not in str(hit[name])
        assert "[CARD]" in str(hit[name])
    assert "‹please refund the broken›" in str(hit["train_text"])
    assert "coffee ‹machine" in str(hit["train_text"])
    assert "espresso" in str(hit["eval_text"])
    far = check([*ordinary(), row("word " * 3000 + question(9) + " word" * 3000, "x")], ITEMS)
    assert "‹" in str(far.evidence[0]["train_text"])
    assert len(str(far.evidence[0]["train_text"])) <= 240


def test_a_vault_too_small_to_show_its_bound_is_no_pass() -> None:
    train, items = table(ordinary()), table(ITEMS)
    verdict = contamination_near(train, {"vault": items}, NearRule(vault_sets=frozenset({"vault"})))
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.estimate == 0.0  # the share alone, which is what a naive rule would pass on
    enough = table([row(question(i)) for i in range(5000, 5600)])
    assert contamination_near(train, {"vault": enough}, NearRule(vault_sets=frozenset({"vault"}))).decision is Decision.PASS
    one = table([*ordinary(), row(question(5000), "x")])
    assert contamination_near(one, {"vault": enough}, NearRule(vault_sets=frozenset({"vault"}))).decision is Decision.FAIL
    assert contamination_near(one, {"working": enough}).decision is Decision.PASS  # one of 600 is below .5 %
    with pytest.raises(InputDataError, match="safe"):
        contamination_near(train, {"vault": items}, NearRule(vault_sets=frozenset({"safe"})))


def test_too_much_that_cannot_be_checked_is_no_pass() -> None:
    silent = [row(("assistant", "ok"), group=str(i)) for i in range(9)] + [row("🙂🙂", "ok")]
    verdict = check(ordinary(), [*ITEMS, *silent])
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.details["uncheckable_share"] == 10 / 50
    assert check(ordinary(), silent).decision is Decision.INSUFFICIENT_EVIDENCE
    for train, evals in (([], {"e": table(ITEMS)}), (ordinary(), {}), (ordinary(), {"e": table([])})):
        assert contamination_near(table(train), evals).decision is Decision.INSUFFICIENT_EVIDENCE


@pytest.mark.parametrize("text", ["", "🙂", "a" * 1_000_000, "שאלה על החזר כספי", "“", "5 - 3"])
def test_strange_rows_are_read(text: str) -> None:
    items = [row("איפה ההחזר הכספי שלי על ההזמנה שביטלתי בשבוע שעבר בחנות הגדולה ליד הים הכחול בתל אביב"), *ITEMS]
    train = [*ordinary(), row(text, text), row(("system", text))]
    assert check(train, items).decision is Decision.PASS
    copied = [*train, row("שלום! " + items[0]["messages"][0]["content"].replace("שביטלתי", "ששילמתי"), "x")]
    assert check(copied, items).evidence[0]["eval_row_id"] == items[0]["row_id"]


def test_rows_to_remove_are_listed_and_removing_them_passes() -> None:
    edited = [row(every_seventh(question(i), 2, copy), "x", group=str(copy)) for i in range(6) for copy in range(3)]
    train, items = table([*ordinary(), *edited]), table(ITEMS)
    leaks = near_leaks(train, items)
    assert sorted(leaks["row_id"].to_pylist()) == sorted(r["row_id"] for r in edited)
    keep = pa.array([row_id not in set(leaks["row_id"].to_pylist()) for row_id in train["row_id"].to_pylist()])
    assert contamination_near(train.filter(keep), {"support": items}).decision is Decision.PASS
    assert near_leaks(train.slice(0, 0), items).num_rows == 0


def test_the_same_item_in_two_eval_sets_is_named_in_both() -> None:
    evals = {"a": table(ITEMS), "b": table(ITEMS[:3])}
    verdict = contamination_near(table([*ordinary(), row(question(1), "x")]), evals)
    assert {(e["eval_set"], e["door"]) for e in verdict.evidence} == {("a", "copied row"), ("b", "copied row")}


def test_rules_out_of_range_are_refused() -> None:
    with pytest.raises(InputDataError, match="containment"):
        NearRule(containment=1.2)
    with pytest.raises(InputDataError, match="run_tokens"):
        NearRule(run_tokens=3)


def test_what_an_eval_set_is_found_to_be_does_not_hang_on_the_other_sets() -> None:
    rng = random.Random(21)
    words = [f"w{i}" for i in range(400)]
    train = table([row(" ".join(rng.choices(words, k=20)), "an answer") for _ in range(300)])
    copied = table([row(train["messages"][i].as_py()[0]["content"], "another answer") for i in range(3)])
    # The other set makes every word of the first common: pooled, nothing in it would tell its items apart.
    crowd = table([row(" ".join(rng.choices(words, k=200)), "a third answer") for _ in range(300)])
    alone = contamination_near(train, {"copied": copied}).details["eval_sets"]["copied"]
    together = contamination_near(train, {"copied": copied, "crowd": crowd}).details["eval_sets"]["copied"]
    assert alone == together
    assert alone["contaminated"] == 3
