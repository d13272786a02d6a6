"""How near each eval item is to a batch of new rows, and whether the failed items are nearer than the passed ones.

**Texts** are user turns, normalized; system text, templates in it and answers are left out by role. Similarity is the cosine of
TF-IDF vectors over character 3- to 5-grams (inside words), which needs no model and survives inflection and typing errors.

**Specificity** of a row for an item: its similarity to the item, less its similarity to the most similar item of another family. A
row about the same subject is near to many items; a paraphrase is near to one. An item's score is its largest specificity.

**Test**: the one-sided rank test of failed against passed scores, stratified by topic (Mann-Whitney within each topic, combined
with van Elteren's weights). A remedial batch is about the topic that failed, so without strata the failed items are nearer to
every honest batch; on banking77 and clinc150 the unstratified test then alarms nearly always.

**Pairs**: a failed item and a row that is nearer to it than to any other family, with a similarity above the 99.5th percentile of
pairs of eval items of different families. Honest batches on the topic hold such pairs too; they name what the test found. A
percentile within the topic would be stricter, and blind where a topic holds duplicates that nobody declared a family.

Sources: H. B. Mann and D. R. Whitney, Ann. Math. Statist. 18 (1947) 50; Ph. van Elteren, Bull. Inst. Internat. Statist. 37 (1960)
351, as in E. L. Lehmann, Nonparametrics (1975), section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.rows.normalize import normalize
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]

#: Texts compared at a time: a block against 5,000 items is 40 MB.
_BLOCK = 2048
#: Texts of the batch from which document frequencies are learned.
_SAMPLE = 20_000
#: Items among which the threshold is calibrated; their similarities to each other are held at once.
_CALIBRATION_ITEMS = 3000


@dataclass(frozen=True)
class Threshold:
    """Similarities of eval items of different families to each other.

    Attributes:
        similarity: the percentile over pairs.
        nearest: the percentile over items of the similarity to the nearest item, which rows that are no copies hardly ever reach.
        pairs: pairs it was taken over.
    """

    similarity: float
    nearest: float
    pairs: int


@dataclass(frozen=True)
class Nearness:
    """Attributes:
    scores: largest specificity of each item, shape (items,); -1 for an item without text.
    pairs: frame (item, row, similarity, specificity) of the pairs above the threshold, most specific first; positions in the
        tables, one line for each.
    nearest: the same columns, the most specific row of each failed item, whatever its similarity.
    threshold: what a pair was compared with; None if there are too few items to calibrate one, then there are no pairs.
    """

    scores: NDArray[np.float64]
    pairs: pl.DataFrame
    nearest: pl.DataFrame
    threshold: Threshold | None


def item_texts(items: pa.Table) -> pl.Series:
    """Normalized user text of each item, its turns joined; null where there is none."""
    spoken = _user_turns(items).group_by("row", maintain_order=True).agg(pl.col("text").str.join(" "))
    rows = pl.DataFrame({"row": pl.int_range(items.num_rows, eager=True)})
    return rows.join(spoken, on="row", how="left", maintain_order="left")["text"]


def nearness(
    batch: pa.Table,
    texts: pl.Series,
    *,
    families: NDArray[np.int64],
    failed: NDArray[np.bool_],
    percentile: float,
) -> Nearness:
    """Compare items with a batch.

    Args:
        batch: table of `ROW_SCHEMA`. Each user turn counts, and all of them together.
        texts: `item_texts` of n items, at least one not null.
        families: codes, shape (n,). failed: shape (n,); pairs are listed for these.
        percentile: of the threshold, a share.

    Time grows with items times rows, memory with the pairs found.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    said = _batch_texts(batch)
    # scikit-learn's stub knows only float64 here, its documentation float32 too.
    settings: dict[str, Any] = {"lowercase": False, "dtype": np.float32}
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, **settings)
    sample = said["text"].gather_every(max(1, -(-len(said) // _SAMPLE)))
    known = np.flatnonzero(texts.is_not_null().to_numpy())
    kept = texts.gather(known)
    vectorizer.fit([*kept, *sample])
    vectors = _vectors(vectorizer, kept)
    threshold = _calibrate(vectors, families[known], percentile)
    scores = np.full(len(texts), -1.0)
    best = np.full(len(known), -1.0, dtype=np.float32)
    wanted = np.flatnonzero(failed[known])
    nearest = pl.DataFrame(schema=_PAIRS)
    found: list[pl.DataFrame] = []
    for start, block in _blocks(vectorizer, said["text"]):
        similarity = (vectors @ block.T).toarray()
        specificity = similarity - _other_families(similarity, families[known])
        np.maximum(best, specificity.max(axis=1), out=best)
        rows = said["row"].slice(start, similarity.shape[1])
        closest = _pairs(known, rows, similarity, specificity, (wanted, specificity[wanted].argmax(axis=1)))
        nearest = _first(pl.concat([nearest, closest]), ["item"])
        if threshold is not None:
            near = (similarity > threshold.similarity) & (specificity > 0)
            item, column = np.nonzero(near[wanted])
            found.append(_pairs(known, rows, similarity, specificity, (wanted[item], column)))
    scores[known] = best
    # One row can hold an item in a turn and again in all its turns together.
    pairs = _first(pl.concat(found) if found else pl.DataFrame(schema=_PAIRS), ["item", "row"])
    return Nearness(scores, pairs, nearest, threshold)


_PAIRS = {"item": pl.Int64, "row": pl.Int64, "similarity": pl.Float64, "specificity": pl.Float64}


def stratified_rank_test(
    scores: NDArray[np.float64], failed: NDArray[np.bool_], strata: NDArray[np.int64]
) -> tuple[float, int, float]:
    """One-sided van Elteren test that failed items score higher than passed ones of the same stratum.

    Strata without failed or without passed items say nothing. Normal approximation with ties; one stratum gives the Mann-Whitney
    test without continuity correction.

    Args:
        scores, failed, strata: shape (n,).

    Returns:
        p-value, failed items that have a passed one in their stratum, and the chance that a failed item scores higher than a passed
        one of its stratum (ties half; NaN without such items). The p-value is 1 where nothing can be compared.
    """
    from scipy.stats import norm

    frame = pl.DataFrame({"score": scores, "failed": failed, "stratum": strata}).with_columns(
        n=pl.len().over("stratum"), f=pl.col("failed").sum().over("stratum")
    )
    frame = frame.filter((pl.col("f") > 0) & (pl.col("f") < pl.col("n")))
    if frame.is_empty():
        return 1.0, 0, float("nan")
    frame = frame.with_columns(rank=pl.col("score").rank("average").over("stratum"))
    per = frame.group_by("stratum").agg(
        pl.col("n", "f").first().cast(pl.Float64),
        rank_sum=pl.col("rank").filter("failed").sum(),
        spread=(pl.col("rank") - pl.col("rank").mean()).pow(2).sum(),
    )
    n, f = per["n"].to_numpy(), per["f"].to_numpy()
    weight = 1 / (n + 1)
    excess = per["rank_sum"].to_numpy() - f * (n + 1) / 2
    variance = float((weight**2 * f * (n - f) / (n * (n - 1)) * per["spread"].to_numpy()).sum())
    wins, comparisons = per["rank_sum"].to_numpy() - f * (f + 1) / 2, f * (n - f)
    p = float(norm.sf(float((weight * excess).sum()) / np.sqrt(variance))) if variance > 0 else 1.0
    return p, int(f.sum()), float(wins.sum() / comparisons.sum())


def _pairs(
    items: NDArray[np.int64],
    rows: pl.Series,
    similarity: Floats,
    specificity: Floats,
    at: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> pl.DataFrame:
    """The pairs `at` these places of the matrices, as `_PAIRS`; `items` and `rows` are the positions behind their axes."""
    return pl.DataFrame(
        {
            "item": items[at[0]],
            "row": rows.gather(at[1]),
            "similarity": similarity[at].astype(np.float64),
            "specificity": specificity[at].astype(np.float64),
        }
    )


def _first(pairs: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The most specific pair of each key, most specific first."""
    ordered = pairs.sort(["specificity", "item", "row"], descending=[True, False, False])
    return ordered.unique(key, keep="first", maintain_order=True)


def _user_turns(rows: pa.Table) -> pl.DataFrame:
    said = turns(rows, Role.USER)
    frame = pl.DataFrame({"row": said["row"], "text": pl.Series(normalize(said["content"]), dtype=pl.String)})
    return frame.filter(pl.col("text") != "")


def _batch_texts(batch: pa.Table) -> pl.DataFrame:
    """(row, text): every user turn, and all turns of a row together where there are several."""
    said = _user_turns(batch)
    together = said.group_by("row", maintain_order=True).agg(pl.col("text").str.join(" "), turns=pl.len())
    return pl.concat([said, together.filter(pl.col("turns") > 1).select("row", "text")])


def _vectors(vectorizer: Any, texts: pl.Series) -> csr_matrix:
    return vectorizer.transform(texts.to_list())


def _blocks(vectorizer: Any, texts: pl.Series) -> Iterator[tuple[int, csr_matrix]]:
    for start in range(0, len(texts), _BLOCK):
        yield start, _vectors(vectorizer, texts.slice(start, _BLOCK))


def _other_families(similarity: Floats, families: NDArray[np.int64]) -> Floats:
    """For each item and text: the text's similarity to the nearest item of another family; shape of `similarity` (items, texts)."""
    nearest = families[similarity.argmax(axis=0)]
    own = families[:, None] == nearest[None, :]
    # Of another family than the nearest there may be none: then nothing competes.
    second = np.where(own, np.float32(0), similarity).max(axis=0)
    return np.where(own, second[None, :], similarity.max(axis=0)[None, :])


def _calibrate(vectors: csr_matrix, families: NDArray[np.int64], percentile: float) -> Threshold | None:
    least = round(1 / (1 - percentile))  # fewer pairs do not reach the percentile
    chosen = np.unique(np.linspace(0, len(families) - 1, min(len(families), _CALIBRATION_ITEMS)).astype(np.int64))
    similarity = (vectors[chosen] @ vectors[chosen].T).toarray()
    different = families[chosen][:, None] != families[chosen][None, :]
    values = similarity[np.triu(different, 1)]
    if len(values) < least:
        return None
    nearest = np.where(different, similarity, np.float32(0)).max(axis=1)
    return Threshold(float(np.quantile(values, percentile)), float(np.quantile(nearest, percentile)), len(values))
