"""`resample` has the teacher write again from real seeds; `mix` puts real rows in."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.errors import InputDataError
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.synthesis.teachers.interface import Teacher


def real_seeds(reference: pa.Table, n: int, seed: int = 0) -> pa.Table:
    """At most `n` rows with user turns, each user or conversation as often as any other, so that nobody's habits fill the seeds."""
    spoken = _rows_with_text(reference)
    shuffled = np.random.default_rng(seed).permutation(spoken)
    units = pl.Series(reference["group"])
    drawn = pl.DataFrame({"row": shuffled, "unit": units.gather(pl.Series(shuffled))})
    # The first of every unit, then the second of those that have one, and so on; a row without a group is a unit of its own.
    turn = pl.when(pl.col("unit").is_null()).then(0).otherwise(pl.int_range(pl.len()).over("unit"))
    fair = drawn.with_columns(turn=turn).sort("turn", maintain_order=True)["row"]
    return reference.take(pa.array(fair.head(n).to_numpy()))


def resample(teacher: Teacher, reference: pa.Table, n: int, *, seeds: int = 2000, seed: int = 0) -> pa.Table:
    """`n` new rows of `teacher`, seeded with real inputs.

    Args:
        reference: real inputs the teacher may see; measure the result on others.
        seeds: real rows it is given at most.

    Raises:
        InputDataError: if the reference holds no user turn; what the teacher raises.
    """
    chosen = real_seeds(reference, seeds, seed)
    if not chosen.num_rows:
        raise InputDataError("The real inputs hold no user turn to seed a teacher with.", remedy="Give rows with user turns.")
    return teacher.write(chosen, n, seed)


def mix(candidate: pa.Table, real: pa.Table, share: float, seed: int = 0) -> pa.Table:
    """`candidate` with real rows in place of as many of its own, so that `share` of the result is real; the number of rows stays.

    Args:
        real: rows that may be trained on (they need answers to be), not those the result is measured on.
        share: above 0, at most 1.

    Raises:
        ValueError: if the share is out of range. InputDataError: if there are too few real rows for it; nothing is repeated.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1")
    n = candidate.num_rows
    wanted = round(share * n)
    usable = _rows_with_text(real)
    if len(usable) < wanted:
        raise InputDataError(
            f"{share:.0%} of {n:,} rows are {wanted:,} real ones, and there are {len(usable):,}.",
            remedy="Lower the share, or collect more real inputs; repeating them would hide how few there are.",
        )
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(n)[: n - wanted])
    added = np.sort(rng.permutation(usable)[:wanted])
    return pa.concat_tables([candidate.take(pa.array(kept)), real.take(pa.array(added)).cast(candidate.schema)])


def _rows_with_text(rows: pa.Table) -> np.ndarray:
    """Positions of the rows with a user turn that says something."""
    said = turns(rows, Role.USER)
    frame = pl.DataFrame({"row": said["row"], "text": said["content"]})
    return frame.filter(pl.col("text").str.contains(r"\S"))["row"].unique(maintain_order=True).to_numpy()
