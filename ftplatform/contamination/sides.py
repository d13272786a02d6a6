"""The two sides of every comparison: training rows and eval sets. One that is not there is no evidence of anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ftplatform.verdict import Decision, Verdict


def nothing_to_compare(train: pa.Table, evals: Mapping[str, pa.Table], common: Mapping[str, Any]) -> Verdict | None:
    """Insufficient evidence if a side has no rows, else None.

    Args:
        common: what the check says in every verdict of its own; its remedy is replaced.
    """
    empty = sorted(name for name, table in evals.items() if not table.num_rows)
    if train.num_rows and evals and not empty:
        return None
    missing = "no eval set" if not evals else f"eval set(s) without rows: {', '.join(empty)}" if empty else "no training rows"
    remedy = "Materialize the training rows and every eval set first."
    return Verdict(
        decision=Decision.INSUFFICIENT_EVIDENCE, summary=f"Nothing to compare: {missing}.", n=0, **{**common, "remedy": remedy}
    )
