from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from ftplatform.engine.errors import IndexDamaged
from ftplatform.engine.files import atomic
from ftplatform.engine.pipeline import Settings
from ftplatform.engine.sketches import Sketch, chosen_digests, chosen_sets
from ftplatform.engine.sketching import Columns, Request, sketch_part
from ftplatform.errors import InputDataError
from ftplatform.kernels.header import SketchMismatch, read_signatures
from ftplatform.kernels.lsh import band_keys
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets, text_hashes
from ftplatform_tests.unit.engine.corpora import write_parts

HEADER = Settings().header


def request(file: Path, folder: Path, columns: Columns | None = None) -> Request:
    return Request(file, folder, HEADER, columns or Columns(), 0, 1)


def texts(count: int) -> list[str | None]:
    random = np.random.default_rng(3)
    made: list[str | None] = [" ".join(f"w{v}" for v in random.integers(50, size=random.integers(30))) for _ in range(count)]
    made[5], made[7] = None, "?!"
    return made


def test_a_sketch_holds_what_the_kernels_compute(tmp_path: Path) -> None:
    column = texts(40_000)  # three batches
    (part,) = write_parts(tmp_path, column)
    sketch, made = sketch_part(request(part, tmp_path))
    assert made
    assert sketch.rows == len(column)
    sets = shingle_sets(pa.array(column))
    signatures = minhash(sets)
    ids, stored = read_signatures(pq.read_table(sketch.table), HEADER, "it")
    np.testing.assert_array_equal(stored, signatures)
    assert ids.to_pylist()[:3] == ["r0", "r1", "r2"]
    np.testing.assert_array_equal(sketch.column("sequence"), text_hashes(pa.array(column)))
    np.testing.assert_array_equal(sketch.column("shingles"), sets.sizes)
    for band, key in enumerate(band_keys(signatures, HEADER.bands, HEADER.rows)):
        np.testing.assert_array_equal(sketch.column(f"band_{band:03d}"), key)
    rows = np.array([0, 5, 7, 16_383, 16_384, 39_999])
    np.testing.assert_array_equal(chosen_digests((sketch,), rows), signatures[rows][:, :64].astype(np.uint8))
    looked_up, wanted = chosen_sets((sketch,), rows), sets.take(rows)
    np.testing.assert_array_equal(looked_up.values, wanted.values)
    np.testing.assert_array_equal(looked_up.offsets, wanted.offsets)


def test_rows_are_looked_up_through_several_sketches(tmp_path: Path) -> None:
    column = texts(60)
    parts = write_parts(tmp_path, column, [10, 10, 31])
    sketches = tuple(sketch_part(request(part, tmp_path))[0] for part in parts)
    rows, sets = np.array([9, 10, 30, 31, 59]), shingle_sets(pa.array(column))
    np.testing.assert_array_equal(chosen_sets(sketches, rows).values, sets.take(rows).values)
    assert len(chosen_sets(sketches, rows[:0])) == 0
    assert len(chosen_digests(sketches, rows[:0])) == 0


def test_a_sketch_that_exists_is_not_made_again(tmp_path: Path) -> None:
    (part,) = write_parts(tmp_path, texts(20))
    first, _ = sketch_part(request(part, tmp_path))
    written = first.table.stat().st_mtime_ns
    assert sketch_part(request(part, tmp_path)) == (first, False)
    assert first.table.stat().st_mtime_ns == written
    renamed = part.rename(part.with_name("other.parquet"))
    assert sketch_part(request(renamed, tmp_path))[0].name == first.name  # bytes count, not names
    (changed,) = write_parts(tmp_path, texts(21))
    assert sketch_part(request(changed, tmp_path))[1]
    other = Request(renamed, tmp_path, Settings(seed=2).header, Columns(), 0, 1)
    assert sketch_part(other)[1]


def test_a_table_without_its_sets_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table takes its name last, so that a crash between the two files leaves nothing that looks complete."""
    (part,) = write_parts(tmp_path, texts(20))
    order: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda draft, target: (order.append(Path(target).suffix), replace(draft, target)))
    sketch_part(request(part, tmp_path))
    assert order == [".sets", ".parquet"]


def test_atomic_leaves_nothing_of_a_failed_write(tmp_path: Path) -> None:
    target = tmp_path / "it"
    target.write_text("old")
    with pytest.raises(TypeError), atomic(target) as draft:
        draft.write_bytes("half")  # type: ignore[arg-type]  # fails after the file was opened
    assert [file.name for file in tmp_path.iterdir()] == ["it"]
    assert target.read_text() == "old"


@pytest.mark.parametrize("ending", [".arrow", ".feather", ".csv", ".jsonl"])
def test_other_formats_give_the_same(tmp_path: Path, ending: str) -> None:
    column = [text or "" for text in texts(30)]
    (part,) = write_parts(tmp_path, column)
    table, other = pq.read_table(part), tmp_path / f"part{ending}"
    if ending == ".csv":
        pyarrow.csv.write_csv(table, other)
    elif ending == ".jsonl":
        table.to_pandas().to_json(other, orient="records", lines=True)
    else:
        pyarrow.feather.write_feather(table, str(other))
    a, b = sketch_part(request(part, tmp_path))[0], sketch_part(request(other, tmp_path))[0]
    assert a.name != b.name
    assert pq.read_table(a.table).equals(pq.read_table(b.table))


def test_numbered_rows_and_columns_of_other_names(tmp_path: Path) -> None:
    file = tmp_path / "part.parquet"
    pq.write_table(pa.table({"n": pa.array([7, 8], pa.int32()), "body": pa.array(["a b c d", "e"]).dictionary_encode()}), file)
    sketch, _ = sketch_part(request(file, tmp_path, Columns("n", "body")))
    assert sketch.ids().to_pylist() == [7, 8]
    assert sketch.column("shingles").tolist() == [2, 1]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["a"]}, "no column row_id"),
        ({"row_id": ["a"]}, "no column text"),
        ({"row_id": ["a", None], "text": ["a", "b"]}, "1 rows without an id"),
        ({"row_id": ["a"], "text": [1]}, "texts of .* type int64"),
        ({"row_id": [1.5], "text": ["a"]}, "ids of .* type double"),
    ],
)
def test_parts_that_cannot_be_sketched(tmp_path: Path, columns: dict[str, list[object]], said: str) -> None:
    file = tmp_path / "part.parquet"
    pq.write_table(pa.table(columns), file)
    with pytest.raises(InputDataError, match=said):
        sketch_part(request(file, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["part.parquet"]


def test_what_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "page.html").write_text("<p>")
    for name in ("cut.parquet", "page.html", "missing.parquet"):
        with pytest.raises(InputDataError, match=name):
            sketch_part(request(tmp_path / name, tmp_path))


def test_a_part_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftplatform.engine import sketching

    (part,) = write_parts(tmp_path, texts(20))
    batches = sketching._batches

    def touched(asked: Request) -> Iterator[tuple[pa.Array, pa.Array]]:
        os.utime(part, ns=(1, 1))
        return batches(asked)

    monkeypatch.setattr(sketching, "_batches", touched)
    with pytest.raises(InputDataError, match="changed while it was read"):
        sketch_part(request(part, tmp_path))
    monkeypatch.undo()
    assert sketch_part(request(part, tmp_path))[1], "what was made of changing bytes must not be taken for their sketch"


def test_damage_and_other_headers_are_told(tmp_path: Path) -> None:
    (part,) = write_parts(tmp_path, texts(20))
    sketch, _ = sketch_part(request(part, tmp_path))
    sketch.require(HEADER)
    with pytest.raises(SketchMismatch, match="seed 1 instead of 2"):
        sketch.require(Settings(seed=2).header)
    with pytest.raises(IndexDamaged, match="20 rows instead of 3"):
        Sketch(sketch.folder, sketch.name, 3, "x").require(HEADER)
    sketch.sets.write_bytes(sketch.sets.read_bytes()[:100])
    with pytest.raises(IndexDamaged, match="cannot be read"):
        sketch.require(HEADER)
    sketch.sets.unlink()
    with pytest.raises(IndexDamaged, match="cannot be read"):
        sketch.require(HEADER)
