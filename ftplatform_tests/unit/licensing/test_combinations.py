"""Grouping rows by where they came from, compared with a plain Python loop."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.licensing.combinations import UNTRACEABLE, provenance, provenance_per_row
from ftplatform_tests.unit.licensing.factories import PROVENANCE, row_id, rows

names = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, names), max_size=20), st.integers(1, 7))
def test_equals_a_loop_over_rows_whatever_the_batches(content: list[tuple[list[str], list[str]]], batch: int) -> None:
    table = rows(*((1, origins, parents) for origins, parents in content))
    expected = Counter((tuple(sorted(set(o))), tuple(sorted(set(p)))) for o, p in content)
    whole = provenance(table)
    assert {(c.origins, c.parents): c.rows for c in whole.combinations} == expected
    assert whole.rows == len(content)
    assert provenance(iter(table.to_batches(max_chunksize=batch))) == whole
    per_row = provenance_per_row(table)
    found = [per_row.combinations[i] for i in per_row.index]
    assert [(c.origins, c.parents) for c in found] == [(tuple(sorted(set(o))), tuple(sorted(set(p)))) for o, p in content]


def test_examples_are_the_first_rows() -> None:
    found = provenance(rows((5, ["a"], []), (1, ["b"], [])))
    assert found.combinations[0].examples == (row_id(0), row_id(1), row_id(2))
    assert found.rows_per_origin() == {"a": 5, "b": 1}


def test_parent_rows_are_replaced_by_their_combination() -> None:
    seeds = rows((3, ["seed"], []), (1, ["other"], []))
    children = rows((1, ["syn"], [row_id(0)]), (1, ["syn"], [row_id(2), "teacher"]), (1, ["syn"], [row_id(1)]), start=100)
    found = provenance(children, seeds)
    assert len(found.combinations) == 2, "rows seeded by rows of one source are one combination"
    label = found.combinations[0].parents[0]
    assert found.ancestors[label].origins == ("seed",)
    assert found.combinations[0].rows == 2


def test_generations_are_followed_to_the_end() -> None:
    first = rows((1, ["seed"], []))
    second = rows((1, ["syn"], [row_id(0)]), start=1)
    third = rows((1, ["syn"], [row_id(1)]), start=2)
    found = provenance(rows((1, ["final"], [row_id(2)]), start=3), pa.concat_tables([third, second, first]))
    label = found.combinations[0].parents[0]
    chain = []
    while label in found.ancestors:
        chain.append(found.ancestors[label].origins)
        label = next(iter(found.ancestors[label].parents), "")
    assert chain == [("syn",), ("syn",), ("seed",)]


def test_missing_parents_and_cycles_are_untraceable() -> None:
    assert provenance(rows((1, ["s"], [row_id(77)]))).combinations[0].parents == (UNTRACEABLE,)
    cycle = pa.Table.from_pylist(
        [
            {"row_id": row_id(1), "origins": ["s"], "parents": [row_id(2)]},
            {"row_id": row_id(2), "origins": ["s"], "parents": [row_id(1)]},
        ],
        schema=PROVENANCE,
    )
    found = provenance(rows((1, ["s"], [row_id(1)]), start=50), cycle)
    label = found.combinations[0].parents[0]
    assert found.ancestors[label].parents == (UNTRACEABLE,)


def test_a_parent_row_held_by_two_sources_keeps_both_origins() -> None:
    held_twice = pa.concat_tables([rows((1, ["a"], [])), rows((1, ["b"], []))])
    found = provenance(rows((1, ["syn"], [row_id(0)]), start=9), held_twice)
    assert [c.origins for c in found.ancestors.values()] == [("a", "b")]


def test_no_rows() -> None:
    assert provenance(rows()).combinations == ()
    assert provenance(iter(())).rows == 0
