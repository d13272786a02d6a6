"""The order that keeps both promises: exact copies out, eval reserved, train deduplicated against eval, then within itself.

Dedup before the reserve would hide from the eval what dedup removed (mode M7); dedup after it, within train only, would leave near
copies of eval items in training (mode M12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.dedup import diff
from ftplatform.dedup.lsh import nearest_above
from ftplatform.dedup.near import NearDedup, near_duplicates
from ftplatform.dedup.protection import rows_to_return
from ftplatform.dedup.reserve import ReserveRule, families, reserved_rows
from ftplatform.dedup.semantic import Encoder
from ftplatform.dedup.slices import SliceSpec, floors, slice_membership
from ftplatform.dedup.texts import conversation_texts
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets
from ftplatform.kernels.similarity import jaccard
from ftplatform.rows.exact import drop_exact_duplicates
from ftplatform.statistics.hypergeometric import excess_removal_p
from ftplatform.statistics.multiple import benjamini_hochberg

_MAX_LOOKS = 5

#: (train, eval) -> table with `row_id` of training rows that must go and `eval_row_id` of an eval row each one gives away.
Leaks = Callable[[pa.Table, pa.Table], pa.Table]


@dataclass(frozen=True)
class SplitResult:
    """Attributes:
    train, eval: tables of `ROW_SCHEMA`.
    removal_diff: table of `diff.REMOVAL_SCHEMA`; train + eval + removals = rows of the corpus.
    repeated: the same for training rows that count for less because another says nearly the same.
    weights: table of `near.WEIGHT_SCHEMA` of the training rows.
    conflicts: table of `diff.CONFLICT_SCHEMA`: near duplicates kept apart because their final answers differ.
    stats: counts for metadata.
    """

    train: pa.Table
    eval: pa.Table
    removal_diff: pa.Table
    repeated: pa.Table
    weights: pa.Table
    conflicts: pa.Table
    stats: Mapping[str, Any]


def split(
    corpus: pa.Table,
    slices: Sequence[SliceSpec] = (),
    reserve: ReserveRule | None = None,
    dedup: NearDedup | None = None,
    *,
    against_eval: float = 0.7,
    leaks: Leaks,
    near_leaks: Leaks | None = None,
    encode: Encoder | None = None,
) -> SplitResult:
    """Split a corpus into training and eval rows and remove what is near-duplicate.

    Training rows that give away a reserved row (`leaks`, or Jaccard similarity of word 3-gram sets >= `against_eval`) are removed.
    Where that would push a slice below its floor, or take significantly more of it than of the rest (`NearDedup.balance_q`), the
    reserve yields instead: the eval rows concerned go back to training with their family.

    Args:
        corpus: table of `ROW_SCHEMA`.
        slices: declared slices; tags of rows count as well.
        reserve, dedup: settings.
        against_eval: similarity from which a training row counts as a copy of an eval row.
        leaks: which training rows give away an eval row word for word: the comparison the contamination check will make, so that
            the split cannot pass one rule and fail the other.
        near_leaks: the same for rows that give one away nearly or in part.
        encode: see `near_duplicates`.
    """
    reserve, dedup = reserve or ReserveRule(), dedup or NearDedup()
    rows, copies = drop_exact_duplicates(corpus)
    family = families(rows, per_source=reserve.per_source)
    reserved = reserved_rows(rows, family, slices, reserve)
    wanted = int(reserved.sum())
    eval_side = _EvalSide(rows, against_eval, dedup, leaks, near_leaks)
    membership = slice_membership(rows, slices)
    while True:
        partner, similarity, exact = eval_side.given_away(reserved)
        limits = floors(membership, slices, dedup.floor, dedup.must_keep_floor)
        withdrawn = _withdrawals(membership, limits, dedup.balance_q, reserved, partner)
        if not len(withdrawn):
            break
        reserved &= ~np.isin(family, family[withdrawn])

    evaluation = rows.filter(pa.array(reserved))
    while True:
        gone = np.flatnonzero(partner >= 0)
        left = ~reserved
        left[gone] = False
        near = near_duplicates(rows.filter(pa.array(left)), slices, dedup, lost=rows.take(pa.array(gone)), encode=encode)
        # Removing near duplicates changes what is common in training, and with it what gives an eval row away.
        if near_leaks is None or not len(eval_side.add_leaks(near_leaks, near.kept, evaluation, partner, similarity)):
            break
    diffs = [diff.copies(copies, rows)]
    for reason, chosen in ((diff.EXACT_EVAL, gone[exact[gone]]), (diff.NEAR_EVAL, gone[~exact[gone]])):
        diffs.append(diff.removals(rows, chosen, rows, partner[chosen], similarity[chosen], reason, membership))
    stats = {
        "corpus_rows": corpus.num_rows,
        "exact_copies": copies.num_rows,
        "eval_rows": evaluation.num_rows,
        "eval_rows_returned_for_slices": wanted - evaluation.num_rows,
        "removed_exact_match_of_eval": int(exact[gone].sum()),
        "removed_near_duplicate_of_eval": int((~exact[gone]).sum()),
        "removed_near_duplicate_of_train": near.removed.num_rows,
        "restored_for_slices": near.stats["restored_for_slices"],
        "counting_for_less": near.repeated.num_rows,
        "conflicting_pairs": near.conflicts.num_rows,
        "train_rows": near.kept.num_rows,
        "mean_weight": round(near.stats["mean_weight"], 4),
    }
    return SplitResult(
        train=near.kept,
        eval=evaluation,
        removal_diff=pa.concat_tables([*diffs, near.removed]),
        repeated=near.repeated,
        weights=near.weights,
        conflicts=near.conflicts,
        stats=stats,
    )


class _EvalSide:
    """Compares training with reserved rows, for one reserve after another; sketches are computed once."""

    def __init__(self, rows: pa.Table, threshold: float, dedup: NearDedup, leaks: Leaks, near_leaks: Leaks | None) -> None:
        self._rows, self._threshold, self._leaks, self._near_leaks = rows, threshold, leaks, near_leaks
        self._sets = shingle_sets(conversation_texts(rows))
        self._signatures = minhash(self._sets, dedup.num_perm, dedup.seed)
        self._at = pl.DataFrame({"row_id": rows["row_id"]}).with_row_index("at")

    def given_away(self, reserved: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """For each row: the eval row it gives away (-1: none), their similarity, and whether word for word. Shapes (n,)."""
        n = len(reserved)
        partner, similarity, exact = np.full(n, -1, np.int64), np.zeros(n), np.zeros(n, bool)
        train, evaluation = np.flatnonzero(~reserved), np.flatnonzero(reserved)
        if not len(evaluation) or not len(train):
            return partner, similarity, exact
        nearest, close = nearest_above(
            self._sets.take(train),
            self._signatures[train],
            self._sets.take(evaluation),
            self._signatures[evaluation],
            self._threshold,
        )
        met = nearest >= 0
        partner[train[met]], similarity[train[met]] = evaluation[nearest[met]], close[met]
        evaluated = self._rows.filter(pa.array(reserved))
        for leaks, word_for_word in ((self._leaks, True), (self._near_leaks, False)):
            # What is common in training decides what counts as a template, so what is left is looked at again.
            for _ in range(_MAX_LOOKS if leaks is not None else 0):
                assert leaks is not None
                told = self.add_leaks(leaks, self._rows.filter(pa.array(~reserved & (partner < 0))), evaluated, partner, similarity)
                if not len(told):
                    break
                exact[told] = word_for_word
        return partner, similarity, exact

    def add_leaks(
        self, leaks: Leaks, train: pa.Table, evaluation: pa.Table, partner: NDArray[np.int64], similarity: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Enter what gives an eval row away, in place; returns the positions of these training rows."""
        found = leaks(train, evaluation)
        told, item = (self._positions(pl.Series(found[column])) for column in ("row_id", "eval_row_id"))
        partner[told], similarity[told] = item, jaccard(self._sets, told, self._sets, item)
        return told

    def _positions(self, ids: pl.Series) -> NDArray[np.int64]:
        joined = pl.DataFrame({"row_id": ids}).join(self._at, on="row_id", how="left", maintain_order="left")
        return joined["at"].to_numpy().astype(np.int64)


def _withdrawals(
    membership: pl.DataFrame,
    limits: Mapping[str, int],
    q: float | None,
    reserved: NDArray[np.bool_],
    partner: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Eval rows that must go back so that no slice loses too much (`survival.slice_survival`); of each such slice as few as may do."""
    slices = membership.with_columns(
        reserved=pl.Series(reserved).gather(membership["row"]), partner=pl.Series(partner).gather(membership["row"])
    ).filter(~pl.col("reserved"))
    counted = slices.group_by("slice").agg(size=pl.len(), left=(pl.col("partner") < 0).sum())
    back: list[int] = []
    for name, size, left in counted.sort("slice").iter_rows():
        missing = min(size, limits[name]) - left
        if missing > 0:
            lost = slices.filter((pl.col("slice") == name) & (pl.col("partner") >= 0)).sort("row")
            back += lost["partner"].head(missing).to_list()
    total, gone = int((~reserved).sum()), int((~reserved & (partner >= 0)).sum())
    hit = counted.filter((pl.col("left") < pl.col("size")) & (pl.col("size") < total)).sort("slice")
    if q is None or not len(hit):
        return np.array(sorted(set(back)), np.int64)
    counts = {name: (size, size - left, total - size, gone - (size - left)) for name, size, left in hit.iter_rows()}
    rejected, _ = benjamini_hochberg([excess_removal_p(*count) for count in counts.values()], q)
    for name in (name for name, reject in zip(counts, rejected, strict=True) if reject):
        lost = slices.filter((pl.col("slice") == name) & (pl.col("partner") >= 0))
        # First the eval rows that cost the slice most.
        costs = lost.group_by("partner").len().sort("len", "partner", descending=[True, False])
        enough = int((costs["len"].cum_sum() < rows_to_return(counts[name], counts[name][1], q)).sum()) + 1
        back += costs["partner"].head(enough).to_list()
    return np.array(sorted(set(back)), np.int64)
