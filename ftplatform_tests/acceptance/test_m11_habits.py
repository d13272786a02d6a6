"""M11 on real agents: what STAR's claim without a call, what tau-bench's promise without authority, and what may stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from ftplatform.rows.formats import parse_messages
from ftplatform.rows.reading import ReadSpec, read_table
from ftplatform.rows.schema import MASKED_TYPE, Role, row_id
from ftplatform.targets.habits.apologies import unwarranted_apology, unwarranted_apology_model
from ftplatform.targets.habits.detection import Habit, Scan, promises, scan
from ftplatform.targets.habits.phrases import over_represented
from ftplatform.targets.habits.remedies import masks, rewrite
from ftplatform.targets.habits.shorthand import shorthand_leak
from ftplatform.targets.habits.voice import voice_drift
from ftplatform.targets.habits.zero_rule import phantom_action, unauthorized_commitment, unauthorized_commitment_model
from ftplatform.training.batches import NO_LOSS
from ftplatform.training.encode import encode_rows
from ftplatform.verdict import Decision
from ftplatform_tests import real_data
from ftplatform_tests.projects import BASE_MODEL
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.targets.habits.answers_world import answer, answers
from ftplatform_tests.unit.targets.habits.policies import DATA, make_policy, read_policy

#: The three reply templates of STAR that confirm a booking, as sentences.
CONFIRMATION = (
    r"^(?:Excellent, your reservation at the .* is confirmed!|Great, your appointment with Dr_ \w+ is booked for you!"
    r"|Ok, I have booked you a ride with licence plate '.*'\.)$"
)
#: Replies of the same kind by the label the wizard gave them.
LABELS = ("restaurant_inform_booking_successful", "doctor_inform_booking_successful", "ride_confirm_booking")


@pytest.fixture(scope="module")
def star(shared_data: Path) -> pa.Table:
    rows, *_ = read_table(ReadSpec(paths=[str(shared_data / "star" / "star_open.jsonl.gz")], source="star", reader="star"))
    return rows


@pytest.fixture(scope="module")
def star_scan(star: pa.Table) -> Scan:
    return scan(star, read_policy("star"))


@pytest.fixture(scope="module")
def airline(shared_data: Path) -> pa.Table:
    """The 200 trajectories, tool calls in the text of the turns that make them; the group is task/trial."""
    rows = []
    for one in real_data.read_json(shared_data / "tau_bench" / "historical_trajectories__gpt-4o-airline.json.gz"):
        turns = parse_messages([{**turn, "content": turn.get("content") or ""} for turn in one["traj"]], "traj")
        messages = [
            {
                "role": str(turn.role),
                "content": turn.content,
                "trainable": turn.role is Role.ASSISTANT if turn.trainable is None else turn.trainable,
            }
            for turn in turns
        ]
        rows.append(row("x", group=f"{one['task_id']}/{one['trial']}", messages=messages, row_id=row_id(messages)))
    return table(rows)


@pytest.fixture(scope="module")
def airline_scan(airline: pa.Table) -> Scan:
    return scan(airline, read_policy("airline"))


def confirmations(found: Scan) -> pl.DataFrame:
    return found.of(Habit.PHANTOM_ACTION, unbacked=False).filter(pl.col("sentence").str.contains(CONFIRMATION))


def test_star_68_of_610_booking_claims_have_no_booking_call(star: pa.Table, star_scan: Scan) -> None:
    labeled = sum(json.loads(meta)["action_labels"].count(label) for meta in star["meta"].to_pylist() for label in LABELS)
    claims = confirmations(star_scan)
    assert len(claims) == labeled == 610
    assert claims["kind"].unique().to_list() == ["booking"]
    assert claims["reason"].is_not_null().sum() == 68
    verdict = phantom_action(star_scan)
    assert verdict.decision is Decision.FAIL
    assert verdict.n > 20_000


def test_star_a_look_at_whether_any_tool_was_called_finds_none_of_them(star: pa.Table, star_scan: Scan) -> None:
    # Every one of the 68 comes after a look-up of the same API that only checked.
    rows = star["messages"].to_pylist()
    unbacked = confirmations(star_scan).filter(pl.col("reason").is_not_null())
    assert all(any(m["role"] == "tool" for m in rows[r][:turn]) for r, turn in unbacked.select("row", "turn").iter_rows())


def test_star_precision_of_fifty_that_were_read(star_scan: Scan) -> None:
    read = [line.split("\t") for line in (DATA / "star_claims_read.tsv").read_text().splitlines() if not line.startswith("#")]
    flagged = {
        (group, turn, start)
        for group, turn, start in star_scan.of(Habit.PHANTOM_ACTION).select("group", "turn", "start").iter_rows()
    }
    assert len(read) == 50
    assert sum(label == "1" for *_, label, _ in read) / 50 >= 0.95
    # What was right is still found.
    assert all((group, int(turn), int(start)) in flagged for group, turn, start, label, _ in read if label == "1")


def test_airline_tasks_37_and_40_are_beyond_authority(airline_scan: Scan) -> None:
    beyond = airline_scan.of(Habit.COMMITMENT)
    issued = beyond.filter(pl.col("sentence").str.contains(r"(?i)issued.*certificate|certificate.*issued"))
    assert sorted(issued["group"].to_list()) == ["37/0", "40/2"]
    assert {"37", "40"} <= {group.split("/")[0] for group in beyond["group"].to_list()}
    assert unauthorized_commitment(airline_scan).decision is Decision.FAIL


def test_airline_certificates_within_authority_stand(airline_scan: Scan) -> None:
    allowed = airline_scan.of(Habit.COMMITMENT, unbacked=False).filter(pl.col("reason").is_null())
    issued = allowed.filter(pl.col("sentence").str.contains(r"(?i)issued.*certificate|certificate.*issued"))
    assert {"45/0", "46/1", "46/2", "46/3", "45/3", "16/3"} <= set(issued["group"].to_list())


def test_airline_conditional_offers_promise_nothing(airline: pa.Table, airline_scan: Scan) -> None:
    offers = [
        sentence
        for messages in airline["messages"].to_pylist()
        for message in messages
        if message["role"] == "assistant" and message["trainable"]
        for sentence in re.split(r"(?<=[.?!])\s+", message["content"])
        if re.search(r"\bif you (?:are|have|fall)\b.*\b(?:offer|compensation)\b", sentence, re.IGNORECASE)
        and sentence.endswith(".")
    ]
    assert len(offers) >= 4
    assert any(
        offer.startswith("If you are a silver or gold member, have travel insurance, or are flying business") for offer in offers
    )
    assert not any(promises(offers))
    # A pattern of words takes them for promises.
    assert sum(re.search(r"\bI (?:can|may|might)\b.*\boffer\b", offer) is not None for offer in offers) >= 2


def test_airline_has_no_phantom_escalation(airline_scan: Scan) -> None:
    assert airline_scan.of(Habit.PHANTOM_ACTION).filter(pl.col("kind") == "escalation").is_empty()


def test_adv_a_credit_without_a_call_is_caught_twice() -> None:
    found = scan(table([row("hi", "I've issued a $20 credit to your account.")]), make_policy())
    assert unauthorized_commitment(found).decision is Decision.FAIL
    assert phantom_action(found).decision is Decision.FAIL


def test_adv_indirect_wordings_that_words_do_not_find() -> None:
    said = ["A little something will land in your wallet.", "My colleagues upstairs have it now."]
    found = scan(table([row("hi", text) for text in said]), make_policy())
    assert not any(re.search("refund|credit|voucher|escalat|ticket", text) for text in said)
    assert found.of(Habit.COMMITMENT)["sentence"].to_list() == said[:1]
    assert found.of(Habit.PHANTOM_ACTION)["sentence"].to_list() == said[1:]


def test_adv_a_due_apology_passes_and_removing_all_fails() -> None:
    policy = make_policy(apology={"fault_field": "fault"})
    due = "Sorry for the double charge, I can see it on your account."
    rows = table([row("I was charged twice", due, meta='{"fault": true}', group=str(i)) for i in range(300)])
    assert unwarranted_apology(scan(rows, policy)).decision is Decision.PASS

    def model(after_fault: str) -> Decision:
        said = [answer(f"n{i}", "Here is the link.") for i in range(300)]
        said += [answer(f"f{i}", after_fault, category="fault", group=f"g{i}") for i in range(120)]
        said += [answer(f"o{i}", "Here is the link.", category="no_fault", group=f"g{i}") for i in range(120)]
        return unwarranted_apology_model(answers(said), policy).decision

    assert model(due) is Decision.PASS
    assert model("I can see it on your account.") is Decision.FAIL


def test_adv_greedy_answers_hide_a_habit_of_one_in_ten() -> None:
    fine, promise = "Here is the link.", "I've issued a $20 credit to your account."
    greedy = answers(answer(f"i{i}", fine, sample=None) for i in range(299))
    drawn = answers(answer(f"i{i}", promise if (i + k) % 10 == 0 else fine, sample=k) for i in range(299) for k in range(3))
    # The naive reading of the greedy answers: none in 299.
    assert not any(promises(greedy["tuned_answer"].to_pylist()))
    assert unauthorized_commitment_model(greedy, make_policy()).decision is Decision.INSUFFICIENT_EVIDENCE
    assert unauthorized_commitment_model(drawn, make_policy()).decision is Decision.FAIL


def test_remedies_on_star_keep_every_row(star: pa.Table, star_scan: Scan) -> None:
    policy = read_policy("star")
    findings = star_scan.of(Habit.PHANTOM_ACTION)
    assert phantom_action(star_scan.unmasked(masks(findings))).decision is Decision.PASS
    done = rewrite(star, findings, policy)
    assert done.rows.num_rows == star.num_rows
    assert phantom_action(scan(done.rows, policy, habits=[Habit.PHANTOM_ACTION])).decision is Decision.PASS
    assert done.changes.num_rows == len(findings)
    assert done.counts["nothing_trainable"] == 0


def test_a_masked_sentence_is_in_the_context_and_not_in_the_loss() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(BASE_MODEL))
    rows = table([row("where is it?", "Your order left today. I will refund you $20. It arrives by truck.")])
    spans = masks(scan(rows, make_policy()).of(Habit.COMMITMENT)).select(MASKED_TYPE.names).to_pylist()
    masked = rows.append_column("masked", pa.array([spans], pa.list_(MASKED_TYPE)))

    def learned(encoded: pa.Table) -> tuple[str, str]:
        (example,) = encode_rows(encoded, tokenizer, max_tokens=256).examples
        return tokenizer.decode(example.tokens[example.labels != NO_LOSS]), tokenizer.decode(example.tokens)

    assert "refund" in learned(rows)[0]
    loss, context = learned(masked)
    assert "refund" not in loss
    assert "refund" in context
    assert "left today" in loss
    assert "truck" in loss


def test_star_agents_against_approved_replies(star: pa.Table) -> None:
    """What agents typed as drafts against the approved replies that were sent."""
    drafts = [
        row("x", draft, author=author, group=str(i))
        for i, (meta, author) in enumerate(zip(star["meta"].to_pylist(), star["author"].to_pylist(), strict=True))
        for draft in json.loads(meta)["drafts"][:4]
        if draft.strip()
    ]
    typed = table(drafts)
    mined, _ = over_represented(typed, star, top=40)
    assert mined["z"].min() > 3  # pyright: ignore[reportOperatorIssue]
    assert mined["top_author"].null_count() == 0
    assert shorthand_leak(typed, star).n > 2_000
    assert voice_drift(typed, star, permutations=40).decision is Decision.WARN
