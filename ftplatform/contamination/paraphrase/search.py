"""The candidates of every item and how each of them scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.contamination.paraphrase.code_search import CodeSet, compared_as_code
from ftplatform.contamination.paraphrase.encoder import Encoder
from ftplatform.contamination.paraphrase.rule import ParaphraseRule
from ftplatform.contamination.paraphrase.signals import NumberWeights, has_numbers
from ftplatform.contamination.paraphrase.texts import text_keys, train_texts
from ftplatform.contamination.paraphrase.tfidf import Tfidf, nearest

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Training rows from which word frequencies are learned; more would not move them.
_BACKGROUND = 10_000
#: An item's family members take places among its neighbors; more than this many are not made room for.
_MAX_FAMILY = 64


@dataclass(frozen=True)
class Search:
    """Everything that scores a pair (question, text).

    Attributes:
        questions: the items' texts.
        index, lexical: TF-IDF and the questions in it.
        numbers: weights of numbers.
        numeric: whether each question names a number, shape (items,).
        encoder: the embedding model, or None.
        vectors: the questions in it, shape (items, d).
        code: the eval sets that are compared as code.
    """

    questions: pl.Series
    index: Tfidf
    lexical: csr_matrix
    numbers: NumberWeights
    numeric: NDArray[np.bool_]
    rule: ParaphraseRule
    encoder: Encoder | None
    vectors: NDArray[np.float32] | None
    code: dict[str, CodeSet]

    @classmethod
    def over(cls, items: pl.DataFrame, train: pa.Table, rule: ParaphraseRule, encoder: Encoder | None) -> Search:
        """Learn what words and numbers say. `items` as of `texts.eval_items`, each with a question."""
        questions, background = items["question"], _background(train)
        # Equal texts are one family whatever they declare.
        family = pl.coalesce(pl.col("eval_set") + "/" + pl.col("family"), pl.col("key").cast(pl.String))
        kin = items.with_columns(key=text_keys(questions)).select(family).to_series()
        index = Tfidf.fit(questions, background, kin)
        return cls(
            questions=questions,
            index=index,
            lexical=index.matrix(questions),
            numbers=NumberWeights.fit(questions, background),
            numeric=has_numbers(questions),
            rule=rule,
            encoder=encoder,
            vectors=None if encoder is None else encoder.encode(questions.to_list()),
            code=CodeSet.among(items.with_columns(family=kin), rule),
        )

    def candidates(self, train: pa.Table) -> tuple[pl.DataFrame, int]:
        """The most similar training texts of every item, scored, and how many texts there were."""
        sizes: list[int] = []

        def counted() -> Iterator[pl.DataFrame]:
            for block in train_texts(train):
                sizes.append(len(block))
                yield block

        found = nearest(self.index, self.lexical, counted(), self.rule.candidates, train.num_rows)
        return self.score(found.rename({"score": "lexical"})), sum(sizes)

    def neighbors(self, items: NDArray[np.int64], families: pl.Series) -> pl.DataFrame:
        """The same search among the eval items themselves: for each of `items` its neighbors in other families, scored.

        Items of equal text are one family whatever they declare.
        """
        texts = self.questions.gather(items.tolist())
        frame = pl.DataFrame({"row": items, "text": texts, "answer": pl.Series([None] * len(items), dtype=pl.String)})
        frame = frame.with_columns(key=text_keys(texts))
        largest = int(families.drop_nulls().value_counts()["count"].max() or 1)  # pyright: ignore[reportArgumentType]
        room = self.rule.candidates + min(_MAX_FAMILY, largest)
        found = nearest(self.index, self.lexical[items], [frame], room, own=True).rename({"score": "lexical"})
        own = pl.DataFrame({"item": np.arange(len(items)), "at": items, "own_key": frame["key"], "own_family": families})
        theirs = pl.DataFrame({"row": items, "family": families})
        known = found.join(own, on="item").join(theirs, on="row", maintain_order="left")
        same = (pl.col("key") == pl.col("own_key")) | (pl.col("family") == pl.col("own_family")).fill_null(False)
        ordered = known.filter(~same).sort("item", "lexical", descending=[False, True], maintain_order=True)
        kept = ordered.group_by("item", maintain_order=True).head(self.rule.candidates)
        pairs = kept.select("row", "text", "key", "answer", "lexical", item="at")
        return self.score(pairs, pairs["row"].to_numpy())

    def damaged(self, items: NDArray[np.int64]) -> pl.DataFrame:
        """Each item against itself with every third word left out: an edit that any search for paraphrases must see."""
        texts = pl.Series([_thinned(text) for text in self.questions.gather(items.tolist()).to_list()], dtype=pl.String)
        frame = pl.DataFrame(
            {"item": items, "row": items, "text": texts, "answer": pl.Series([None] * len(items), dtype=pl.String)}
        )
        lexical = np.asarray(self.lexical[items].multiply(self.index.matrix(texts)).sum(axis=1)).ravel()
        return self.score(frame.with_columns(key=text_keys(texts), lexical=pl.Series(lexical)))

    def score(self, pairs: pl.DataFrame, known: NDArray[np.int64] | None = None) -> pl.DataFrame:
        """`pairs` (item, row, text, key, answer, lexical) with similarity, agreement and shared (of numbers), and score.

        Pairs with an item of a set of code are scored by `CodeSet` instead, and have its views (null elsewhere).

        Args:
            known: positions of the texts among the questions, whose vectors need not be computed again.
        """
        items = pairs["item"].to_numpy()
        similarity = pairs["lexical"].cast(pl.Float64)
        if self.encoder is not None and self.vectors is not None:
            if known is not None:
                vectors, at = self.vectors, known
            else:
                distinct = pairs.select("key", "text").unique("key", keep="first", maintain_order=True)
                vectors = self.encoder.encode(distinct["text"].to_list())
                position = distinct.select("key", at=pl.int_range(pl.len()))
                at = pairs.select("key").join(position, on="key", how="left", maintain_order="left")["at"].to_numpy()
            similarity = pl.Series(np.einsum("ij,ij->i", self.vectors[items], vectors[at]).astype(np.float64))
        numbers = self.numbers.agreement(self.questions.gather(items.tolist()), pairs["text"])
        weight = self.rule.number_weight_embedding if self.encoder is not None else self.rule.number_weight_lexical
        scored = pairs.with_columns(
            similarity=similarity, agreement=numbers["agreement"], shared=numbers["shared"], numeric=pl.Series(self.numeric[items])
        )
        bonus = pl.when("numeric").then(weight * pl.col("agreement").fill_null(0.0)).otherwise(0.0)
        scored = scored.with_columns(score=pl.col("similarity") + bonus)
        at = pl.Series("at", known) if known is not None else pl.Series("at", [None] * len(pairs), dtype=pl.Int64)
        return compared_as_code(self.code.values(), scored, at)


def _background(train: pa.Table) -> pl.Series:
    """Training texts of evenly spaced rows."""
    step = max(1, train.num_rows // _BACKGROUND)
    sample = train.take(pa.array(np.arange(0, train.num_rows, step))) if step > 1 else train
    texts: Iterator[pl.Series] = (block["text"] for block in train_texts(sample))
    return pl.concat([pl.Series("text", [], dtype=pl.String), *texts])


def _thinned(text: str) -> str:
    said = text.split()
    return " ".join(word for position, word in enumerate(said) if position % 3 != 2)
