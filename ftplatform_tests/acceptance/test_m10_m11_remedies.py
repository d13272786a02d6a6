"""M10 and M11 end to end: a corpus teaches a model a misspelling and a claim of what it never did; with the remedies it teaches neither.

One world, four models on the bundled base: taught as it is, habit masked, habit rewritten, misspelling cleaned by a reviewed diff.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import dagster as dg
import pytest

from benchmarks.remedies import HABIT, MISSPELLED, ROWS, WORD, Outcome, run, write_project
from ftplatform.store import Snapshot
from ftplatform.verdict import Decision

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield run(write_project(tmp_path_factory.mktemp("remedies")), instance)


def texts(snapshot: Snapshot, file: str = "rows.parquet") -> list[list[str]]:
    """Contents of the messages of each row."""
    return [[message["content"] for message in row["messages"]] for row in snapshot.read_table(file).to_pylist()]


@pytest.mark.timeout(1800)
def test_the_habit_is_learned_from_the_corpus_as_it_is(outcome: Outcome) -> None:
    corpus, model = outcome.verdict("corpora/taught", "phantom_action"), outcome.verdict("eval_results/taught", "phantom_action")
    assert corpus.decision is Decision.FAIL
    assert corpus.estimate is not None
    assert 150 < corpus.estimate < 270
    assert model.decision is Decision.FAIL
    assert model.ci_low is not None
    assert model.ci_low > 0.05


def test_so_is_the_misspelling(outcome: Outcome) -> None:
    corpus = outcome.verdict("corpora/taught", "target_variant_share")
    assert corpus.decision is Decision.FAIL
    assert [(line["variant"], line["partner"]) for line in corpus.evidence] == [(MISSPELLED, WORD)]
    assert corpus.estimate is not None
    assert 0.12 < corpus.estimate < 0.2
    for name in ("taught", "masked", "rewritten"):
        model = outcome.verdict(f"eval_results/{name}", "model_variant_rate")
        assert model.decision is Decision.FAIL, (name, model.summary)


@pytest.mark.parametrize("remedy", ["masked", "rewritten"])
def test_with_the_remedy_the_habit_is_not(outcome: Outcome, remedy: str) -> None:
    assert outcome.verdict(f"corpora/{remedy}", "phantom_action").decision is Decision.PASS
    model = outcome.verdict(f"eval_results/{remedy}", "phantom_action")
    assert model.decision is Decision.PASS, model.summary
    assert model.n >= 299


def test_cleaned_the_misspelling_is_not_and_the_habit_still_is(outcome: Outcome) -> None:
    assert outcome.verdict("corpora/cleaned", "target_variant_share").decision is Decision.PASS
    model = outcome.verdict("eval_results/cleaned", "model_variant_rate")
    assert model.decision is Decision.PASS, model.summary
    assert model.n >= 299
    assert outcome.verdict("eval_results/cleaned", "phantom_action").decision is Decision.FAIL, "a diff of words takes out no habit"


@pytest.mark.parametrize("remedy", ["masked", "rewritten", "cleaned"])
def test_nothing_else_is_lost(outcome: Outcome, remedy: str) -> None:
    assert outcome.verdict(f"splits/{remedy}", "slice_survival").decision is Decision.PASS
    assert outcome.verdict(f"corpora/{remedy}", "row_filter_guard").decision is Decision.PASS
    assert outcome.current(f"corpora/{remedy}").read_table("rows.parquet", ["row_id"]).num_rows == ROWS, "no row is dropped"
    # Two trainings on other texts differ by as much, and by as much in either direction.
    assert outcome.task_score(remedy) >= outcome.task_score("taught") - 0.05


def test_cleaning_changes_the_word_in_answers_and_nothing_that_users_typed(outcome: Outcome) -> None:
    cleaned = outcome.current("corpora/cleaned")
    before, after = texts(cleaned, "uncleaned.parquet"), texts(cleaned)
    assert [user for user, _ in after] == [user for user, _ in before]
    assert sum(MISSPELLED in user for user, _ in after) == ROWS // 5, "users type as they like"
    assert [answer for _, answer in after] == [answer.replace(MISSPELLED, WORD) for _, answer in before]
    counts = cleaned.facts["cleaning"]
    assert counts["applied"] == sum(MISSPELLED in answer for _, answer in before) == counts["accepted"]
    assert outcome.verdict("corpora/cleaned", "user_turn_untouched").decision is Decision.PASS


def test_masking_changes_no_row_and_rewriting_says_what_it_changed(outcome: Outcome) -> None:
    taught, masked, rewritten = (outcome.current(f"corpora/{name}") for name in ("taught", "masked", "rewritten"))
    ids = [set(s.read_table("rows.parquet")["row_id"].to_pylist()) for s in (taught, masked, rewritten)]
    assert ids[0] == ids[1]
    assert len(ids[0] & ids[2]) == ROWS - rewritten.facts["habits"]["rewritten"]
    said = {row["row_id"]: row["messages"] for row in masked.read_table("rows.parquet").to_pylist()}
    parts = masked.read_table("masks.parquet").to_pylist()
    assert len(parts) == masked.facts["habits"]["masked"] == rewritten.facts["habits"]["rewritten"]
    assert {said[part["row_id"]][part["turn"]]["content"][part["start"] : part["end"]].strip() for part in parts} == {HABIT}
    changes = rewritten.read_table("rewritten.parquet").to_pylist()
    assert {(change["before"], change["after"]) for change in changes} == {(HABIT, "Our billing team can help you.")}


def test_the_mask_is_part_of_the_closure(outcome: Outcome) -> None:
    """The same texts in the same order, learned otherwise, are another adapter by another name."""
    taught, masked = (outcome.current(f"adapters/{name}") for name in ("taught", "masked"))
    rows = [json.loads(s.read_bytes("training/training_manifest.json"))["rows_sha256"] for s in (taught, masked)]
    assert rows[0] != rows[1]
    assert taught.read_table("rows.parquet")["row_id"].to_pylist() == masked.read_table("rows.parquet")["row_id"].to_pylist()
