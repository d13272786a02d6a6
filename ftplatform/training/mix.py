"""The safety mix: refusals spread through the training rows, so that tuning on benign data does not unlearn them (mode M5)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def with_safety_mix(train: pa.Table, safety: pa.Table, share: float, seed: int) -> pa.Table:
    """`train` with rows of `safety` at random places, so that they make up `share` of the result.

    Safety rows are drawn without replacement as long as they last, then again from the start. Same inputs and seed: same table.

    Args:
        train: the dataset's training rows, at least one.
        safety: refusal rows, at least one if `share` is not 0.
        share: in [0, 1).

    Raises:
        ValueError: on a share outside [0, 1), or no safety rows.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of the safety mix must be in [0, 1), not {share}")
    wanted = round(train.num_rows * share / (1 - share))
    if wanted == 0:
        return train
    if safety.num_rows == 0:
        raise ValueError("the safety mix has no rows")
    rng = np.random.default_rng(seed)
    rounds = -(-wanted // safety.num_rows)
    drawn = np.concatenate([rng.permutation(safety.num_rows) for _ in range(rounds)])[:wanted]
    together = pa.concat_tables([train, safety.take(pa.array(drawn))])
    return together.take(pa.array(rng.permutation(together.num_rows)))
