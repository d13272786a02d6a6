"""Pairs of eval item and training row above the threshold, and what speaks for each: the comparison behind the check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.contamination.doors import door
from ftplatform.contamination.paraphrase.calibration import Calibration, Level, calibrate
from ftplatform.contamination.paraphrase.encoder import Encoder
from ftplatform.contamination.paraphrase.reviews import latest_reviews
from ftplatform.contamination.paraphrase.rule import ParaphraseRule
from ftplatform.contamination.paraphrase.search import Search
from ftplatform.contamination.paraphrase.signals import final_answers, numeric_answers
from ftplatform.contamination.paraphrase.texts import eval_items, train_texts

#: What became of a pair. Confirmed or cleared, by signals or by a person; or nobody knows.
CONFIRMED, CLEARED, OPEN = "confirmed", "cleared", "open"
#: Views of code that must agree; two programs of one kind may well share one.
_AGREEING_VIEWS = 2


@dataclass(frozen=True)
class Comparison:
    """What the search found.

    Attributes:
        items: one line per eval item (see `texts.eval_items`).
        checkable: positions of the items with a question.
        training_texts: distinct texts of the training rows (a text in several blocks counts for each).
        calibrations: by eval set; None where a set cannot be calibrated.
        pairs: one line per pair above its threshold, or reviewed as a paraphrase: item, eval_set, eval_row_id, train_row_id,
            similarity and score (null where only a person knows of the pair), threshold, status, by (signals or person that
            decided, or ""), door, question, text. Best first.
    """

    items: pl.DataFrame
    checkable: pl.DataFrame
    training_texts: int
    calibrations: dict[str, Calibration | None]
    pairs: pl.DataFrame


def compare(
    train: pa.Table, evals: Mapping[str, pa.Table], rule: ParaphraseRule, encoder: Encoder | None, reviewed: pa.Table | None
) -> Comparison:
    """Search, calibrate, confirm."""
    reviews = latest_reviews(reviewed)
    items = eval_items(evals)
    checkable = items.filter(pl.col("question").str.contains(r"[\p{L}\p{N}]"))
    search = Search.over(checkable, train, rule, encoder)
    candidates, texts = search.candidates(train)
    calibrations = {
        name: calibrate(search, np.flatnonzero((checkable["eval_set"] == name).to_numpy()), mine["family"], candidates, texts, rule)
        for name in sorted(evals)
        for mine in [checkable.filter(pl.col("eval_set") == name)]
    }
    asked = checkable.with_columns(item=pl.int_range(pl.len(), dtype=pl.Int64))
    suspects = _with_thresholds(candidates, asked, calibrations).filter(pl.col("score") > pl.col("threshold"))
    judged = _reviewed(_signaled(suspects, asked, rule, encoder is not None), asked, train, reviews)
    ordered = judged.sort(
        pl.col("status").replace_strict({CONFIRMED: 0, OPEN: 1, CLEARED: 2}, return_dtype=pl.Int8),
        pl.col("threshold") - pl.col("score"),
        "item",
        nulls_last=True,
        maintain_order=True,
    )
    ids = train["row_id"].take(pa.array(ordered["row"].to_numpy()))
    columns = ["item", "eval_set", "eval_row_id", "similarity", "score", "threshold", "status", "by", "question", "text"]
    doors = [door(evals[name], at, train, row) for name, at, row in ordered.select("eval_set", "eval_row", "row").iter_rows()]
    found = ordered.select(columns).with_columns(train_row_id=pl.Series(ids), door=pl.Series(doors, dtype=pl.String))
    return Comparison(items, checkable, texts, calibrations, found)


def _with_thresholds(scored: pl.DataFrame, items: pl.DataFrame, calibrations: Mapping[str, Calibration | None]) -> pl.DataFrame:
    """Adds the item's columns, the threshold, and whether the pair is certain; without a calibration nothing is above."""
    known = [
        {"eval_set": name, **_named("at", c.suspect), **_named("at_certain", c.certain)}
        for name, c in calibrations.items()
        if c is not None
    ]
    columns = [f"{prefix}_{field.name}" for prefix in ("at", "at_certain") for field in fields(Level)]
    of_set = pl.DataFrame(known, schema={"eval_set": pl.String} | dict.fromkeys(columns, pl.Float64))
    told = items.rename({"answer": "item_answer"})
    joined = scored.join(told, on="item", maintain_order="left").join(of_set, on="eval_set", how="left", maintain_order="left")
    joined = joined.with_columns(pl.col(columns).fill_null(float("inf")))
    by_score = pl.col("numeric") | pl.col("code")
    return joined.with_columns(
        threshold=pl.when(by_score).then("at_score").otherwise("at_similarity"),
        certain=pl.col("score") > pl.when(by_score).then("at_certain_score").otherwise("at_certain_similarity"),
    )


def _named(prefix: str, level: Level) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in asdict(level).items()}


def _signaled(scored: pl.DataFrame, items: pl.DataFrame, rule: ParaphraseRule, embedded: bool) -> pl.DataFrame:
    """Adds status and by: which signals agree for pairs above their threshold.

    Numbers and wording go along with similarity, so they confirm only what is certain; an answer is a witness of its own. A pair
    is cleared where its answer and its numbers both speak against it. Code is confirmed by two of its views; the last number
    of a program is no answer.
    """
    code = pl.col("code")
    numbers = ((pl.col("agreement") >= rule.agreeing_numbers) & (pl.col("shared") >= rule.min_shared_numbers)).fill_null(False)
    # Wording is what the lexical tier's similarity is made of; it is a second opinion only on an encoder's.
    wording = (pl.col("lexical") > pl.col("at_lexical")) & pl.lit(embedded)
    finals = items.select("eval_set", final=final_answers(items["answer"])).filter(pl.col("final").is_not_null())
    common = (
        finals.group_by("eval_set", "final").agg(n=pl.len()).with_columns(share=pl.col("n") / pl.col("n").sum().over("eval_set"))
    )
    # An answer of one item is telling however small the set is.
    telling = common.filter((pl.col("share") <= rule.max_answer_share) | (pl.col("n") == 1)).select("eval_set", "final", told=True)
    known = scored.with_columns(final=final_answers(scored["item_answer"]), given=final_answers(scored["answer"]))
    known = known.join(telling, on=["eval_set", "final"], how="left", maintain_order="left")
    told = pl.col("told").fill_null(False)
    answer = ((pl.col("final") == pl.col("given")) & told).fill_null(False)
    differs = (pl.col("final") != pl.col("given")) & numeric_answers(pl.col("final")) & numeric_answers(pl.col("given"))
    contradicted = (differs & pl.col("numeric")).fill_null(False) & ~numbers & ~wording & ~code
    views = {"names and words": "words", "values": "literals", "structure": "structure"}
    alike = {name: (pl.col(view) >= rule.code_agreeing).fill_null(False) for name, view in views.items()}
    agreeing = pl.sum_horizontal(*alike.values()) >= _AGREEING_VIEWS
    signals = {
        "answer": answer & ~code,
        "numbers": numbers & pl.col("certain") & ~code,
        "wording": wording & pl.col("certain") & ~code,
        **{name: agrees & agreeing & pl.col("certain") & code for name, agrees in alike.items()},
    }
    named = pl.concat_list([pl.when(agrees).then(pl.lit(name)) for name, agrees in signals.items()]).list.drop_nulls()
    judged = known.with_columns(by=named.list.join(", "))
    status = pl.when(pl.col("by") != "").then(pl.lit(CONFIRMED)).when(contradicted).then(pl.lit(CLEARED)).otherwise(pl.lit(OPEN))
    against = pl.when(status == CLEARED).then(pl.lit("other numbers and answer")).otherwise(pl.col("by"))
    return judged.with_columns(status=status, by=against)


def _reviewed(judged: pl.DataFrame, items: pl.DataFrame, train: pa.Table, reviews: pl.DataFrame) -> pl.DataFrame:
    """A person's verdict overrides the signals, and adds the paraphrases that no search found.

    It holds for every training row of the same text, and is void where the row is gone.
    """
    wanted = pl.DataFrame({"train_row_id": train["row_id"]}).with_columns(at=pl.int_range(pl.len(), dtype=pl.Int64))
    wanted = wanted.join(reviews, on="train_row_id").join(items, on="eval_row_id")
    if not len(wanted):
        return judged
    rows = wanted["at"].unique().sort()
    texts = pl.concat([block.select("row", "key", "text") for block in train_texts(train.take(rows.to_arrow()))])
    texts = texts.with_columns(at=rows.gather(texts["row"].to_list())).drop("row")
    said = wanted.select("item", "at", "verdict", "eval_set", "eval_row_id", "eval_row", "question", person="by")
    said = said.join(texts, on="at", maintain_order="left").sort("verdict", maintain_order=True)
    by_text = said.unique(["item", "key"], keep="last").select("item", "key", "verdict", "person")
    joined = judged.join(by_text, on=["item", "key"], how="left", maintain_order="left")
    status = pl.col("verdict").replace_strict({"paraphrase": CONFIRMED, "different": CLEARED}, return_dtype=pl.String)
    joined = joined.with_columns(status=pl.coalesce(status, "status"), by=pl.coalesce("person", "by"))
    added = said.filter(pl.col("verdict") == "paraphrase").join(judged, on=["item", "key"], how="anti")
    added = added.unique(["item", "at"], keep="first", maintain_order=True)
    added = added.join(joined.filter(pl.col("status") == CONFIRMED).select("item", at="row"), on=["item", "at"], how="anti")
    missing = added.rename({"at": "row", "person": "by"}).with_columns(status=pl.lit(CONFIRMED)).drop("verdict")
    return pl.concat([joined, missing], how="diagonal_relaxed")
