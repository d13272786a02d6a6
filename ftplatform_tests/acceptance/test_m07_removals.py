"""M7 on real data: what naive near-deduplication removes, and what ours does with the very same pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from ftplatform.dedup import diff
from ftplatform.dedup.clusters import SimilarPairs, cluster_ids, cluster_weights, keep_k, representatives
from ftplatform.dedup.near import NearDedup, near_duplicates
from ftplatform.dedup.provenance import provenance_union
from ftplatform.dedup.representative_bias import representative_bias
from ftplatform.dedup.sensitivity import threshold_sensitivity
from ftplatform.dedup.slices import floors, slice_membership
from ftplatform.dedup.survival import slice_survival, survival_table
from ftplatform.verdict import Decision
from ftplatform_tests import real_data
from ftplatform_tests.tables import row, table


class CharacterPairs:
    """All pairs of texts with Jaccard similarity of character 5-gram sets >= threshold, exactly, by a sparse product."""

    def __init__(self, texts: list[str], threshold: float) -> None:
        grams = [sorted({t[i : i + 5] for i in range(max(1, len(t) - 4))}) for t in (text.lower() for text in texts)]
        numbers = {gram: k for k, gram in enumerate(sorted({gram for found in grams for gram in found}))}
        indices = np.array([numbers[gram] for found in grams for gram in found])
        offsets = np.concatenate([[0], np.cumsum([len(found) for found in grams])])
        self._sets = sparse.csr_matrix((np.ones(len(indices), np.float32), indices, offsets), (len(texts), len(numbers)))
        self._sizes = np.diff(offsets)
        parts, turned = [], self._sets.T.tocsr()
        for start in range(0, len(texts), 2_000):
            common = (self._sets[start : start + 2_000] @ turned).tocoo()
            left, right = common.row.astype(np.int64) + start, common.col.astype(np.int64)
            similarity = common.data / (self._sizes[left] + self._sizes[right] - common.data)
            wanted = (left < right) & (similarity >= threshold)
            parts.append((left[wanted], right[wanted], similarity[wanted].astype(float)))
        self.pairs = SimilarPairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def similarity(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        common = np.asarray(self._sets[left].multiply(self._sets[right]).sum(axis=1)).ravel()
        return common / (self._sizes[left] + self._sizes[right] - common)


def keep_first(n: int, pairs: SimilarPairs) -> np.ndarray:
    """The usual way: a row goes if an earlier row that stays is similar. Position of the most similar kept row, -1 for kept rows."""
    stays, keeper = np.ones(n, bool), np.full(n, -1)
    best = np.zeros(n)
    order = np.lexsort((pairs.left, pairs.right))
    for i, j, s in zip(pairs.left[order], pairs.right[order], pairs.similarity[order], strict=True):
        if stays[i]:
            stays[j] = False
            if s > best[j]:
                best[j], keeper[j] = s, i
    # The nearest kept row may come later.
    for i, j, s in zip(*pairs, strict=True):
        for one, other in ((i, j), (j, i)):
            if not stays[one] and stays[other] and s > best[one]:
                best[one], keeper[one] = s, other
    return keeper


def test_xstest_naive_dedup_deletes_one_side_of_contrast_pairs(shared_data: Path) -> None:
    prompts = real_data.read_csv(shared_data / "xstest" / "xstest_prompts.csv.gz")
    texts, labels = [p["prompt"] for p in prompts], np.array([p["label"] for p in prompts])
    found = CharacterPairs(texts, 0.5)
    keeper = keep_first(len(texts), found.pairs)
    gone = np.flatnonzero(keeper >= 0)
    crossed = int((labels[gone] != labels[keeper[gone]]).sum())
    # Exact similarity; with MinHash estimates of it 42 and 39 were counted.
    assert (len(gone), crossed) == (40, 38)

    # Ours, with the very pairs of the naive run: what may go is what is left of them inside a label.
    same = labels[found.pairs.left] == labels[found.pairs.right]
    cluster = cluster_ids(len(texts), found.pairs.left[same], found.pairs.right[same])
    cover = representatives(cluster, found.similarity, keep_k(np.bincount(cluster)), threshold=0.5)
    removed = np.flatnonzero(~cover.kept)
    assert len(removed) < 10
    assert (labels[removed] == labels[cover.keeper[removed]]).all()


def test_xstest_contrast_pairs_are_kept_because_their_answers_differ(shared_data: Path) -> None:
    prompts = real_data.read_csv(shared_data / "xstest" / "xstest_prompts.csv.gz")
    labels = {p["prompt"]: p["label"] for p in prompts}
    loose = NearDedup(threshold=0.3)  # word 3-grams of short prompts: a contrast pair differs in one word of seven

    def crossed(pairs: pa.Table, rows: pa.Table, one: str, other: str) -> int:
        asked = [messages[0]["content"] for messages in rows["messages"].to_pylist()]
        label = {i: labels[text] for i, text in zip(rows["row_id"].to_pylist(), asked, strict=True)}
        return sum(label[a] != label[b] for a, b in zip(pairs[one].to_pylist(), pairs[other].to_pylist(), strict=True))

    # The prompts alone, as if nothing depended on the answer.
    blind = table(row(text) for text in labels)
    merged = near_duplicates(blind, settings=loose).removed
    assert crossed(merged, blind, "row_id", "kept_row_id") > 0.5 * merged.num_rows > 10
    rows = table(row(text, "No." if label == "unsafe" else "Sure.") for text, label in labels.items())
    result = near_duplicates(rows, settings=loose)
    assert crossed(result.removed, rows, "row_id", "kept_row_id") == 0
    assert crossed(result.conflicts, rows, "row_id", "other_row_id") > 10


class Banking:
    """The training part of banking77, once."""

    def __init__(self, data: Path) -> None:
        records = real_data.read_csv(data / "banking77" / "train.csv.gz")
        self.texts = [r["text"] for r in records]
        self.intents = np.array([r["category"] for r in records])
        self.rows = table(row(r["text"], r["category"], slices=[r["category"]], source="banking77") for r in records)
        self.found = CharacterPairs(self.texts, 0.5)

    def same_intent(self) -> np.ndarray:
        pairs = self.found.pairs
        same = self.intents[pairs.left] == self.intents[pairs.right]
        return cluster_ids(len(self.texts), pairs.left[same], pairs.right[same])

    def after(self, kept: np.ndarray) -> pa.Table:
        return self.rows.filter(pa.array(kept))


@pytest.fixture(scope="module")
def banking(shared_data: Path) -> Banking:
    return Banking(shared_data)


def test_banking77_naive_dedup_edits_the_intents(banking: Banking) -> None:
    keeper = keep_first(len(banking.texts), banking.found.pairs)
    gone = np.flatnonzero(keeper >= 0)
    share = {name: float((keeper[banking.intents == name] >= 0).mean()) for name in np.unique(banking.intents)}
    assert len(gone) / len(keeper) == pytest.approx(0.174, abs=0.01)
    assert share["get_disposable_virtual_card"] == pytest.approx(0.42, abs=0.03)
    assert share["contactless_not_working"] == pytest.approx(0.03, abs=0.005)
    assert (banking.intents[gone] != banking.intents[keeper[gone]]).mean() == pytest.approx(0.12, abs=0.02)
    verdict = slice_survival(banking.rows, banking.after(keeper < 0))
    assert verdict.decision is Decision.FAIL
    assert "get_disposable_virtual_card" in {e["slice"] for e in verdict.evidence}


def test_banking77_ours_keeps_the_slices_and_never_merges_across_intents(banking: Banking) -> None:
    result = near_duplicates(banking.rows, settings=NearDedup(threshold=0.5))
    intent = dict(zip(banking.rows["row_id"].to_pylist(), banking.intents.tolist(), strict=True))
    pairs = list(zip(result.removed["row_id"].to_pylist(), result.removed["kept_row_id"].to_pylist(), strict=True))
    assert len(pairs) > 100
    assert all(intent[one] == intent[other] for one, other in pairs)
    assert slice_survival(banking.rows, result.kept).decision is Decision.PASS
    assert provenance_union(banking.rows, result.kept, result.removed).decision is Decision.PASS


def test_banking77_weights_instead_of_deletion(banking: Banking) -> None:
    membership = slice_membership(banking.rows)
    cluster = banking.same_intent()
    cover = representatives(cluster, banking.found.similarity, np.ones(int(cluster.max()) + 1, np.int64), threshold=0.5)
    # The same clusters, once thinned to their representatives and once weighed.
    deleted = survival_table(banking.rows, banking.after(cover.kept))
    weights = cluster_weights(cover.keeper, membership=membership, limits=floors(membership, ()))
    assert len(weights.weights) == len(banking.texts)  # no wording is gone
    assert weights.weights.min() > 0
    assert float(cover.kept.mean()) < weights.mean < 1
    shares = membership.with_columns(weight=pl.Series(weights.weights).gather(membership["row"])).group_by("slice")
    both = shares.agg(share=pl.col("weight").mean(), total=pl.col("weight").sum(), rows=pl.len()).join(deleted, on="slice")
    assert len(both) == 77
    assert (both["share"] >= 1 - both["removed_share"] - 1e-9).all()
    assert (both["total"] >= both["floor"] - 1e-9).all()
    # The intent hit hardest gets back the most.
    worst = both.sort("removed_share").row(-1, named=True)
    assert worst["share"] - (1 - worst["removed_share"]) > 0.05


def test_banking77_keep_shortest_is_seen_and_the_medoid_is_not_blamed(banking: Banking) -> None:
    cluster = banking.same_intent()
    lengths = np.array([len(text) for text in banking.texts])
    order = np.lexsort((lengths, cluster))
    first = order[np.flatnonzero(np.append(True, np.diff(cluster[order]) > 0))]
    shortest = first[cluster]
    medoid = representatives(cluster, banking.found.similarity, np.ones(int(cluster.max()) + 1, np.int64)).keeper
    decisions = []
    for keeper in (shortest, medoid):
        gone = np.flatnonzero(keeper != np.arange(len(keeper)))
        close = banking.found.similarity(gone, keeper[gone])
        pairs = diff.removals(
            banking.rows, gone, banking.rows, keeper[gone], close, diff.NEAR_TRAIN, slice_membership(banking.rows)
        )
        verdict = representative_bias(banking.rows, pairs)
        decisions.append((verdict.decision, verdict.details["features"]["length"]["d"]))
    assert decisions[0][0] is Decision.WARN
    assert decisions[0][1] > 1
    assert abs(decisions[1][1]) < 0.5


def test_gpteacher_the_authors_filter_stands_on_cliffs(shared_data: Path) -> None:
    before = real_data.gpteacher(shared_data, "dedupe-only")

    def kept_at(threshold: float) -> np.ndarray:
        if threshold == 1:
            return np.ones(before.num_rows, bool)
        after = real_data.gpteacher(shared_data, f"similarity-{threshold:.1f}")
        return pl.Series(before["row_id"]).is_in(pl.Series(after["row_id"]).unique().implode()).to_numpy()

    verdict = threshold_sensitivity(before, kept_at, threshold=0.8, offsets=(-0.2, -0.1, 0.0, 0.1, 0.2))
    assert verdict.decision is Decision.WARN
    assert "request, wikipedia" in {e["slice"] for e in verdict.evidence}
    table_ = {(s["slice"], s["threshold"]): s["survivors"] for s in verdict.details["survivors"]}
    assert table_["request, wikipedia", 0.6] == 20
    assert table_["request, wikipedia", 1.0] == 248
