"""The taint closure on rows, against a loop over rows; and the cases in which a shorter rule errs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.errors import CorruptArtifact, InputDataError
from ftplatform.licensing.combinations import UNTRACEABLE
from ftplatform.licensing.removal.ban import Ban, Reach
from ftplatform.licensing.removal.closure import RowSet
from ftplatform.licensing.removal.taint import Taint, taint
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.licensing.factories import row_id
from ftplatform_tests.unit.licensing.removal.world import lost_grant, row_set, sentence


def fallen(spread: Taint) -> set[str]:
    return set(spread.rows["row_id"])


def content(*names: str, rows: list[str] | None = None) -> Ban:
    return Ban(notice="n", reach=Reach.CONTENT, names=frozenset(names), row_ids=pl.Series(rows or [], dtype=pl.String))


def test_case_2_3_a_row_with_a_licensed_origin_stays_when_a_grant_ends() -> None:
    """Naive: the dedup kept B's copy, B is revoked, so the row goes."""
    kept = row("the same words", source="raw/b", origins=["raw/a", "raw/b"])
    lost = row("only b said this", source="raw/b")
    spread = taint([row_set("splits/s", [kept, lost])], lost_grant("raw/b"))
    assert fallen(spread) == {lost["row_id"]}
    assert spread.kept.to_list() == [kept["row_id"]]
    naive = {r["row_id"] for r in (kept, lost) if r["source"] == "raw/b"}
    assert kept["row_id"] in naive


def test_case_2_3_another_snapshot_may_show_the_licensed_origin() -> None:
    split = row_set("splits/s", [row("the same words", source="raw/b")])
    raw = row_set("raw/a", [row("the same words", source="raw/a")])
    assert fallen(taint([split], lost_grant("raw/b")))
    assert not fallen(taint([split, raw], lost_grant("raw/b")))


def test_a_claim_on_the_words_takes_every_copy() -> None:
    """The same row under a takedown by content: origins are no alternatives to words somebody claims."""
    both = row("the same words", origins=["raw/a", "raw/b"])
    assert fallen(taint([row_set("s", [both])], content("raw/b"))) == {both["row_id"]}
    elsewhere = row("the same words", source="raw/a")
    by_id = taint([row_set("s", [elsewhere])], content(rows=[both["row_id"]])).rows
    assert by_id.select("row_id", "reason", "via").rows() == [(elsewhere["row_id"], "listed", "n")]


def test_case_2_2_synthetic_rows_fall_through_their_parents() -> None:
    """40 rows seeded by a revoked source; their own origin is ours, so a check of origins alone finds nothing."""
    seeds = [row(sentence(k), source="raw/b") for k in range(40)]
    made = [row(sentence(100 + k), source="synthetic/x", parents=["teacher:t", seeds[k]["row_id"]]) for k in range(40)]
    clean = [row(sentence(200 + k), source="synthetic/x", parents=["teacher:t"]) for k in range(5)]
    spread = taint([row_set("splits/s", made + clean), row_set("raw/b", seeds)], lost_grant("raw/b"))
    assert fallen(spread) - {s["row_id"] for s in seeds} == {m["row_id"] for m in made}
    assert not [r for r in made + clean if "raw/b" in r["origins"]], "naive: no row of the split has the revoked origin"


def test_generations_cycles_and_names() -> None:
    a, b, c = (row(sentence(k), source="ours") for k in range(3))
    b["parents"], c["parents"], a["parents"] = [a["row_id"]], [b["row_id"]], [c["row_id"]]
    by_name = row(sentence(9), source="ours", parents=["teacher:gone"])
    apart = row(sentence(10), source="ours", parents=["teacher:fine"])
    rows = row_set("s", [a, b, c, by_name, apart])
    spread = taint([rows], content("teacher:gone", rows=[a["row_id"]]))
    generation = dict(spread.rows.select("row_id", "generation").iter_rows())
    assert generation == {a["row_id"]: 0, b["row_id"]: 1, c["row_id"]: 2, by_name["row_id"]: 1}


def test_children_of_a_banned_row_fall_when_the_row_itself_is_gone_from_every_table() -> None:
    """Rebuilt without B's rows, with what was made from them: nothing but the child's own record of its parent is left."""
    child = row(sentence(1), source="synthetic/x", parents=[row_id(5)])
    spread = taint([row_set("s", [child])], content(rows=[row_id(5)]))
    assert child["row_id"] in fallen(spread)
    assert not spread.undecided.height


def test_an_independent_original_is_not_bound_by_parents_of_a_copy() -> None:
    seed = row(sentence(1), source="raw/b")
    merged = row(sentence(2), origins=["raw/a", "synthetic/x"], parents=[seed["row_id"]])
    sets = [row_set("s", [merged]), row_set("raw/b", [seed])]
    assert merged["row_id"] in fallen(taint(sets, lost_grant("raw/b"))), "without knowing better, parents bind"
    assert merged["row_id"] not in fallen(taint(sets, lost_grant("raw/b", originals=frozenset({"raw/a"}))))


def test_withdrawn_rows_are_the_only_ones_of_their_source_that_fall() -> None:
    gone, stays = row(sentence(1), source="raw/b"), row(sentence(2), source="raw/b")
    shared = row(sentence(3), origins=["raw/a", "raw/b"])
    vague = row(sentence(4), source="synthetic/x", parents=["raw/b"])
    ban = lost_grant("raw/b", rows=[gone["row_id"], shared["row_id"]])
    spread = taint([row_set("s", [gone, stays, shared, vague])], ban)
    assert fallen(spread) == {gone["row_id"]}
    assert spread.undecided.rows() == [(vague["row_id"], "(some rows of its parent raw/b fell)")]


def test_what_cannot_be_traced_is_said_and_so_is_what_came_from_it() -> None:
    child = row(sentence(1), source="ours", parents=[row_id(77)])
    grandchild = row(sentence(2), source="ours", parents=[child["row_id"]])
    nowhere = row(sentence(3), origins=[])
    spread = taint([row_set("s", [child, grandchild, nowhere])], lost_grant("raw/b"))
    assert not fallen(spread)
    assert dict(spread.undecided.iter_rows()) == {
        child["row_id"]: UNTRACEABLE,
        grandchild["row_id"]: "derived",
        nowhere["row_id"]: "(no origin is recorded)",
    }


names = st.sampled_from(["a", "b", "c"])
origins = st.lists(names, min_size=1, max_size=3, unique=True)


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 9), origins, st.lists(st.one_of(st.integers(0, 9), names), max_size=2)), max_size=14),
    st.sets(names, max_size=2),
    st.sets(st.integers(0, 9), max_size=3),
    st.sampled_from(Reach),
)
def test_equals_a_loop_over_rows(rows: list, banned: set[str], listed: set[int], reach: Reach) -> None:
    if not (banned or listed) or (reach is Reach.GRANT and not banned):
        return
    if reach is Reach.GRANT:
        listed = set()
    ban = Ban(notice="n", reach=reach, names=frozenset(banned), row_ids=pl.Series([row_id(k) for k in listed], dtype=pl.String))
    lines = [
        {**row("x"), "row_id": row_id(k), "origins": o, "parents": [row_id(p) if isinstance(p, int) else p for p in parents]}
        for k, o, parents in rows
    ]
    all_origins: dict[int, set[str]] = {}
    all_parents: dict[int, set] = {}
    for k, o, parents in rows:
        all_origins.setdefault(k, set()).update(o)
        all_parents.setdefault(k, set()).update(parents)
    if reach is Reach.GRANT:
        expected = {k for k, o in all_origins.items() if o <= banned}
    else:
        expected = {k for k, o in all_origins.items() if o & banned} | listed
    while grown := {k for k, p in all_parents.items() if p & (expected | banned)} - expected:
        expected |= grown
    assert fallen(taint([row_set("s", lines)], ban)) == {row_id(k) for k in expected}


def test_files_are_read_in_pieces_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = table(row(sentence(k), source="raw/b" if k == 7 else "raw/a") for k in range(30))
    pq.write_table(rows, path)
    assert len(fallen(taint([RowSet(name="s", snapshot="0", read=path)], lost_grant("raw/b")))) == 1
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptArtifact, match=r"rows\.parquet of s"):
        taint([RowSet(name="s", snapshot="0", read=path)], lost_grant("raw/b"))
    with pytest.raises(InputDataError, match="not there"):
        taint([RowSet(name="s", snapshot="0", read=tmp_path / "none.parquet")], lost_grant("raw/b"))
    with pytest.raises(InputDataError, match="lack parents"):
        taint([RowSet(name="s", snapshot="0", read=lambda: [rows.drop_columns(["parents"])])], lost_grant("raw/b"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "bans nothing"),
        ({"row_ids": pl.Series(["AB" * 32])}, "is no row id"),
        ({"reach": Reach.GRANT, "row_ids": pl.Series([row_id(1)])}, "withdraws rows of no source"),
        ({"reach": Reach.GRANT, "names": frozenset({"a"}), "claim": row_id(1)}, "claims words and ends a grant"),
    ],
)
def test_a_ban_that_would_pass_everything_is_refused(more: dict, message: str) -> None:
    with pytest.raises(InputDataError, match=message):
        Ban(**{"notice": "n", "reach": Reach.CONTENT, **more})
