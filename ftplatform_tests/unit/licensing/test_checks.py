"""The two checks and the filter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.licensing.checks import (
    REMOVED_SCHEMA,
    filter_unlicensed,
    license_allows_use,
    license_allows_use_of_model,
    license_known,
    uses_for,
)
from ftplatform.licensing.policy import default_policy
from ftplatform.licensing.rights import EdgeRole, Use
from ftplatform.licensing.terms import Kind, SourceTerms
from ftplatform.verdict import Decision
from ftplatform_tests.unit.licensing.factories import known, row_id, rows

POLICY = default_policy()
TRAIN_AND_SELL = (Use.TRAIN, Use.COMMERCIAL_MODEL)


def terms(*items: SourceTerms) -> dict[str, SourceTerms]:
    return {item.name: item for item in items}


# ---- license_known


def test_all_known_passes() -> None:
    verdict = license_known([known("a", "MIT"), known("b", "CC-BY-4.0")], {"a": 10, "b": 5}, POLICY)
    assert verdict.decision is Decision.PASS
    assert (verdict.estimate, verdict.n) == (1.0, 15)
    assert str(verdict.plot).startswith("<svg")


def test_one_row_of_an_unknown_source_fails() -> None:
    verdict = license_known([known("a", "MIT"), SourceTerms(name="b", declared="MIT")], {"a": 999_999, "b": 1}, POLICY)
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["source"] == "b"
    assert "tag" in str(verdict.evidence[0]["problem"])
    assert verdict.estimate is not None
    assert verdict.estimate < 1


def test_a_source_nobody_declared_fails() -> None:
    verdict = license_known([known("a", "MIT")], {"a": 1, "stranger": 1}, POLICY)
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["source"] == "stranger"


@pytest.mark.parametrize("counts", [{}, {"a": 0}])
def test_nothing_to_judge_is_not_a_pass(counts: dict[str, int]) -> None:
    assert license_known([known("a", "MIT")], counts, POLICY).decision is Decision.INSUFFICIENT_EVIDENCE


def test_a_conclusion_looser_than_the_tag_warns() -> None:
    verdict = license_known([replace(known("a", "CC-BY-4.0"), declared="cc-by-nc-4.0")], {"a": 3}, POLICY)
    assert verdict.decision is Decision.WARN
    assert license_known([replace(known("a", "CC-BY-SA-4.0"), declared="apache-2.0")], {"a": 3}, POLICY).decision is Decision.PASS


def test_generated_rows_are_known_if_teacher_and_seeds_are() -> None:
    synthetic = SourceTerms(name="s", kind=Kind.SYNTHETIC, derived_from=("teacher", "seed"))
    teacher = known("teacher", "Apache-2.0", kind=Kind.TEACHER)
    assert license_known([synthetic, teacher, known("seed", "MIT")], {"s": 4}, POLICY).decision is Decision.PASS
    verdict = license_known([synthetic, teacher, SourceTerms(name="seed", declared="MIT")], {"s": 4}, POLICY)
    assert verdict.decision is Decision.FAIL
    assert "derived from seed" in str(verdict.evidence[0]["problem"])


def test_outside_text_in_evidence_is_masked() -> None:
    verdict = license_known([SourceTerms(name="a", declared="ask jo@example.org")], {"a": 1}, POLICY)
    assert "jo@example.org" not in str(verdict.to_record())


# ---- license_allows_use


def test_denied_use_names_source_license_use_count_and_rows() -> None:
    table = rows((3, ["a"], []), (2, ["nc"], []))
    verdict = license_allows_use(table, [known("a", "MIT"), known("nc", "CC-BY-NC-4.0")], TRAIN_AND_SELL, POLICY)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == 2
    row = verdict.evidence[0]
    assert (row["source"], row["license"], row["use"], row["level"], row["rows"]) == (
        "nc",
        "CC-BY-NC-4.0",
        "commercial_model",
        "deny",
        2,
    )
    assert str(row["first_rows"]).startswith(row_id(3)[:12])
    assert license_allows_use(table, [known("a", "MIT"), known("nc", "CC-BY-NC-4.0")], [Use.TRAIN], POLICY).passed


def test_unknown_is_a_violation() -> None:
    verdict = license_allows_use(rows((1, ["a"], [])), [SourceTerms(name="a", declared="MIT")], [Use.TRAIN], POLICY)
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["level"] == "unknown"


@pytest.mark.parametrize(("table", "uses"), [(rows(), TRAIN_AND_SELL), (rows((1, ["a"], [])), ())])
def test_no_rows_or_no_uses_is_not_a_pass(table: pa.Table, uses: tuple[Use, ...]) -> None:
    assert license_allows_use(table, [known("a", "MIT")], uses, POLICY).decision is Decision.INSUFFICIENT_EVIDENCE


def test_rows_without_origins_are_unknown() -> None:
    assert license_allows_use(rows((1, [], [])), [], [Use.TRAIN], POLICY).decision is Decision.FAIL


def naive_per_source(table: pa.Table, known_terms: dict[str, SourceTerms], use: Use) -> int:
    """The obvious check: every source in the corpus must allow the use."""
    from ftplatform.licensing.terms import assess

    bad = {name for name, item in known_terms.items() if not assess(item, POLICY).rights[use].usable}
    return sum(any(o in bad for o in origins) for origins in table["origins"].to_pylist())


def test_a_row_that_also_came_from_a_licensed_source_stays_usable() -> None:
    """ADV: deduplication merged two copies; one of them is ours to use."""
    known_terms = terms(known("licensed", "MIT"), known("revoked", "CC-BY-NC-4.0"))
    table = rows((5, ["licensed"], []), (7, ["licensed", "revoked"], []))
    assert naive_per_source(table, known_terms, Use.COMMERCIAL_MODEL) == 7  # the naive check throws away rows we may use
    verdict = license_allows_use(table, known_terms, TRAIN_AND_SELL, POLICY)
    assert verdict.decision is Decision.PASS
    kept, removed = filter_unlicensed(table, known_terms, TRAIN_AND_SELL, POLICY)
    assert (kept.num_rows, removed.num_rows) == (12, 0)


def test_rows_seeded_by_a_revoked_source_are_found_through_parents() -> None:
    """ADV: no row names the revoked source as its origin, so a check on origins passes."""
    known_terms = terms(
        known("licensed", "MIT"),
        known("revoked", "CC-BY-NC-4.0"),
        known("teacher", "Apache-2.0", kind=Kind.TEACHER),
        SourceTerms(name="syn", kind=Kind.SYNTHETIC, derived_from=("teacher", "licensed", "revoked")),
    )
    table = rows((60, ["syn"], ["teacher", "licensed"]), (40, ["syn"], ["teacher", "revoked"]))
    assert naive_per_source(table, known_terms, Use.COMMERCIAL_MODEL) == 0  # the naive check sees nothing
    verdict = license_allows_use(table, known_terms, TRAIN_AND_SELL, POLICY)
    assert (verdict.decision, verdict.estimate) == (Decision.FAIL, 40)
    assert verdict.evidence[0]["source"] == "revoked"


def test_the_same_through_row_ids_of_the_seeds() -> None:
    known_terms = terms(
        known("licensed", "MIT"),
        known("revoked", "CC-BY-NC-4.0"),
        known("teacher", "Apache-2.0", kind=Kind.TEACHER),
        SourceTerms(name="syn", kind=Kind.SYNTHETIC, derived_from=("teacher", "licensed", "revoked")),
    )
    seeds = rows((1, ["licensed"], []), (1, ["revoked"], []), (1, ["licensed", "revoked"], []))
    children = rows(*((1, ["syn"], ["teacher", row_id(i)]) for i in (0, 1, 2)), start=10)
    verdict = license_allows_use(children, known_terms, TRAIN_AND_SELL, POLICY, parent_rows=seeds)
    assert verdict.estimate == 1  # the seed that stands in both sources may be used
    assert verdict.evidence[0]["source"] == "revoked"
    lost = license_allows_use(children, known_terms, TRAIN_AND_SELL, POLICY)
    assert lost.estimate == 3
    assert "not in the store" in str(lost.evidence[0]["source"])


def test_a_teacher_whose_terms_forbid_training_on_its_outputs() -> None:
    known_terms = terms(
        known("llama", "llama2", kind=Kind.TEACHER), SourceTerms(name="syn", kind=Kind.SYNTHETIC, derived_from=("llama",))
    )
    table = rows((3, ["syn"], ["llama"]), (2, ["syn"], []))
    verdict = license_allows_use(table, known_terms, [Use.TRAIN], POLICY)
    assert verdict.estimate == 5, "rows that record no parent are bound by what the set declares"
    assert license_allows_use(table, known_terms, [Use.EVALUATE], POLICY).passed
    as_seed = license_allows_use(table, known_terms, [Use.TRAIN], POLICY, roles={"llama": EdgeRole.PROMPT_SEED})
    assert as_seed.passed


def test_a_generated_copy_of_a_row_we_hold_anyway() -> None:
    known_terms = terms(
        known("plain", "MIT", rows_have_parents=False),
        known("llama", "llama2", kind=Kind.TEACHER),
        SourceTerms(name="syn", kind=Kind.SYNTHETIC, derived_from=("llama",)),
    )
    table = rows((4, ["plain", "syn"], ["llama"]))
    assert license_allows_use(table, known_terms, [Use.TRAIN], POLICY).passed
    # If the plain source may have rows written by the same teacher, nobody can tell whose parent it is: it binds.
    unsure = {**known_terms, "plain": replace(known_terms["plain"], rows_have_parents=True)}
    assert license_allows_use(table, unsure, [Use.TRAIN], POLICY).decision is Decision.FAIL


def test_unknown_parents_bind_every_copy() -> None:
    known_terms = terms(known("a", "MIT", rows_have_parents=False))
    assert license_allows_use(rows((1, ["a"], ["some-model"])), known_terms, [Use.TRAIN], POLICY).decision is Decision.FAIL


def test_a_cycle_of_declarations_ends_as_unknown() -> None:
    known_terms = terms(
        SourceTerms(name="s", kind=Kind.SYNTHETIC, derived_from=("t",)),
        SourceTerms(name="t", kind=Kind.SYNTHETIC, derived_from=("s",)),
    )
    assert license_allows_use(rows((1, ["s"], ["t"])), known_terms, [Use.TRAIN], POLICY).decision is Decision.FAIL


def test_changed_terms_are_another_configuration() -> None:
    table = rows((1, ["a"], []))
    first = license_allows_use(table, [known("a", "MIT"), known("unused", "MIT")], [Use.TRAIN], POLICY)
    assert (
        license_allows_use(table, [known("a", "ISC"), known("unused", "MIT")], [Use.TRAIN], POLICY).config_hash != first.config_hash
    )
    assert (
        license_allows_use(table, [known("a", "MIT"), known("unused", "ISC")], [Use.TRAIN], POLICY).config_hash == first.config_hash
    )


def test_obligations_are_reported() -> None:
    verdict = license_allows_use(rows((1, ["a"], [])), [known("a", "CC-BY-SA-4.0")], [Use.TRAIN, Use.REDISTRIBUTE_WEIGHTS], POLICY)
    assert verdict.details["obligations"] == {"redistribute_weights": ["attribution", "share_alike"]}
    assert "share_alike" in verdict.summary


@pytest.mark.parametrize(
    ("license", "uses", "decision"),
    [
        ("Apache-2.0", ["train", "evaluate", "redistribute_data"], Decision.PASS),
        ("llama3.1", ["train", "commercial_model"], Decision.PASS),
        ("cc-by-nc-4.0", ["train", "commercial_model"], Decision.FAIL),
        ("cc-by-nc-4.0", ["redistribute_data", "evaluate"], Decision.INSUFFICIENT_EVIDENCE),
    ],
)
def test_base_models(license: str, uses: list[str], decision: Decision) -> None:
    verdict = license_allows_use_of_model(known("base", license, kind=Kind.BASE_MODEL), uses, POLICY)
    assert verdict.decision is decision
    assert verdict.n == 1


def test_uses_for_each_kind() -> None:
    declared = ["evaluate", "train", "redistribute_data"]
    assert uses_for("eval_set", declared) == (Use.EVALUATE,)
    assert uses_for("base_model", declared) == (Use.TRAIN,)
    assert uses_for("source", declared) == (Use.TRAIN, Use.EVALUATE, Use.REDISTRIBUTE_DATA)


# ---- the filter agrees with the check, row by row

SOURCES = terms(
    known("mit", "MIT", rows_have_parents=False),
    known("nc", "CC-BY-NC-4.0"),
    SourceTerms(name="tag", declared="MIT"),
    known("llama", "llama2", kind=Kind.TEACHER),
    known("apache", "Apache-2.0", kind=Kind.TEACHER),
    SourceTerms(name="syn", kind=Kind.SYNTHETIC, derived_from=("llama", "mit")),
)
content = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["mit", "nc", "tag", "syn", "nobody"]), max_size=3),
        st.lists(st.sampled_from(["llama", "apache", "mit", "nc"]), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(content, st.sampled_from([(Use.TRAIN,), TRAIN_AND_SELL, (Use.EVALUATE,)]))
def test_filter_and_check_agree(listed: list[tuple[list[str], list[str]]], uses: tuple[Use, ...]) -> None:
    table = rows(*((1, origins, parents) for origins, parents in listed))
    kept, removed = filter_unlicensed(table, SOURCES, uses, POLICY)
    assert removed.schema == REMOVED_SCHEMA
    assert sorted(kept["row_id"].to_pylist() + removed["row_id"].to_pylist()) == sorted(table["row_id"].to_pylist())
    verdict = license_allows_use(table, SOURCES, uses, POLICY)
    assert verdict.estimate == removed.num_rows
    for one in range(table.num_rows):
        single = license_allows_use(table.slice(one, 1), SOURCES, uses, POLICY)
        assert single.passed == (table["row_id"][one].as_py() in set(kept["row_id"].to_pylist()))
    if kept.num_rows:
        assert license_allows_use(kept, SOURCES, uses, POLICY).passed


def test_filter_keeps_columns_order_and_empty_tables() -> None:
    table = rows((2, ["mit"], []), (1, ["nc"], []), (1, ["mit"], [])).append_column("extra", pa.array([1, 2, 3, 4]))
    kept, removed = filter_unlicensed(table, SOURCES, TRAIN_AND_SELL, POLICY)
    assert kept["extra"].to_pylist() == [1, 2, 4]
    assert removed.to_pylist()[0]["source"] == "nc"
    kept, removed = filter_unlicensed(table.slice(0, 0), SOURCES, TRAIN_AND_SELL, POLICY)
    assert (kept.num_rows, removed.num_rows, kept.schema) == (0, 0, table.schema)


def test_many_rows_are_a_few_combinations() -> None:
    """No loop over rows: 300,000 rows are judged as three combinations."""
    count = 300_000
    generator = np.random.default_rng(0)
    origins = pa.array([["mit"], ["mit", "nc"], ["nc"]]).take(pa.array(generator.integers(0, 3, count)))
    table = pa.table(
        {
            "row_id": pa.array(np.arange(count)).cast(pa.string()),
            "origins": origins,
            "parents": pa.array([[]], pa.list_(pa.string())).take(pa.array(np.zeros(count, dtype=np.int64))),
        }
    )
    verdict = license_allows_use(table, SOURCES, TRAIN_AND_SELL, POLICY)
    expected = sum(1 for names in origins.to_pylist() if names == ["nc"])
    assert verdict.estimate == expected
    assert verdict.details["combinations"] == 3
