"""Sidecars: what they record, that little is read, that damage is noticed, and what hangs on single rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.errors import CorruptArtifact, InputDataError
from ftplatform.licensing.blast_radius import sidecar
from ftplatform.licensing.blast_radius.lineage import LineageRole, SourceRows
from ftplatform.licensing.blast_radius.sidecar import holders, rows_of_source, tally, write_sidecar
from ftplatform.licensing.combinations import UNTRACEABLE
from ftplatform_tests.unit.licensing.factories import row_id, rows


def records(path: Path) -> set[tuple[str, str, str, int]]:
    table = pq.read_table(path)
    return set(zip(*(table[name].to_pylist() for name in ("source", "row_id", "role", "alternatives")), strict=True))


def test_each_origin_is_a_record(tmp_path):
    path = tmp_path / "s.parquet"
    assert write_sidecar(rows((2, ["raw/b", "raw/a"], []), (1, ["raw/a"], [])), path) == 5
    assert pq.read_table(path)["source"].to_pylist() == sorted(["raw/a"] * 3 + ["raw/b"] * 2)
    assert records(path) == {
        ("raw/a", row_id(0), "rows", 1), ("raw/a", row_id(1), "rows", 1), ("raw/a", row_id(2), "rows", 0),
        ("raw/b", row_id(0), "rows", 1), ("raw/b", row_id(1), "rows", 1),
    }  # fmt: skip
    a, b = tally(path, "v", pl.DataFrame({"row_id": [row_id(i) for i in range(3)], "tokens": [10, 20, 40]}))
    assert a == SourceRows(source="raw/a", version="v", n_rows=3, shared_rows=2, derived_rows=0, tokens=70)
    assert (b.n_rows, b.tokens) == (2, 30)
    assert tally(path, "v")[0].tokens is None


def test_adv_forty_rows_seeded_by_a_revoked_source_are_found_through_parents(tmp_path):
    """The synthetic rows name their seeds by row id; nothing in `origins` mentions the source."""
    raw, synthetic, mix = (tmp_path / f"{name}.parquet" for name in ("raw", "synthetic", "mix"))
    write_sidecar(rows((5, ["raw/revoked"], [])), raw)
    made = rows((40, ["synthetic/made"], [row_id(1), "teacher:gpt"]), start=100)
    write_sidecar(made, synthetic, ancestors=[raw])
    # Another generation, of which the mix knows the synthetic rows only.
    grandchildren = rows((3, ["synthetic/more"], [row_id(100)]), start=200)
    mixed = pa.concat_tables([made, grandchildren, rows((10, ["raw/kept"], []), start=300)])
    write_sidecar(mixed, mix, ancestors=[synthetic, raw])

    naive = [row for row in mixed.to_pylist() if "raw/revoked" in row["origins"]]
    assert naive == []  # looking at origins alone
    found = rows_of_source([mix], "raw/revoked")
    assert set(found["row_id"]) == {row_id(100 + i) for i in range(40)} | {row_id(200 + i) for i in range(3)}
    assert set(found["role"]) == {"prompt_seed"}
    counted = {entry.source: entry for entry in tally(mix, "mix")}
    assert (counted["raw/revoked"].n_rows, counted["raw/revoked"].derived_rows) == (0, 43)
    assert counted["raw/revoked"].role == "prompt_seed"
    assert counted["teacher:gpt"].role is LineageRole.TEACHER
    assert UNTRACEABLE not in counted


def test_a_parent_that_cannot_be_found_is_not_clean(tmp_path):
    path = tmp_path / "s.parquet"
    write_sidecar(rows((1, ["synthetic/made"], [row_id(999)])), path)
    assert rows_of_source([path], UNTRACEABLE)["row_id"].to_list() == [row_id(0)]


def test_rows_that_derive_from_each_other_end(tmp_path):
    path = tmp_path / "s.parquet"
    cycle = pa.concat_tables([rows((1, ["raw/a"], [row_id(1)])), rows((1, ["raw/b"], [row_id(0)]), start=1)])
    write_sidecar(cycle, path)
    assert {(s, r) for s, r, _, _ in records(path)} == {(s, row_id(i)) for s in ("raw/a", "raw/b") for i in (0, 1)}


def test_a_long_chain_of_derived_rows_is_followed_to_its_end(tmp_path):
    path = tmp_path / "s.parquet"
    links = [rows((1, [f"synthetic/{i}"], [row_id(i - 1)]), start=i) for i in range(1, 60)]
    write_sidecar(pa.concat_tables([rows((1, ["raw/a"], [])), *links]), path)
    assert set(rows_of_source([path], "raw/a")["row_id"]) == {row_id(i) for i in range(60)}


def test_a_row_that_lost_its_parents_keeps_what_its_ancestor_knew(tmp_path):
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    write_sidecar(rows((1, ["synthetic/s"], ["raw/a"])), first)
    write_sidecar(rows((1, ["synthetic/s"], [])), second, ancestors=[first])
    assert rows_of_source([second], "raw/a")["row_id"].to_list() == [row_id(0)]


def test_a_row_of_the_source_is_not_counted_as_derived_too(tmp_path):
    path = tmp_path / "s.parquet"
    write_sidecar(rows((1, ["raw/a"], ["raw/a"]), (1, ["raw/b"], ["raw/a"]), start=0), path)
    (a, _) = tally(path, "v")
    assert (a.n_rows, a.derived_rows) == (1, 1)


def big_table(count: int = 200_000, sources: int = 500) -> pa.Table:
    rng = np.random.default_rng(0)
    # A few large sources and many small ones, as in practice.
    which = np.minimum(rng.zipf(1.3, count), sources) - 1
    digests = hashlib.shake_256(b"rows").digest(32 * count).hex()
    ids = pa.array([digests[64 * i : 64 * i + 64] for i in range(count)])
    origins = pa.ListArray.from_arrays(
        np.arange(count + 1, dtype=np.int32), pa.array([f"raw/s{s:03d}" for s in range(sources)]).take(pa.array(which))
    )
    empty = pa.ListArray.from_arrays(np.zeros(count + 1, dtype=np.int32), pa.array([], pa.string()))
    return pa.table({"row_id": ids, "origins": origins, "parents": empty})


def test_a_look_up_reads_the_row_groups_that_can_hold_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(sidecar, "ROW_GROUP_ROWS", 8_192)
    path, table = tmp_path / "s.parquet", big_table()
    assert write_sidecar(table, path) == 200_000
    expected = pl.DataFrame(pl.from_arrow(table)).explode("origins")
    opened: list[int] = []
    read = pq.ParquetFile.read_row_groups

    def counting(self, groups, **options):
        opened.extend(groups)
        return read(self, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counting)
    for source in ("raw/s000", "raw/s007", "raw/s499", "raw/s123"):
        opened.clear()
        wanted = expected.filter(pl.col("origins") == source)["row_id"]
        found = rows_of_source([path], source)
        assert sorted(found["row_id"]) == sorted(wanted)
        assert 1 <= len(opened) <= len(wanted) // 8_192 + 2
    opened.clear()
    assert rows_of_source([path], "raw/zzz").is_empty()
    assert not opened


def test_names_at_the_edges_of_row_groups_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sidecar, "ROW_GROUP_ROWS", 3)
    path = tmp_path / "s.parquet"
    names = ["raw/a", "raw/a\U0001f600", "raw/é", "raw/z", "teacher:x", "拒"]
    write_sidecar(pa.concat_tables([rows((4, [name], []), start=10 * i) for i, name in enumerate(names)]), path)
    for i, name in enumerate(names):
        assert set(rows_of_source([path, path], name)["row_id"]) == {row_id(10 * i + k) for k in range(4)}


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "s.parquet"
    write_sidecar(big_table(20_000, 3), path)
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptArtifact, match=r"s\.parquet"):
        rows_of_source([path], "raw/s000")


def test_what_is_no_sidecar_is_refused(tmp_path):
    with pytest.raises(InputDataError, match="no sidecar"):
        rows_of_source([tmp_path / "absent.parquet"], "raw/a")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InputDataError, match="no sidecar"):
        rows_of_source([tmp_path / "text.parquet"], "raw/a")
    pq.write_table(pa.table({"row_id": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(InputDataError, match="other columns"):
        tally(tmp_path / "other.parquet", "v")
    with pytest.raises(InputDataError, match="origins"):
        write_sidecar(pa.table({"row_id": ["x"]}), tmp_path / "s.parquet")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "s.parquet"
    write_sidecar(rows((2, ["raw/a"], [])), path)
    before = path.read_bytes()
    monkeypatch.setattr(sidecar.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_sidecar(rows((3, ["raw/b"], [])), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.parquet"]


def test_holders_of_single_rows_over_generations(tmp_path):
    paths = {name: tmp_path / f"{name}.parquet" for name in ("raw", "syn", "more", "other")}
    write_sidecar(rows((5, ["raw/a"], [])), paths["raw"])
    write_sidecar(
        rows((2, ["synthetic/s"], [row_id(1)]), (1, ["synthetic/s"], [row_id(4)]), start=10), paths["syn"], ancestors=[paths["raw"]]
    )
    write_sidecar(rows((3, ["synthetic/t"], [row_id(10)]), start=20), paths["more"], ancestors=[paths["syn"]])
    write_sidecar(rows((3, ["raw/b"], []), start=30), paths["other"])
    found = holders(paths, [row_id(1), row_id(2)], "notice:7")
    assert [(f.version, f.n_rows, f.derived_rows) for f in found] == [("raw", 2, 0), ("syn", 0, 2), ("more", 0, 3)]
    assert holders(paths, [row_id(77)], "notice:8") == []
