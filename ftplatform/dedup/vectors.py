"""TF-IDF vectors of texts, by characters or by words: what stands in for a model where none is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

#: Bytes per character n-gram, and buckets they are hashed into (Weinberger et al. 2009).
_WIDTH = 4
_BITS = 18
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Attributes:
    matrix: scipy CSR, float32, (n, words), rows of length 1 (or zero).
    words: what each column stands for, most frequent first.
    """

    matrix: Any
    words: list[str]


def char_tfidf(texts: pl.Series) -> Any:
    """TF-IDF of hashed character 4-grams (bytes of the lower-case UTF-8 text, blanks around it).

    Returns:
        scipy CSR matrix, float32, (n, 2**18), rows of length 1 (or zero for an empty text).
    """
    from scipy import sparse

    parts = [_char_counts(texts.slice(start, _CHUNK)) for start in range(0, len(texts), _CHUNK)]
    counts = sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, 1 << _BITS), dtype=np.float32)
    return _tfidf(counts)


def word_tfidf(texts: pl.Series, *, min_rows: int = 2, max_words: int = 20_000) -> WordVectors:
    r"""TF-IDF of lower-case words (``\w+``) that occur in at least `min_rows` texts, the most frequent `max_words` of them."""
    from scipy import sparse

    index = pl.Series("row", np.arange(len(texts)), pl.Int64)
    words = pl.DataFrame({"row": index, "word": texts.str.to_lowercase().str.extract_all(r"\w+")}).explode("word").drop_nulls()
    counted = words.group_by("row", "word").len("count")
    vocabulary = (
        counted.group_by("word")
        .agg(rows=pl.len())
        .filter(pl.col("rows") >= min_rows)
        .sort("rows", "word", descending=[True, False])
        .head(max_words)
        .with_row_index("column")
    )
    cells = counted.join(vocabulary, on="word").sort("row", "column")
    counts = sparse.csr_matrix(
        (cells["count"].to_numpy().astype(np.float32), (cells["row"].to_numpy(), cells["column"].to_numpy())),
        shape=(len(texts), len(vocabulary)),
    )
    return WordVectors(_tfidf(counts), vocabulary["word"].to_list())


def distance_to_centroid(vectors: Any) -> NDArray[np.float64]:
    """One minus the cosine between each row of a CSR matrix and their mean, shape (n,); 1 for a zero row."""
    centroid = np.asarray(vectors.mean(axis=0)).ravel()
    length = np.linalg.norm(centroid)
    return 1.0 - vectors @ (centroid / length) if length > 0 else np.ones(vectors.shape[0])


def _tfidf(counts: Any) -> Any:
    """Damped counts times smoothed inverse document frequency, rows of length 1."""
    from scipy import sparse

    matrix = counts.copy()
    matrix.data = (1 + np.log(matrix.data)).astype(np.float32)
    frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
    weight = (np.log((1 + matrix.shape[0]) / (1 + frequency)) + 1).astype(np.float32)
    matrix.data *= weight[matrix.indices]
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0).astype(np.float32)
    return (sparse.diags_array(scale) @ matrix).tocsr().astype(np.float32)


def _char_counts(texts: pl.Series) -> Any:
    from scipy import sparse

    padded = pl.select(pl.concat_str(pl.lit(" "), texts.str.to_lowercase(), pl.lit(" "))).to_series()
    array = pa.array(padded.to_arrow(), pa.large_string())
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]].astype(np.uint32)
    grams = np.zeros(max(0, len(content) - _WIDTH + 1), np.uint32)
    for k in range(_WIDTH):
        grams = (grams << np.uint32(8)) | content[k : k + len(grams)]
    # Fibonacci hashing: the upper bits of a product with 2**32 / golden ratio.
    buckets = (grams * np.uint32(2654435769)) >> np.uint32(32 - _BITS)
    lengths = np.diff(bounds)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    # A gram that reaches into the next text belongs to neither.
    whole = owner[: len(grams)] == owner[_WIDTH - 1 :] if len(grams) else np.zeros(0, bool)
    owner, buckets = owner[: len(grams)][whole], buckets[whole]
    ones = np.ones(len(owner), np.float32)
    counts = sparse.coo_matrix((ones, (owner, buckets)), shape=(len(lengths), 1 << _BITS)).tocsr()
    counts.sum_duplicates()
    return counts
