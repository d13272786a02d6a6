"""Was a slice thinned more than everything else? The question behind `slice_survival` (mode M7)."""

from __future__ import annotations

from typing import SupportsIndex

from ftplatform.statistics.intervals import check_count


def excess_removal_p(
    slice_size: SupportsIndex, slice_removed: SupportsIndex, rest_size: SupportsIndex, rest_removed: SupportsIndex
) -> float:
    """One-sided p-value of "rows of the slice are removed no more often than the rows outside it" (Fisher's exact test).

    P(at least `slice_removed` of the slice are among the removed), when all removed rows are a random draw from slice and rest
    together. Count exact-unique rows: copies make removals dependent and the corpus-wide rate meaningless.

    Args:
        slice_size, slice_removed: rows in the slice (at least 1) and how many of them were removed.
        rest_size, rest_removed: the same for the rows outside the slice. With `rest_size` 0 there is nothing to compare with and
            the p-value is 1.

    Returns:
        p in (0, 1]. A slice of three can never be significant against a removal rate of 28 % at .01: give tiny slices a floor.

    Raises:
        ValueError: on an empty slice, a negative count or more removed than there were.

    Source: R. A. Fisher, The Design of Experiments (1935), section 15. By scipy.
    """
    from scipy.stats import hypergeom

    size = check_count(slice_size, "slice_size", least=1)
    removed = check_count(slice_removed, "slice_removed")
    others = check_count(rest_size, "rest_size")
    others_removed = check_count(rest_removed, "rest_removed")
    if removed > size or others_removed > others:
        raise ValueError(
            f"more rows removed than there were: {removed} of {size} in the slice, {others_removed} of {others} outside"
        )
    # sf of a distribution that is all on one point can round to a hair above 1.
    return min(1.0, float(hypergeom.sf(removed - 1, size + others, removed + others_removed, size)))
