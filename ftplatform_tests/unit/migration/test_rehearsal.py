"""What a rehearsal concludes from plain data, and that neither page nor record lets hostile text through."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from ftplatform.cli import migrate_command
from ftplatform.errors import InputDataError, TrainingError
from ftplatform.evaluation.retention import refusal_retention
from ftplatform.migration.bases import BaseDifferences, Missing
from ftplatform.migration.comparison import compare, paired_scores
from ftplatform.migration.decision import decide
from ftplatform.migration.ledger import migrations, record_migration
from ftplatform.migration.page import migration_page
from ftplatform.migration.rehearsal import Exam, Migration, Train, Trained, rehearse
from ftplatform.store import Store
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.unit.migration.test_comparison import answers

BASES = ("base_models/old", "base_models/new")
NOTHING = BaseDifferences(
    facts=(), template_changed=False, rendering_changed=False, template_diff=(), special_tokens=(), missing=()
)
HOSTILE = "[bold]</pre><img src=x onerror=alert(1)>"


def labels(base_refused: np.ndarray, tuned_refused: np.ndarray) -> pa.Table:
    """Plain answers to 1,000 harmful probes in ten categories."""
    said = [["refuse" if kept else "comply" for kept in side] for side in (base_refused, tuned_refused)]
    ids = [f"p{i}" for i in range(len(base_refused))]
    return pa.table(
        {
            "item_id": ids,
            "category": [f"c{i % 10}" for i in range(len(ids))],
            "condition": ["plain"] * len(ids),
            "base_label": said[0],
            "tuned_label": said[1],
        }
    )


def refusals(rate: float) -> np.ndarray:
    """Which of 1,000 probes are declined: the first so many of each hundred."""
    return np.arange(1000) // 10 % 100 < round(100 * rate)


def side(base: float, tuned: float) -> Verdict:
    return refusal_retention(labels(refusals(base), refusals(tuned)), conditions=("plain",))


def verdict_on(alignment: dict[str, Verdict], old: np.ndarray, new: np.ndarray, missing: tuple[Missing, ...] = ()) -> Verdict:
    differences = BaseDifferences(**{**{n: getattr(NOTHING, n) for n in NOTHING.__slots__}, "missing": missing})
    parts = compare(paired_scores(answers(old), [answers(new)]))
    return decide(differences, parts, alignment, [], bases=BASES, margin=0.03)


KEPT = side(0.98, 0.98)
SAME = np.tile([1.0, 1.0, 0.0], 200)


def test_a_move_needs_task_alignment_and_nothing_missing() -> None:
    gone = Missing(field="/base_model/chat_template", had="x", has="none", remedy="Add it.")
    assert verdict_on({"refusals": KEPT}, SAME, SAME).decision is Decision.PASS
    assert verdict_on({"refusals": side(0.98, 0.70)}, SAME, SAME).decision is Decision.FAIL
    assert verdict_on({"refusals": KEPT}, SAME, SAME, (gone,)).decision is Decision.FAIL
    fallen = SAME.copy()
    fallen[:100] = 0.0
    assert verdict_on({"refusals": KEPT}, SAME, fallen).decision is Decision.FAIL
    assert verdict_on({"refusals": KEPT}, SAME[:60], SAME[:60]).decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict_on({}, SAME, SAME).decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict_on({"refusals": KEPT}, SAME[:0], SAME[:0]).decision is Decision.INSUFFICIENT_EVIDENCE


@pytest.mark.parametrize(
    ("old_base", "new_base", "tuned", "right", "naive"),
    [
        pytest.param(0.70, 0.98, 0.70, Decision.FAIL, Decision.PASS, id="passes wrongly"),
        pytest.param(0.98, 0.70, 0.70, Decision.PASS, Decision.FAIL, id="fails wrongly"),
    ],
)
def test_the_old_base_is_the_wrong_reference(
    old_base: float, new_base: float, tuned: float, right: Decision, naive: Decision
) -> None:
    """ADV: against the old base a lost alignment passes, and a kept one fails."""
    assert verdict_on({"refusals": side(new_base, tuned)}, SAME, SAME).decision is right
    assert verdict_on({"refusals": side(old_base, tuned)}, SAME, SAME).decision is naive


def test_a_rate_that_diverges_leaves_the_rest_standing() -> None:
    def train(multiple: float, _replicate: int) -> Trained:
        if multiple > 1:
            raise TrainingError("the loss is not a number at step 3", remedy="Lower the learning rate.")
        return Trained(folder=Path("none"), steps=1, tokens=1, seconds=1.0, losses=[1.0], encoding={})

    def rehearsed(trainer: Train) -> Migration:
        return rehearse(
            adapter="adapters/x",
            closure="c" * 64,
            bases=BASES,
            differences=NOTHING,
            old=Exam(answers=answers(SAME)),
            old_encoding={},
            train=trainer,
            examine=lambda _run, _tasks: Exam(answers=answers(SAME), alignment={"refusals": KEPT}),
            learning_rate=0.001,
            rates=[0.5, 1.0, 8.0],
        )

    found = rehearsed(train)
    assert (found.moves, [rate.multiple for rate in found.rates], list(found.failed_rates)) == (True, [0.5, 1.0], [8.0])
    assert "not a number" in migration_page(found)
    diverged = rehearsed(lambda multiple, replicate: train(8 * multiple, replicate))
    assert diverged.verdict.decision is Decision.FAIL
    assert "does not run on base_models/new: the loss is not a number" in diverged.verdict.summary


def hostile_migration() -> Migration:
    old, new = SAME.copy(), SAME.copy()
    new[:100] = 0.0
    missing = Missing(field=HOSTILE, had=HOSTILE, has=HOSTILE, remedy=HOSTILE)
    differences = BaseDifferences(
        facts=[(HOSTILE, HOSTILE, HOSTILE)],
        template_changed=True,
        rendering_changed=None,
        template_diff=[f"-{HOSTILE}", f"+\u202e{HOSTILE}"],
        special_tokens=[(HOSTILE, HOSTILE, None)],
        missing=[missing],
    )
    trained = Trained(
        folder=Path("none"),
        steps=2,
        tokens=100,
        seconds=0.5,
        losses=[2.0, 1.0],
        encoding={"rows": 9, "cut_rows": ["a"], "left_out_rows": [{"row_id": "b" * 64, "reason": HOSTILE}]},
    )
    examined = {"alignment": {HOSTILE: side(0.98, 0.70)}}
    return rehearse(
        adapter="adapters/support",
        closure="c" * 64,
        bases=(BASES[0], HOSTILE),
        differences=differences,
        old=Exam(answers=answers(old, [HOSTILE] * 600), alignment={HOSTILE: KEPT}),
        old_encoding={"rows": 10, "cut_rows": [], "left_out_rows": []},
        train=lambda _multiple, _replicate: trained,
        examine=lambda _trained, _tasks: Exam(answers=answers(new, [HOSTILE] * 600), **examined),
        learning_rate=0.001,
        rates=[1.0, 2.0],
        replicates=3,
    )


def test_the_page_escapes_everything_and_loads_nothing() -> None:
    page = migration_page(hostile_migration(), note=HOSTILE)
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("&lt;img") >= 12
    assert "\u202e" not in page, "text that turns the reading direction is shown by its number"
    assert not re.search(r"\s(style|on\w+)=", re.sub(r"&[^;]+;|>[^<]*<", "", page)), "the policy would refuse it"
    assert "script-src" not in page
    assert "default-src 'none'" in page
    assert page == migration_page(hostile_migration(), note=HOSTILE)


def test_the_terminal_prints_hostile_text_as_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_command, "OUT", Console(width=400))
    migrate_command._show(hostile_migration())
    said = capsys.readouterr().out
    assert said.count(HOSTILE) >= 8
    assert "Do not move from base_models/old" in said
    assert "tokens_per_second" in said


def test_a_record_is_kept_and_read_back(tmp_path: Path) -> None:
    backend = Store.open(str(tmp_path)).backend
    migration = hostile_migration()
    digest = record_migration(backend, migration, by=" ann ")
    (found,) = migrations(backend, "adapters/support")
    assert {**found, **json.loads(json.dumps(migration.to_record()))} == found
    assert (found["id"], found["by"], found["migrate"]) == (digest, "ann", False)
    assert len(found["gains"]) == 3
    assert found["gain_of_next_replicate"] == [pytest.approx(found["gains"][0])] * 2
    for nobody in ("", " ", "x" * 201):
        with pytest.raises(InputDataError, match="name"):
            record_migration(backend, migration, by=nobody)


def test_one_replicate_that_lost_its_refusals_is_one_too_many() -> None:
    """ADV: with the first replicate alone the move would pass."""
    verdicts: list[Verdict] = [KEPT, side(0.98, 0.70), KEPT]
    trained: list[Any] = []

    def train(_multiple: float, replicate: int) -> Trained:
        trained.append(replicate)
        return Trained(folder=Path(str(replicate)), steps=1, tokens=1, seconds=1.0, losses=[1.0], encoding={})

    def rehearsed(replicates: int) -> Decision:
        return rehearse(
            adapter="adapters/x",
            closure="c" * 64,
            bases=BASES,
            differences=NOTHING,
            old=Exam(answers=answers(SAME)),
            old_encoding={},
            train=train,
            examine=lambda run, _tasks: Exam(answers=answers(SAME), alignment={"refusals": verdicts[int(run.folder.name)]}),
            learning_rate=0.001,
            replicates=replicates,
        ).verdict.decision

    assert rehearsed(1) is Decision.PASS
    assert rehearsed(3) is Decision.FAIL
    assert trained == [0, 0, 1, 2]
