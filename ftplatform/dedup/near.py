"""Near-duplicate rows: MinHash candidates, exact verification, one medoid kept per neighborhood, slices kept above their floor.

Or nothing is removed and every row counts for less the more others say the same (`NearDedup.method`): what repeats no longer
dominates the loss, and no wording is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.dedup import diff
from ftplatform.dedup.clusters import SimilarPairs, cluster_weights
from ftplatform.dedup.conflicts import Targets, compatible, targets
from ftplatform.dedup.lsh import Pairs, similar_pairs
from ftplatform.dedup.protection import balance, keep_floors
from ftplatform.dedup.semantic import Encoder, embed, semantic_cover
from ftplatform.dedup.slices import FLOOR, MUST_KEEP_FLOOR, SliceSpec, floors, slice_membership
from ftplatform.dedup.texts import conversation_texts, inputs_and_answers
from ftplatform.errors import InputDataError
from ftplatform.kernels.lsh import banding
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import ShingleSets, shingle_sets
from ftplatform.kernels.similarity import jaccard
from ftplatform.rows.exact import drop_exact_duplicates

_MAX_ROUNDS = 8

#: What each row counts in training; `cluster` is the row id of the medoid it lies with (its own: alone, or the medoid).
WEIGHT_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("cluster", pa.string(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class NearDedup:
    """Settings of near-deduplication.

    Attributes:
        threshold: Jaccard similarity of word 3-gram sets from which two rows are near duplicates; 1.0 removes exact copies only.
        num_perm: MinHash permutations.
        floor, must_keep_floor: no slice is thinned below this many exact-unique rows.
        balance_q: no slice loses significantly more than the rows outside it, at this false discovery rate (the test of
            `slice_survival`); None lets the similarity decide alone.
        seed: of the permutations.
        method: ``remove`` near duplicates, or keep them all with ``weights`` (`clusters.cluster_weights`).
        semantic_threshold: cosine similarity of embeddings from which rows of the same final answer are near duplicates as well.
    """

    threshold: float = 0.8
    num_perm: int = 128
    floor: int = FLOOR
    must_keep_floor: int = MUST_KEEP_FLOOR
    balance_q: float | None = 0.05
    seed: int = 1
    method: Literal["remove", "weights"] = "remove"
    semantic_threshold: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputDataError(f"similarity threshold {self.threshold} is not in (0, 1]", remedy="Use a value such as 0.8.")


@dataclass(frozen=True)
class NearResult:
    """What near-deduplication kept and removed.

    Attributes:
        kept: rows in their old order; `origins` and `parents` are the union over the rows each stands for, `first_seen_at` the
            earliest.
        removed: table of `diff.REMOVAL_SCHEMA`, one row per removed row.
        repeated: the same for rows that stay and count for less; empty if near duplicates are removed.
        weights: table of `WEIGHT_SCHEMA`, one row per kept row; all 1 if near duplicates are removed.
        conflicts: table of `diff.CONFLICT_SCHEMA`: near duplicates kept apart because their final answers differ.
        stats: counts for metadata.
    """

    kept: pa.Table
    removed: pa.Table
    repeated: pa.Table
    weights: pa.Table
    conflicts: pa.Table
    stats: Mapping[str, Any]


def near_duplicates(
    rows: pa.Table,
    slices: Sequence[SliceSpec] = (),
    settings: NearDedup | None = None,
    *,
    lost: pa.Table | None = None,
    encode: Encoder | None = None,
) -> NearResult:
    """Remove rows that another kept row stands for, or let them count for less.

    Compared is the conversation without its system message. A row is removed only if a kept row has exact Jaccard similarity
    >= threshold with it *and* a compatible final answer (`conflicts.compatible`), so no row is lost through a chain of others.
    Kept is the medoid (largest summed similarity to its neighbors), not the shortest or first; ties go to the smaller row id, which
    favors no length. A slice that would fall below its floor, or lose significantly more than the rest, gets back the removed rows
    farthest from what it has left (`protection`).

    Args:
        rows: table of `ROW_SCHEMA`. Rows with the same id are merged first.
        slices: declared slices; tags of rows count as well.
        lost: distinct rows of the same corpus that were removed before, for the balance between slices.
        encode: embeds texts; needed with `NearDedup.semantic_threshold`.

    Raises:
        InputDataError: a semantic threshold without an encoder.

    Source: A. Broder 1997 (MinHash), Indyk and Motwani 1998 (LSH), T. Gonzalez 1985 (farthest point).
    """
    settings = settings or NearDedup()
    unique, copies = drop_exact_duplicates(rows)
    n = unique.num_rows
    membership, removing = slice_membership(unique, slices), settings.method == "remove"
    limits, restored = floors(membership, slices, settings.floor, settings.must_keep_floor), 0
    if settings.threshold < 1 and n > 1:
        cover = _cover(unique, settings)
        if settings.semantic_threshold is not None:
            _cover_by_meaning(unique, cover, settings.semantic_threshold, encode)
        if removing:
            lost = lost if lost is not None else rows.slice(0, 0)
            restored = _protect(cover, membership, limits, slices, settings, lost)
    else:
        nothing = np.zeros(0, np.int64)
        cover = _Cover(np.arange(n), np.ones(n), shingle_sets(pl.Series([], dtype=pl.String)), nothing, nothing, np.zeros(0))
    keeper, near = cover.keeper, np.flatnonzero(cover.keeper != np.arange(n))
    reason = diff.NEAR_TRAIN if removing else diff.REPEATED
    differing = diff.removals(unique, near, unique, keeper[near], cover.similarity[near], reason, membership)
    removed = [differing, diff.copies(copies, unique)] if removing else [diff.copies(copies, unique)]
    kept = diff.merge_provenance(unique, keeper) if removing else unique
    weights = None if removing else cluster_weights(keeper, membership=membership, limits=limits)
    conflicts = diff.conflicts(unique, cover.conflict_left, cover.conflict_right, cover.conflict_similarity)
    stats = {
        "rows": rows.num_rows,
        "exact_copies": copies.num_rows,
        "near_duplicates": len(near),
        "kept": kept.num_rows,
        "restored_for_slices": restored,
        "conflicting_pairs": conflicts.num_rows,
        "largest_cluster": int(np.bincount(keeper, minlength=1).max()),
        "threshold": settings.threshold,
        "recall_at_threshold": _recall(settings),
        "mean_weight": 1.0 if weights is None else weights.mean,
        "slices_raised_to_their_floor": [] if weights is None else list(weights.raised),
    }
    return NearResult(
        kept=kept,
        removed=pa.concat_tables(removed),
        repeated=differing.slice(0, 0) if removing else differing,
        weights=_weights(kept) if weights is None else _weights(kept, unique["row_id"].take(pa.array(keeper)), weights.weights),
        conflicts=conflicts,
        stats=stats,
    )


def _weights(rows: pa.Table, clusters: pa.ChunkedArray | None = None, weights: NDArray[np.float64] | None = None) -> pa.Table:
    ids = rows["row_id"]
    weights = np.ones(rows.num_rows) if weights is None else weights
    return pa.table([ids, ids if clusters is None else clusters, pa.array(weights)], schema=WEIGHT_SCHEMA)


def _protect(
    cover: _Cover,
    membership: pl.DataFrame,
    limits: Mapping[str, int],
    slices: Sequence[SliceSpec],
    settings: NearDedup,
    lost: pa.Table,
) -> int:
    restored = keep_floors(cover.keeper, cover.similarity, cover.sets, membership, limits)
    if settings.balance_q is not None:
        gone: dict[str | None, int] = dict(slice_membership(lost, slices).group_by("slice").len().iter_rows())
        gone[None] = lost.num_rows
        restored += balance(cover.keeper, cover.similarity, cover.sets, membership, gone, settings.balance_q)
    return restored


def mergeable_pairs(rows: pa.Table, settings: NearDedup) -> SimilarPairs:
    """Pairs of rows that near-deduplication could merge: similar at `settings.threshold`, final answers compatible.

    Pairs are of the first rows of their `row_id` and of their words; copies of these have the same neighbors.

    Args:
        rows: table of `ROW_SCHEMA`.
    """
    first = pl.DataFrame({"row_id": rows["row_id"]}).with_row_index("at").unique("row_id", keep="first", maintain_order=True)["at"]
    unique = rows.take(first.to_arrow())
    sets, of = shingle_sets(conversation_texts(unique)), targets(*inputs_and_answers(unique))
    speakers, node_of, _ = _nodes(unique, sets, of)
    signatures = minhash(sets.take(speakers), settings.num_perm, settings.seed)
    pairs = similar_pairs(sets.take(speakers), signatures, settings.threshold)
    # Rows of the same words are a chain: one more pair for each.
    others = np.flatnonzero(speakers[node_of] != np.arange(unique.num_rows))
    left = np.concatenate([speakers[pairs.left], np.minimum(others, speakers[node_of[others]])])
    right = np.concatenate([speakers[pairs.right], np.maximum(others, speakers[node_of[others]])])
    similarity = np.concatenate([pairs.similarity, np.ones(len(others))])
    good = compatible(of, left, right, settings.threshold)
    at = first.to_numpy().astype(np.int64)
    left, right = at[np.minimum(left, right)[good]], at[np.maximum(left, right)[good]]
    return SimilarPairs(left, right, similarity[good])


def _recall(settings: NearDedup) -> float:
    bands, rows = banding(settings.threshold, settings.num_perm)
    return 1 - (1 - settings.threshold**rows) ** bands


def _cover_by_meaning(rows: pa.Table, cover: _Cover, threshold: float, encode: Encoder | None) -> None:
    """Let rows that still stand for themselves be represented by others of the same answer and meaning, in place.

    Only rows whose final answer is the same words are merged: embeddings hardly see a negation. Rows that a merged row stood for
    stand for themselves again.
    """
    if encode is None:
        raise InputDataError("semantic deduplication needs an encoder.", remedy="Give one, or leave out the semantic threshold.")
    n = len(cover.keeper)
    alone = np.flatnonzero(cover.keeper == np.arange(n))
    of = targets(*inputs_and_answers(rows))
    order = pl.Series(rows["row_id"]).gather(alone).arg_sort().to_numpy()
    rank = np.empty(len(alone), np.int64)
    rank[order] = np.arange(len(alone))
    vectors = embed(conversation_texts(rows).gather(alone), encode)
    found = semantic_cover(vectors, threshold, labels=of.answers[alone], rank=rank)
    cover.keeper[alone], cover.similarity[alone] = alone[found.keeper], found.similarity
    orphans = np.flatnonzero(cover.keeper[cover.keeper] != cover.keeper)
    cover.keeper[orphans], cover.similarity[orphans] = orphans, 1.0


@dataclass
class _Cover:
    """keeper[i] == i for a kept row, else the position of the row that stands for it, at similarity[i]."""

    keeper: NDArray[np.int64]
    similarity: NDArray[np.float64]
    sets: ShingleSets
    conflict_left: NDArray[np.int64]
    conflict_right: NDArray[np.int64]
    conflict_similarity: NDArray[np.float64]


def _cover(rows: pa.Table, settings: NearDedup) -> _Cover:
    """Which of the exact-unique `rows` stands for which, before any thought of slices."""
    texts = conversation_texts(rows)
    sets, of = shingle_sets(texts), targets(*inputs_and_answers(rows))
    speakers, nodes, rank = _nodes(rows, sets, of)
    weights = np.bincount(nodes, minlength=len(speakers)).astype(float)
    keeper, similarity, apart = _cover_nodes(sets.take(speakers), of.take(speakers), weights, rank, settings)
    return _Cover(
        keeper=speakers[keeper[nodes]],
        similarity=similarity[nodes],
        sets=sets,
        conflict_left=speakers[apart.left],
        conflict_right=speakers[apart.right],
        conflict_similarity=apart.similarity,
    )


def _nodes(rows: pa.Table, sets: ShingleSets, of: Targets) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row that speaks for each node, node of each row, rank of each node by the id of its speaker.

    Rows that are the same words in inputs and answer are one node: a template repeated a thousand times costs one comparison. Rows
    without any word (emoji, punctuation) are nobody's duplicate. The smallest row id speaks for the node.
    """
    wordless = np.where(sets.sizes == 0, np.arange(1, len(sets) + 1), 0).astype(np.uint64)
    by_id = pl.Series(rows["row_id"]).arg_sort().to_numpy().astype(np.int64)
    _, first, node_of = np.unique(
        np.stack([wordless, of.inputs, of.answers], axis=1)[by_id], axis=0, return_index=True, return_inverse=True
    )
    speakers = by_id[first]
    nodes = np.empty(len(by_id), np.int64)
    nodes[by_id] = node_of.ravel()
    return speakers, nodes, np.argsort(np.argsort(first, kind="stable"), kind="stable")


def _cover_nodes(
    sets: ShingleSets, of: Targets, weights: NDArray[np.float64], rank: NDArray[np.int64], settings: NearDedup
) -> tuple[NDArray[np.int64], NDArray[np.float64], Pairs]:
    """Keeper and similarity of each node, and the near-duplicate pairs kept apart by their answers."""
    n = len(sets)
    signatures = minhash(sets, settings.num_perm, settings.seed)
    keeper, similarity = np.arange(n), np.ones(n)
    conflicting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    alive = np.arange(n)
    # Buckets too large for all pairs are sampled; what is left after a round falls into smaller ones.
    for _ in range(_MAX_ROUNDS):
        pairs = similar_pairs(sets.take(alive), signatures[alive], settings.threshold)
        left, right = alive[pairs.left], alive[pairs.right]
        mergeable = compatible(of, left, right, settings.threshold)
        conflicting.append((left[~mergeable], right[~mergeable], pairs.similarity[~mergeable]))
        left, right, close = left[mergeable], right[mergeable], pairs.similarity[mergeable]
        kept = _dominating(left, right, close, weights, rank)
        _assign(keeper, similarity, kept, left, right, close)
        before, alive = len(alive), np.flatnonzero(keeper == np.arange(n))
        if not pairs.sampled or len(alive) == before:
            break
    _settle_orphans(keeper, similarity, sets, of, settings.threshold)
    left, right, close = (np.concatenate(parts) for parts in zip(*conflicting, strict=True))
    # Only what is still there on both sides was "kept apart".
    both = (keeper[left] == left) & (keeper[right] == right)
    _, once = np.unique(left[both] * n + right[both], return_index=True)
    return keeper, similarity, Pairs(left[both][once], right[both][once], close[both][once])


def _dominating(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    close: NDArray[np.float64],
    weights: NDArray[np.float64],
    rank: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Greedy independent dominating set of the graph, medoids first: True for kept. Every other node has a kept neighbor."""
    n = len(weights)
    ends, others = np.concatenate([left, right]), np.concatenate([right, left])
    score = np.bincount(ends, np.concatenate([close, close]) * weights[others], minlength=n)
    by_end = np.argsort(ends, kind="stable")
    neighbors = others[by_end]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=n))])
    kept = np.ones(n, bool)
    covered = np.zeros(n, bool)
    touched = np.unique(ends)
    for node in touched[np.lexsort((rank[touched], -score[touched]))].tolist():
        if not covered[node]:
            near = neighbors[offsets[node] : offsets[node + 1]]
            covered[near] = True
            kept[near] = False
    return kept


def _assign(
    keeper: NDArray[np.int64],
    similarity: NDArray[np.float64],
    kept: NDArray[np.bool_],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    close: NDArray[np.float64],
) -> None:
    """Point every node that is not kept to its most similar kept neighbor, in place."""
    ends, others, both = np.concatenate([left, right]), np.concatenate([right, left]), np.concatenate([close, close])
    edges = np.flatnonzero(~kept[ends] & kept[others])
    edges = edges[np.lexsort((-others[edges], both[edges]))]  # the last one written wins: most similar, then lowest position
    keeper[ends[edges]] = others[edges]
    similarity[ends[edges]] = both[edges]


def _settle_orphans(
    keeper: NDArray[np.int64], similarity: NDArray[np.float64], sets: ShingleSets, of: Targets, threshold: float
) -> None:
    """Rows whose keeper was itself removed in a later round move to that row's keeper if it is close enough, else come back."""
    n = len(keeper)
    while True:
        orphans = np.flatnonzero((keeper != np.arange(n)) & (keeper[keeper] != keeper))
        if not len(orphans):
            return
        heirs = keeper[keeper[orphans]]
        close = jaccard(sets, orphans, sets, heirs)
        good = (close >= threshold) & compatible(of, orphans, heirs, threshold)
        keeper[orphans] = np.where(good, heirs, orphans)
        similarity[orphans] = np.where(good, close, 1.0)
