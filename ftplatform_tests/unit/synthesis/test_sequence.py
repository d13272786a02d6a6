"""Remedies one after the other: order, shares, what they may touch, and what is recorded."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from ftplatform.errors import InputDataError
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.rows.validation import row_schema
from ftplatform.synthesis.remedies.sequence import RemedyKind, RemedyStep, apply_remedies, without_origins_of
from ftplatform.synthesis.remedies.slips import slip
from ftplatform.synthesis.surface import input_surface_match
from ftplatform_tests.tables import asked, row, table
from ftplatform_tests.unit.synthesis.toy import clean, sample

STYLE = RemedyStep(RemedyKind.STYLE, None, 0)
MIX = RemedyStep(RemedyKind.MIX, 0.25, 0)
SLIPS = RemedyStep(RemedyKind.SLIPS, 0.5, 0)


def made(n: int) -> pa.Table:
    written = sample(1, n, clean)
    return table([row(text, surface="synthetic", source="synthetic/made", group=f"m{i}") for i, text in enumerate(texts(written))])


def people(n: int) -> pa.Table:
    return asked(texts(sample(2, n)), surface="production", source="raw/typed")


def texts(rows: pa.Table) -> list[str]:
    return turns(rows, Role.USER)["content"].to_pylist()


def test_each_step_works_on_what_the_one_before_left() -> None:
    before, learn = made(800), people(600)
    applied = apply_remedies(before, learn, [STYLE, MIX, SLIPS])
    assert row_schema(applied.rows).passed
    assert [(s["kind"], s["rows"]) for s in applied.steps] == [("style", 800), ("mix", 800), ("slips", 800)]
    assert applied.steps[0]["new"] > 600
    assert applied.steps[2]["new"] > 150
    held = sample(9, 900)
    first, last = (input_surface_match(rows, held, permutations=40) for rows in (before, applied.rows))
    assert last.ci_high is not None
    assert first.ci_low is not None
    assert last.ci_high < first.ci_low
    assert apply_remedies(before, learn, [STYLE, MIX, SLIPS]).rows.equals(applied.rows)


def test_style_and_slips_leave_real_rows_alone() -> None:
    """ADV: a mix that is restyled afterwards would teach what nobody typed, under the name of the people who did."""
    learn = people(600)
    naive = slip(apply_remedies(made(400), learn, [MIX]).rows, 1.0)
    applied = apply_remedies(made(400), learn, [MIX, STYLE, RemedyStep(RemedyKind.SLIPS, 1.0, 0)])
    known = set(texts(learn))
    assert not set(texts(naive.filter(pa.compute.equal(naive["surface"], "production")))) <= known
    kept = applied.rows.filter(pa.compute.equal(applied.rows["surface"], "production"))
    assert kept.num_rows == 100
    assert set(texts(kept)) <= known
    assert set(kept["row_id"].to_pylist()) <= set(learn["row_id"].to_pylist())


def test_rows_stay_in_their_places() -> None:
    applied = apply_remedies(made(50), people(300), [SLIPS])
    assert applied.rows["group"].to_pylist() == [f"m{i}" for i in range(50)]
    changed = [r for r, old in zip(applied.rows.to_pylist(), made(50).to_pylist(), strict=True) if r["row_id"] != old["row_id"]]
    assert 10 < len(changed) < 40
    assert all(r["parents"] == [] for r in changed), "a row that never left the set is nobody's parent"


def test_a_changed_row_says_what_it_was_before_the_first_step() -> None:
    written = made(60)
    applied = apply_remedies(written, people(300), [STYLE, RemedyStep(RemedyKind.SLIPS, 1.0, 0)]).rows
    for old, new in zip(written.to_pylist(), applied.to_pylist(), strict=True):
        if new["row_id"] != old["row_id"]:
            assert json.loads(new["meta"])["written_as"] == old["row_id"]


def test_an_answered_set_takes_only_answered_rows() -> None:
    answered = table([row(("user", f"q {i}"), ("assistant", "a"), surface="synthetic") for i in range(20)])
    learn = table([row(("user", f"real {i}"), *([("assistant", "b")] if i < 6 else []), surface="production") for i in range(40)])
    mixed = apply_remedies(answered, learn, [MIX]).rows
    assert {len(m) for m in mixed["messages"].to_pylist()} == {2}
    with pytest.raises(InputDataError, match="10 real ones, and there are 6"):
        apply_remedies(answered, learn, [RemedyStep(RemedyKind.MIX, 0.5, 0)])


def test_resample_puts_new_rows_in_the_place_of_old_ones() -> None:
    wanted: list[tuple[int, int]] = []

    def write_again(n: int, seed: int) -> pa.Table:
        wanted.append((n, seed))
        return asked([f"again {i}" for i in range(n)], surface="synthetic")

    step = RemedyStep(RemedyKind.RESAMPLE, 0.4, 7)
    applied = apply_remedies(made(50), people(10), [step], write_again=write_again)
    assert wanted == [(20, 7)]
    assert applied.rows.num_rows == 50
    assert sum(text.startswith("again") for text in texts(applied.rows)) == 20
    with pytest.raises(InputDataError, match="nobody to write again"):
        apply_remedies(made(50), people(10), [step])


def test_what_a_withdrawn_row_was_is_not_kept_either() -> None:
    written = made(60)
    applied = apply_remedies(written, people(300), [STYLE]).rows
    changed = next(i for i, (a, b) in enumerate(zip(written["row_id"], applied["row_id"], strict=True)) if a != b)
    kept = pa.concat_tables([applied.slice(0, changed), applied.slice(changed + 1)])
    left = without_origins_of(written, applied, kept)
    assert left.num_rows == 59
    assert written["row_id"][changed].as_py() not in left["row_id"].to_pylist()
    assert without_origins_of(written, applied, applied).equals(written)
