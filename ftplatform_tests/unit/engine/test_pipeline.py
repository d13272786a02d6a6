"""The contract: whatever the parts and the executor, the result is that of one column in one memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.dedup_corpus import corpus, sources
from ftplatform.engine import partitioned
from ftplatform.engine.errors import PartFailed
from ftplatform.engine.executors import Executor, ProcessExecutor, SerialExecutor
from ftplatform.engine.pipeline import Settings, files_of, near_duplicates
from ftplatform.engine.sketching import Columns
from ftplatform.errors import InputDataError
from ftplatform.kernels.clusters import near_duplicate_clusters
from ftplatform.progress import listening
from ftplatform_tests.unit.engine.corpora import Text, assert_same, expected, write_parts
from ftplatform_tests.unit.kernels.test_clusters import crowded_texts

SENTENCE = "please cancel my order and send the money back to the card i paid with last week"
#: Rows that are often alike: a run of one sentence, with some of its words replaced; and rows without words.
_alike = st.tuples(st.integers(0, 8), st.integers(5, 17), st.lists(st.integers(0, 16), max_size=3)).map(
    lambda drawn: " ".join("other" if k in drawn[2] else word for k, word in enumerate(SENTENCE.split()[drawn[0] : drawn[1]]))
)
_texts: st.SearchStrategy[list[Text]] = st.lists(st.one_of(_alike, st.sampled_from(["", "?!", None, "Yes.", "yes"])), max_size=45)


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[Text], list[int]]:
    """Texts, and where they are cut into parts; parts may be empty."""
    texts = draw(_texts)
    return texts, sorted(draw(st.lists(st.integers(0, len(texts)), max_size=4)))


def check(texts: list[Text], cuts: list[int], executor: Executor, chosen: Settings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = write_parts(Path(folder), texts, cuts)
        # Two empty parts in one place are one file, given twice.
        summary = near_duplicates(parts, Path(folder) / "out", executor, chosen)
        wanted = expected(texts, chosen)
        assert_same(Path(folder) / "out", wanted)
        assert summary.rows == len(texts)
        assert summary.clusters == len(set(wanted["cluster"].to_pylist()))
        leftover = {path.name for path in Path(folder).iterdir()} - {part.name for part in parts}
        assert leftover == {"out"}


@settings(max_examples=60)
@given(drawn=corpora(), threshold=st.sampled_from([0.3, 0.5, 0.8, 1.0]), num_perm=st.sampled_from([32, 128]))
def test_any_small_corpus(drawn: tuple[list[Text], list[int]], threshold: float, num_perm: int) -> None:
    check(*drawn, SerialExecutor(), Settings(threshold, num_perm=num_perm))


@settings(max_examples=8)
@given(drawn=corpora())
def test_any_small_corpus_in_processes(processes: ProcessExecutor, drawn: tuple[list[Text], list[int]]) -> None:
    check(*drawn, processes, Settings(0.5))


@pytest.fixture(scope="module")
def planted(shared_data: Path) -> list[Text]:
    return corpus(sources(shared_data), 3000, seed=4)["text"].to_pylist()


def test_real_texts_with_planted_copies(executor: Executor, planted: list[Text]) -> None:
    check(planted, [100, 100, 1900], executor, Settings(0.7))
    assert len(set(expected(planted, Settings(0.7))["cluster"].to_pylist())) < 2800  # there was something to find


def test_boilerplate_crowds_every_bucket(executor: Executor) -> None:
    texts: list[Text] = [*crowded_texts(900, 120)]
    check(texts, [300, 900], executor, Settings(0.7))
    found = near_duplicate_clusters(pa.array(texts), 0.7)
    assert len(found.pairs.left) >= 0.98 * 120  # which only a second look at the crowd can find


def test_a_template_in_every_part(executor: Executor) -> None:
    body = " ".join(f"line{k}" for k in range(50))
    check([f"dear customer {i} {body} regards" for i in range(300)], [7, 120], executor, Settings(0.7))


def test_adv_parts_deduplicated_one_by_one_keep_copies_of_each_other(tmp_path: Path, planted: list[Text]) -> None:
    cuts = [1000, 2000]
    parts, wanted = write_parts(tmp_path, planted, cuts), expected(planted, Settings(0.7))
    alone = 0
    for part in parts:
        near_duplicates([part], tmp_path / "alone", SerialExecutor(), Settings(0.7))
        alone += len(set(pq.read_table(tmp_path / "alone")["cluster"].to_pylist()))
    summary = near_duplicates(parts, tmp_path / "out", SerialExecutor(), Settings(0.7))
    assert summary.clusters == len(set(wanted["cluster"].to_pylist()))
    assert alone > 1.05 * summary.clusters


def test_small_tasks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: list[Text]) -> None:
    """Key ranges, blocks of pairs and blocks of sets cut as small as those of a corpus of billions are large."""
    texts = [*planted[:600], *crowded_texts(260, 40)]
    monkeypatch.setattr(partitioned, "ROWS", 250)
    monkeypatch.setattr(partitioned, "PAIRS", 256)
    monkeypatch.setattr(partitioned, "SHINGLES", 20_000)
    stages: dict[str, int] = {}

    def told(stage: str, done: int, total: int | None) -> None:
        stages[stage] = max(stages.get(stage, 0), total or 0)

    with listening(told):
        near_duplicates(write_parts(tmp_path, texts, [77]), tmp_path / "out", SerialExecutor(), Settings(0.7))
    assert_same(tmp_path / "out", expected(texts, Settings(0.7)))
    assert stages["candidates"] == 4 * Settings(0.7).header.bands
    assert stages["candidates among crowds"] > 0
    assert min(stages["compare digests"], stages["compare sets"], stages["tell crowds apart"]) > 3


def test_the_same_part_twice_counts_twice(tmp_path: Path) -> None:
    (part,) = write_parts(tmp_path, [SENTENCE, "something else"])
    summary = near_duplicates([part, part], tmp_path / "out", SerialExecutor())
    assert (summary.rows, summary.clusters, summary.redundant) == (4, 2, 2)
    assert pq.read_table(tmp_path / "out")["cluster"].to_pylist() == ["r0", "r1", "r0", "r1"]


def test_no_rows_at_all(tmp_path: Path) -> None:
    near_duplicates([], tmp_path / "new" / "out", SerialExecutor())
    assert pq.read_table(tmp_path / "new" / "out").num_rows == 0


def test_ids_of_two_kinds(tmp_path: Path) -> None:
    for name, ids in (("a", pa.array([1])), ("b", pa.array(["1"]))):
        pq.write_table(pa.table({"row_id": ids, "text": [name]}), tmp_path / f"{name}.parquet")
    with pytest.raises(InputDataError, match=r"int64 in .*a\.parquet, large_string in .*b\.parquet"):
        near_duplicates(files_of([tmp_path]), tmp_path / "out", SerialExecutor())
    with pytest.raises(PartFailed, match=r"sketch of .*a\.parquet: .*no column line"):
        near_duplicates(files_of([tmp_path]), tmp_path / "out", SerialExecutor(), columns=Columns(text="line"))
    assert not (tmp_path / "out").exists()


def test_paths_that_hold_no_parts(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.parquet"):
        with pytest.raises(InputDataError, match=path.name):
            files_of([path])


@pytest.mark.parametrize(("threshold", "recall"), [(0.0, 0.98), (1.1, 0.98), (0.8, 1.0)])
def test_settings_out_of_range(threshold: float, recall: float) -> None:
    with pytest.raises(InputDataError, match=r"not in \(0, 1"):
        Settings(threshold, recall)
