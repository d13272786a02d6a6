"""M7 on the graph: what deduplication and other filters removed, and whether what is left still says it all."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.dedup import hardness, provenance, representative_bias, reviewed, sensitivity, survival
from ftplatform.defs.assets.corpora import LOSSES_FILE
from ftplatform.defs.assets.splits import slice_specs
from ftplatform.defs.checks import Check, Judging
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.plan import Plan
from ftplatform.defs.reviews import signoffs
from ftplatform.verdict import Verdict


def dedup_checks(plan: Plan) -> Iterator[Check]:
    """The checks of what a split removed, and `row_filter_guard` on the license filter of every corpus."""
    for asset in plan.lineage.assets:
        if family_of(asset) is Family.SPLITS:
            yield from _SplitChecks(plan, asset).all()
        elif family_of(asset) is Family.CORPORA:
            yield _row_filter_guard(plan, asset)


class _SplitChecks:
    """The checks of one split against the corpus it was made from."""

    def __init__(self, plan: Plan, asset: str) -> None:
        name = asset.split("/", 1)[1]
        self._asset, self._corpus = asset, asset_name(Family.CORPORA, name)
        self._dataset = plan.project.datasets[name]
        self._slices = slice_specs(self._dataset)
        self._deciding = _slices(plan, name)

    def all(self) -> Iterator[Check]:
        yield self._check(
            "slice_survival",
            survival.CHECK_VERSION,
            "No slice falls below its floor or loses more rows to near-deduplication than the rows outside it.",
            lambda judging: survival.slice_survival(
                self._before(judging), _train(judging), self._slices, moved=_moved(judging), q=judging.alpha
            ),
            statistical=True,
        )
        yield self._check(
            "hard_row_survival",
            hardness.CHECK_VERSION,
            "The rows that are hardest for the base model are not removed more often than the rest.",
            self._hard_row_survival,
            statistical=True,
            blocking=False,
        )
        yield self._check(
            "representative_bias",
            representative_bias.CHECK_VERSION,
            "Kept rows are not shorter, cleaner or friendlier than the rows they stand for.",
            lambda judging: representative_bias.representative_bias(self._before(judging), _removed(judging)),
            statistical=True,
            severity="warn",
            blocking=False,
        )
        yield self._check(
            "threshold_sensitivity",
            sensitivity.CHECK_VERSION,
            "No slice hangs on the exact value of the similarity threshold.",
            self._threshold_sensitivity,
            severity="warn",
            blocking=False,
        )
        yield self._check(
            "dedup_reviewed",
            reviewed.CHECK_VERSION,
            "Somebody has read a sample of what was removed and signed for it.",
            lambda judging: reviewed.dedup_reviewed(
                _removed(judging), signoffs(judging.store, self._asset), threshold=self._dataset.dedup.threshold
            ),
            severity="warn",
            blocking=False,
        )
        yield self._check(
            "provenance_union",
            provenance.CHECK_VERSION,
            "A kept row carries the origins of every row it stands for.",
            lambda judging: provenance.provenance_union(
                self._before(judging), _train(judging), _removed(judging), moved=_moved(judging)
            ),
        )

    def _check(
        self,
        name: str,
        version: str,
        description: str,
        judge: Callable[[Judging], Verdict],
        **options: Any,
    ) -> Check:
        return Check(
            name=name,
            asset=self._asset,
            judge=judge,
            version=version,
            description=description,
            looks_at=(self._corpus,),
            deciding={**self._deciding, "dedup": self._dataset.dedup.model_dump(mode="json")},
            **options,
        )

    def _before(self, judging: Judging) -> pa.Table:
        return judging.others[self._corpus].read_table("rows.parquet")

    def _hard_row_survival(self, judging: Judging) -> Verdict:
        before = self._before(judging)
        return hardness.hard_row_survival(before, _train(judging), self._losses(judging, before), moved=_moved(judging))

    def _losses(self, judging: Judging, before: pa.Table) -> NDArray[np.float64] | None:
        """Of each row of the corpus, copies alike; None without a model to ask."""
        if self._dataset.hardness_model is None:
            return None
        known = pl.DataFrame(pl.from_arrow(judging.others[self._corpus].read_table(LOSSES_FILE)))
        rows = pl.DataFrame({"row_id": before["row_id"]})
        return rows.join(known, on="row_id", how="left", maintain_order="left")["loss"].to_numpy()

    def _threshold_sensitivity(self, judging: Judging) -> Verdict:
        from ftplatform.dedup.near import NearDedup, mergeable_pairs

        before, settings = self._before(judging), self._dataset.dedup
        lowest = settings.threshold + min(sensitivity.OFFSETS)
        pairs = mergeable_pairs(before, NearDedup(threshold=max(lowest, 0.05), num_perm=settings.num_perm))
        return sensitivity.threshold_sensitivity(
            before, sensitivity.kept_from_pairs(before.num_rows, pairs), self._slices, threshold=settings.threshold
        )


def _row_filter_guard(plan: Plan, asset: str) -> Check:
    name = asset.split("/", 1)[1]

    def judge(judging: Judging) -> Verdict:
        return survival.row_filter_guard(
            judging.snapshot.read_table("before.parquet"),
            judging.snapshot.read_table("rows.parquet"),
            slice_specs(plan.project.datasets[name]),
            step="the license filter",
            q=judging.alpha,
        )

    return Check(
        name="row_filter_guard",
        asset=asset,
        judge=judge,
        version=survival.CHECK_VERSION,
        description="The license filter thins no slice below its floor or more than the rest.",
        statistical=True,
        deciding=_slices(plan, name),
    )


def _train(judging: Judging) -> pa.Table:
    return judging.snapshot.read_table("train.parquet")


def _moved(judging: Judging) -> pa.Table:
    return judging.snapshot.read_table("eval.parquet")


def _removed(judging: Judging) -> pa.Table:
    return judging.snapshot.read_table("removed.parquet")


def _slices(plan: Plan, dataset: str) -> dict[str, object]:
    return {"slices": {n: rule.model_dump(mode="json") for n, rule in plan.project.datasets[dataset].slices.items()}}
