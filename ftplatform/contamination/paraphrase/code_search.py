"""Sets of code: every pair of item and text is scored by its views, and against the other items that the text could be of.

Functions of one kind are as alike as rephrasings of one function, so that no level of similarity tells them apart. What does is
rivalry: a rephrasing is more like its own item than like any other of the set, in whatever language it is written. The comparison
with a cohort is how speaker verification normalizes scores (R. Auckenthaler et al., Score Normalization for Text-Independent Speaker
Verification Systems, Digital Signal Processing 10, 2000).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.contamination.paraphrase.code import VIEWS, CodeIndex, is_code
from ftplatform.contamination.paraphrase.rule import ParaphraseRule

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Similarities (texts x items) held at a time; at most 32 MiB.
_CELLS = 1 << 22
#: Columns that a comparison as code adds.
_ADDED = (*VIEWS, "structure")


@dataclass(frozen=True)
class CodeSet:
    """One eval set of code.

    Attributes:
        name: of the eval set.
        items: positions of its items in the search, ascending.
        families: of each, as numbers.
        index: the views.
        views: the items in each view.
        joined: all views side by side, such that the product of two rows is their weighted similarity.
    """

    name: str
    items: NDArray[np.int64]
    families: NDArray[np.int64]
    index: CodeIndex
    views: dict[str, csr_matrix]
    joined: csr_matrix
    rule: ParaphraseRule

    @classmethod
    def among(cls, items: pl.DataFrame, rule: ParaphraseRule) -> dict[str, CodeSet]:
        """The eval sets most items of which are code, by name. `items`: eval_set, question, family (never null)."""
        numbered = items.select("eval_set", "question", family=pl.col("family").rank("dense"), at=pl.int_range(pl.len()))
        found = {}
        for (name,), mine in numbered.group_by("eval_set", maintain_order=True):
            if 2 * sum(map(is_code, mine["question"].to_list())) <= len(mine):
                continue
            index = CodeIndex.fit(mine["question"])
            views = index.matrices(mine["question"])
            at, families = (mine[column].to_numpy().astype(np.int64) for column in ("at", "family"))
            found[str(name)] = cls(str(name), at, families, index, views, _joined(views, rule), rule)
        return found

    def score(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """`pairs` (item, key, text, at: position of the text among the items, or null) with the views, structure and score."""
        distinct = pairs.select("key", "text", "at").unique("key", keep="first", maintain_order=True)
        position = distinct.select("key", number=pl.int_range(pl.len()))
        of_text = pairs.select("key").join(position, on="key", how="left", maintain_order="left")["number"].to_numpy()
        of_item = np.searchsorted(self.items, pairs["item"].to_numpy())
        views = self.index.matrices(distinct["text"])
        cosines = {name: _products(self.views[name][of_item], views[name][of_text]) for name in VIEWS}
        joined = _joined(views, self.rule)
        own = _products(self.joined[of_item], joined[of_text])
        itself = distinct["at"].fill_null(-1).to_numpy()
        kin = np.where(itself < 0, -1, self.families[np.searchsorted(self.items, itself)])
        score = own + (own - self._rivals(joined, kin, of_text, of_item))
        # Two texts in one language are compared by their syntax trees, others by their tokens.
        parse = np.diff(views["syntax"].indptr)[of_text] > 0
        structure = np.where(parse, cosines["syntax"], cosines["tokens"])
        return pl.DataFrame({**cosines, "structure": structure, "similarity": own, "score": score})

    def _rivals(
        self, texts: csr_matrix, kin: NDArray[np.int64], of_text: NDArray[np.int64], of_item: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """For each pair the highest similarity of its text to an item of a third family; 0 where there is none. Shape (pairs,).

        Args:
            kin: family of each text that is an item itself, else -1.
        """
        best, second, holder = (np.zeros(len(kin)) for _ in range(3))
        for block in _blocks(len(kin), len(self.items)):
            found = (texts[block] @ self.joined.T).toarray()
            found[kin[block][:, None] == self.families] = 0
            first = found.argmax(axis=1)
            best[block], holder[block] = found[np.arange(len(found)), first], self.families[first]
            found[self.families[first][:, None] == self.families] = 0
            second[block] = found.max(axis=1)
        return np.where(holder[of_text] == self.families[of_item], second[of_text], best[of_text])


def compared_as_code(sets: Iterable[CodeSet], scored: pl.DataFrame, at: pl.Series) -> pl.DataFrame:
    """`scored` with columns code (whether the item's set is compared so) and the views, and with the score of those that are.

    Args:
        at: position of each text among the items, or null for a training text.
    """
    numbered = scored.with_columns(at=at, pair=pl.int_range(pl.len()))
    found = []
    for chosen in sets:
        mine = numbered.filter(pl.col("item").is_in(chosen.items.tolist()))
        if len(mine):
            found.append(pl.concat([mine.select("pair"), chosen.score(mine)], how="horizontal"))
    schema = {"pair": pl.Int64} | dict.fromkeys((*_ADDED, "similarity", "score"), pl.Float64)
    told = pl.concat([part.cast(schema) for part in found]) if found else pl.DataFrame(schema=schema)
    joined = numbered.join(told, on="pair", how="left", suffix="_code", maintain_order="left")
    return joined.with_columns(
        code=pl.col("score_code").is_not_null(),
        **{name: pl.coalesce(f"{name}_code", name) for name in ("similarity", "score")},
    ).drop("pair", "at", "similarity_code", "score_code")


def view_weights(rule: ParaphraseRule) -> dict[str, float]:
    """How much each view counts."""
    return {"words": 1.0, "literals": rule.code_literals, "tokens": rule.code_tokens, "syntax": rule.code_syntax}


def _joined(views: dict[str, csr_matrix], rule: ParaphraseRule) -> csr_matrix:
    from scipy.sparse import csr_matrix, hstack

    weights = view_weights(rule)
    return csr_matrix(hstack([views[name] * weights[name] ** 0.5 for name in VIEWS]))


def _products(left: csr_matrix, right: csr_matrix) -> NDArray[np.float64]:
    return np.asarray(left.multiply(right).sum(axis=1)).ravel().astype(np.float64)


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _CELLS // max(1, columns))
    return (slice(start, min(rows, start + step)) for start in range(0, rows, step))
