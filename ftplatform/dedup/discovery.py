"""Slices nobody declared: small clusters of alike conversations, rare first questions, and the rows the base model finds hard."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.dedup.identity import unique_positions
from ftplatform.dedup.texts import conversation_texts
from ftplatform.dedup.vectors import WordVectors, word_tfidf
from ftplatform.errors import InputDataError
from ftplatform.rows.masking import mask_text
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

#: Centers closer than this (one minus the cosine) are parts of one cluster.
_JOINED = 0.3
#: A word that names a cluster is there at least this many times as frequent as in all rows: "how" tells nothing.
_LIFT = 5.0
_SCHEMA = {"row_id": pl.String, "slice": pl.String}


@dataclass(frozen=True, slots=True)
class DiscoveryRule:
    """What counts as a slice worth watching.

    Attributes:
        max_slices: clusters named at most, the most coherent ones.
        min_rows: smaller clusters are chance.
        max_share: larger ones (share of all rows) are no rarity.
        coherence: least mean cosine between the rows of a cluster and their center.
        hardest: share of rows with the highest loss that make a slice of their own.
        seed: of the clustering.
    """

    max_slices: int = 20
    min_rows: int = 5
    max_share: float = 0.05
    coherence: float = 0.5
    hardest: float = 0.1
    seed: int = 0


def discover_slices(
    rows: pa.Table, losses: NDArray[np.floating] | None = None, *, rule: DiscoveryRule | None = None
) -> pl.DataFrame:
    """Small coherent clusters of rows, by the first question and by the whole conversation, named by their telling words.

    Rare tags need no discovery: every tag is a slice already (`slices.slice_membership`). The result depends on the distinct rows
    and the rule, not on the order of the rows.

    Args:
        rows: table of `ROW_SCHEMA`; clustered are its exact-unique rows.
        losses: mean loss of the base model on each row, shape (rows,), NaN where unknown.

    Returns:
        Frame with `row_id` and `slice`, sorted, to be given to `slice_membership` and the survival checks. Names begin with
        ``question:``, ``conversation:`` or are ``high loss``; a word is used in a name only if a third of the cluster's rows hold it
        and it is of letters only; a cluster without a telling word is left out.

    Raises:
        InputDataError: one loss for each row is needed.
    """
    rule = rule or DiscoveryRule()
    if losses is not None and np.shape(losses) != (rows.num_rows,):
        raise InputDataError(f"losses have shape {np.shape(losses)} for {rows.num_rows} rows.", remedy="Give one for each row.")
    at = unique_positions(rows).to_numpy()
    order = pl.Series(rows["row_id"]).gather(at).arg_sort().to_numpy()
    at = at[order]
    unique = rows.take(pa.array(at))
    ids = pl.Series(unique["row_id"])
    found = [*_clusters("question", _first_questions(unique), rule), *_clusters("conversation", conversation_texts(unique), rule)]
    found.sort(key=lambda cluster: (-cluster.coherence, cluster.name))
    parts = [pl.DataFrame(schema=_SCHEMA)]
    covered: list[set[int]] = []
    named: Counter[str] = Counter()
    for cluster in found:
        members = set(cluster.rows.tolist())
        # A single-turn row's question is its conversation: the same cluster is found twice.
        if len(covered) < rule.max_slices and not any(len(members & other) > 0.5 * len(members | other) for other in covered):
            covered.append(members)
            named[cluster.name] += 1
            name = cluster.name if named[cluster.name] == 1 else f"{cluster.name} ({named[cluster.name]})"
            parts.append(pl.DataFrame({"row_id": ids.gather(cluster.rows)}).with_columns(slice=pl.lit(name)))
    if losses is not None:
        parts.append(_hard(ids, np.asarray(losses, np.float64)[at], rule))
    return pl.concat(parts).unique().sort("slice", "row_id")


@dataclass(frozen=True, slots=True)
class _Cluster:
    name: str
    rows: NDArray[np.int64]
    coherence: float


def _clusters(kind: str, texts: pl.Series, rule: DiscoveryRule) -> list[_Cluster]:
    n = len(texts)
    most = max(rule.min_rows, math.floor(rule.max_share * n))
    if n < 4 * rule.min_rows:
        return []
    # Numbers are somebody's order or account, not what a conversation is about.
    vectors = word_tfidf(texts.str.replace_all(r"\w*\d\w*", " "))
    points = _reduced(vectors.matrix, rule.seed)
    if points is None:
        return []
    labels = _grouped(points, min(256, max(2, math.isqrt(2 * n))), rule.seed)
    overall = np.asarray((vectors.matrix > 0).mean(axis=0)).ravel()
    found: list[_Cluster] = []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        if not rule.min_rows <= len(members) <= most:
            continue
        center = points[members].mean(axis=0)
        length = float(np.linalg.norm(center))
        # Of unit vectors, the mean cosine with their center is the length of their mean.
        if length < rule.coherence:
            continue
        name = _name(vectors, members, overall)
        if name:
            found.append(_Cluster(f"{kind}: {name}", members, length))
    return found


def _reduced(matrix: Any, seed: int, dimensions: int = 64) -> NDArray[np.float64] | None:
    """Latent semantic coordinates of length 1 (zero rows stay zero); None where there are too few words."""
    from sklearn.utils.extmath import randomized_svd

    if min(matrix.shape) < 3:
        return None
    directions, strengths, _ = randomized_svd(matrix, min(dimensions, min(matrix.shape) - 1), random_state=seed)
    points = directions * strengths
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 1e-9)


def _grouped(points: NDArray[np.float64], k: int, seed: int) -> NDArray[np.int64]:
    """Cluster of each point, -1 for a zero row: k-means with too many centers, those alike then joined (average linkage).

    Too many, because a small group gets a center of its own only when the large ones have enough; joined, because k-means would
    otherwise cut a small group to pieces.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from sklearn.cluster import KMeans, MiniBatchKMeans

    labels = np.full(len(points), -1, np.int64)
    some = np.flatnonzero(points.any(axis=1))
    k = min(k, len(np.unique(points[some].round(4), axis=0)))
    if k < 2:
        labels[some] = 0
        return labels
    # Beyond this many rows a pass over all of them for each step takes too long.
    method = (KMeans if len(some) <= 20_000 else MiniBatchKMeans)(k, n_init="auto", random_state=seed).fit(points[some])
    joined = fcluster(linkage(method.cluster_centers_, "average", "cosine"), _JOINED, "distance")
    labels[some] = joined[method.labels_] - 1
    return labels


def _name(vectors: WordVectors, members: NDArray[np.int64], overall: NDArray[np.float64]) -> str:
    """The three words that the cluster holds far oftener than other rows, longer ones first among equals; "" where none does."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    here = np.asarray((vectors.matrix[members] > 0).mean(axis=0)).ravel()
    columns = np.flatnonzero((here >= 1 / 3) & (here >= _LIFT * overall))
    score = (here[columns] * np.log(here[columns] / overall[columns])).round(9).tolist()
    words = [vectors.words[column] for column in columns]
    best = sorted(zip(score, words, strict=True), key=lambda item: (-item[0], -len(item[1]), item[1]))
    # A word of letters only cannot be somebody's number; what the mask would hide is not shown either.
    told = [
        word for _, word in best if len(word) > 1 and word.isalpha() and word not in ENGLISH_STOP_WORDS and mask_text(word) == word
    ]
    return " ".join(word[:24] for word in told[:3])


def _first_questions(rows: pa.Table) -> pl.Series:
    """The first user message of each row, "" where there is none."""
    asked = turns(rows, Role.USER)
    first = (
        pl.DataFrame({name: asked[name] for name in ("row", "turn", "content")})
        .group_by("row")
        .agg(pl.col("content").sort_by("turn").first())
    )
    index = pl.DataFrame({"row": np.arange(rows.num_rows)}, schema={"row": pl.Int64})
    return index.join(first, on="row", how="left", maintain_order="left")["content"].fill_null("")


def _hard(ids: pl.Series, losses: NDArray[np.float64], rule: DiscoveryRule) -> pl.DataFrame:
    known = np.flatnonzero(np.isfinite(losses))
    if len(known) * rule.hardest < rule.min_rows:
        return pl.DataFrame(schema=_SCHEMA)
    hard = known[losses[known] >= np.quantile(losses[known], 1 - rule.hardest)]
    # Where most losses are equal there is no hardest tenth.
    if len(hard) > 2 * rule.hardest * len(known):
        return pl.DataFrame(schema=_SCHEMA)
    return pl.DataFrame({"row_id": ids.gather(hard)}).with_columns(slice=pl.lit("high loss"))
