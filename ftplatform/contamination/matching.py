"""Which eval items stand word for word in the training data, and in which part: the comparison behind `contamination_exact`.

What is compared, after system and tool text is left out by role and both sides are normalized (`rows.normalize`):

* **user turn**: a training user turn that is not followed by another user turn equals the whole user text of an eval item,
  however short it is: "wheres my refund" is three words and a question all the same. An item of several user turns equals a
  run of as many consecutive user turns of a training conversation. A greeting inside a long eval dialogue is not compared on its
  own, so that dialogues may share their "hi".
* **pair**: the same, and the answer that follows is the item's as well.
* **answer**: a training assistant turn equals the item's last answer, if the answer tells the item apart: at least
  `informative_tokens` words, and not an answer from a closed set. A reply given to many different questions ("your booking is
  confirmed, is there anything else?") repeats by nature; one given to a single eval item does not.
* **last turn**, **last pair**: for items of several user turns, their last user turn (if informative), or it together with the
  answer (if informative together, answer not from a closed set).
* **lineage**: a training row that names the eval item among its parents, whatever its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.contamination.doors import door
from ftplatform.rows.normalize import NORMALIZER_VERSION, normalize
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

#: Unit and record separators (ASCII 31, 30): the normalizer never leaves them in a text, so joined keys cannot be ambiguous.
_UNIT, _RECORD = "\x1f", "\x1e"

#: Marks a text that is compared as it is, since nothing of it is left after normalization.
_AS_IS = "\x1d"

#: Which part of the item each kind of match is, strongest evidence first.
_PARTS = {
    "pair": "pair",
    "run_pair": "pair",
    "turn": "user turn",
    "run": "user turn",
    "answer": "answer",
    "last_pair": "last pair",
    "last": "last turn",
    "lineage": "lineage",
}
_STRENGTH = {kind: position for position, kind in enumerate(_PARTS)}


@dataclass(frozen=True, slots=True)
class ExactRule:
    """Parameters of the comparison.

    Attributes:
        informative_tokens: words from which an answer (or last user turn) is long enough to identify an item by itself.
        closed_set_questions: an answer given to at least this many different questions, in the training data or in the eval set,
            belongs to a closed set and identifies none of them.
        max_uncheckable: share of eval items without any user text above which the check abstains.
    """

    informative_tokens: int = 8
    closed_set_questions: int = 5
    max_uncheckable: float = 0.05

    def record(self) -> dict[str, Any]:
        """The parameters for a verdict's config."""
        return {
            "informative_tokens": self.informative_tokens,
            "closed_set_questions": self.closed_set_questions,
            "max_uncheckable": self.max_uncheckable,
            "normalizer": NORMALIZER_VERSION,
        }


def leaks(train: pa.Table, evaluation: pa.Table, rule: ExactRule | None = None) -> pa.Table:
    """What must leave training for `contamination_exact` to hold against `evaluation`.

    Returns:
        Table with `row_id` of each training row that matches, `eval_row_id` (one it matches) and `part`.
    """
    return Comparison.of(train, {"eval": evaluation}, rule or ExactRule()).train_rows().to_arrow()


@dataclass(frozen=True)
class Comparison:
    """Keys found on both sides.

    train_hits: frame (space, key, row); eval_hits: frame (space, key, kind, eval_set, row). A space is what the training text was
    (a turn, a run of turns, an answer, turn and answer), a kind is what the eval text was.
    """

    train: pa.Table
    evals: Mapping[str, pa.Table]
    train_hits: pl.DataFrame
    eval_hits: pl.DataFrame
    checkable: dict[str, int]
    closed_set_items: int

    @classmethod
    def of(cls, train: pa.Table, evals: Mapping[str, pa.Table], rule: ExactRule) -> Comparison:
        spoken = {name: _spoken(table) for name, table in evals.items()}
        items = pl.concat([_items(frame, rule).with_columns(eval_set=pl.lit(name)) for name, frame in spoken.items()])
        train_asks = _asks(_spoken(train))
        closed = {
            answer for frame in (train_asks, *(_asks(s) for s in spoken.values())) for answer in _closed_set(frame.asks, rule)
        }
        items = items.with_columns(closed=pl.col("answer").is_in(closed))
        numbers = _turn_numbers(items)
        wanted = pl.concat([_item_keys(items, numbers, rule), *(_item_lineage(name, table) for name, table in evals.items())])
        lengths = sorted(items.filter(pl.col("turns") > 1)["turns"].unique().to_list())
        own = pl.concat([_train_keys(train_asks, numbers, lengths), _train_lineage(train)])
        on = ["space", "key"]
        return cls(
            train=train,
            evals=evals,
            train_hits=own.join(wanted.select(on).unique(), on=on, how="semi").unique(),
            eval_hits=wanted.join(own.select(on).unique(), on=on, how="semi").unique(),
            checkable=dict(
                items.filter(pl.col("question").is_not_null() | pl.col("telling")).group_by("eval_set").len().iter_rows()
            ),
            closed_set_items=len(items.filter(pl.col("telling") & pl.col("closed"))),
        )

    def items(self) -> pl.DataFrame:
        """One line per contaminated item; a pair names a training row that has both, else the first row with the strongest part."""
        by_key = self.train_hits.group_by("space", "key").agg(train_row=pl.col("row").min(), rows=pl.col("row").n_unique())
        hits = self.eval_hits.join(by_key, on=["space", "key"]).with_columns(
            strength=pl.col("kind").replace_strict(_STRENGTH, return_dtype=pl.Int64),
            part=pl.col("kind").replace_strict(_PARTS, return_dtype=pl.String),
        )
        per_item = (
            hits.sort("eval_set", "row", "strength", "train_row")
            .group_by("eval_set", "row", maintain_order=True)
            .agg(pl.col("part").first(), pl.col("train_row").first(), pl.col("rows").max())
        )
        ids, train_ids = {name: table.column("row_id") for name, table in self.evals.items()}, self.train.column("row_id")
        records = [
            (
                name,
                ids[name][row].as_py(),
                part,
                train_ids[train_row].as_py(),
                rows,
                door(self.evals[name], row, self.train, train_row),
            )
            for name, row, part, train_row, rows in per_item.iter_rows()
        ]
        return pl.DataFrame(records, schema=_ITEM_SCHEMA, orient="row")

    def train_rows(self) -> pl.DataFrame:
        """One line per training row with a match."""
        first = self.eval_hits.sort("eval_set", "row").group_by("space", "key", maintain_order=True).first()
        hits = self.train_hits.join(first.rename({"row": "eval_row"}), on=["space", "key"])
        hits = hits.with_columns(strength=pl.col("kind").replace_strict(_STRENGTH, return_dtype=pl.Int64))
        hits = hits.sort("row", "strength", "eval_row").unique("row", keep="first", maintain_order=True)
        ids, eval_ids = self.train.column("row_id"), {name: table.column("row_id") for name, table in self.evals.items()}
        records = [
            (ids[row].as_py(), eval_ids[name][eval_row].as_py(), _PARTS[kind])
            for row, name, eval_row, kind in hits.select("row", "eval_set", "eval_row", "kind").iter_rows()
        ]
        return pl.DataFrame(records, schema={"row_id": pl.String, "eval_row_id": pl.String, "part": pl.String}, orient="row")


_ITEM_SCHEMA = {
    "eval_set": pl.String,
    "eval_row_id": pl.String,
    "part": pl.String,
    "train_row_id": pl.String,
    "train_rows": pl.Int64,
    "door": pl.String,
}


@dataclass(frozen=True)
class _Asks:
    """spoken: every user and assistant turn; asks: (row, question, answer) of each user turn that is answered or ends the row."""

    spoken: pl.DataFrame
    asks: pl.DataFrame


def _spoken(rows: pa.Table) -> pl.DataFrame:
    """User and assistant turns in order: row, role, text (normalized; null if blank)."""
    table = turns(rows)
    frame = pl.DataFrame({"row": table["row"], "role": table["role"], "raw": table["content"]})
    frame = frame.filter(pl.col("role").is_in([str(Role.USER), str(Role.ASSISTANT)]))
    frame = frame.with_columns(text=pl.Series(normalize(frame["raw"].to_arrow()), dtype=pl.String))
    # Emoji and bare punctuation normalize to nothing; they are compared as they are.
    bare = pl.col("raw").str.strip_chars()
    as_is = pl.when(bare == "").then(None).otherwise(pl.lit(_AS_IS) + bare)
    return frame.select("row", "role", text=pl.when(pl.col("text") == "").then(as_is).otherwise(pl.col("text")))


def _asks(spoken: pl.DataFrame) -> _Asks:
    """Consecutive turns of one role form a block; a question is its last turn and, if there are several, all of them joined."""
    starts = (pl.col("role") != pl.col("role").shift(1)) | (pl.col("row") != pl.col("row").shift(1))
    blocks = (
        spoken.filter(pl.col("text").is_not_null())
        .with_columns(block=starts.fill_null(True).cum_sum())
        .group_by("block", maintain_order=True)
        .agg(pl.col("row").first(), pl.col("role").first(), last=pl.col("text").last(), all=pl.col("text").str.join(" "))
    )
    answered = (pl.col("role").shift(-1) == str(Role.ASSISTANT)) & (pl.col("row").shift(-1) == pl.col("row"))
    questions = blocks.with_columns(answer=pl.when(answered).then(pl.col("last").shift(-1))).filter(
        pl.col("role") == str(Role.USER)
    )
    asks = pl.concat([questions.select("row", question=column, answer="answer") for column in ("last", "all")]).unique(
        maintain_order=True
    )
    return _Asks(spoken.filter(pl.col("text").is_not_null()), asks)


def _closed_set(asks: pl.DataFrame, rule: ExactRule) -> list[str]:
    counted = asks.filter(pl.col("answer").is_not_null()).group_by("answer").agg(questions=pl.col("question").n_unique())
    return counted.filter(pl.col("questions") >= rule.closed_set_questions)["answer"].to_list()


def _items(spoken: pl.DataFrame, rule: ExactRule) -> pl.DataFrame:
    """One line per eval row that says anything; `telling` is whether its answer is informative."""
    said = spoken.filter(pl.col("text").is_not_null())
    user = said.filter(pl.col("role") == str(Role.USER))
    asked = user.group_by("row").agg(
        question=pl.col("text").str.join(" "), texts=pl.col("text"), turns=pl.len().cast(pl.Int64), last=pl.col("text").last()
    )
    answers = said.filter(pl.col("role") == str(Role.ASSISTANT)).group_by("row").agg(answer=pl.col("text").last())
    return asked.join(answers, on="row", how="full", coalesce=True).with_columns(
        telling=(_words("answer") >= rule.informative_tokens).fill_null(False)
    )


def _words(column: str) -> pl.Expr:
    return pl.col(column).str.count_matches(" ", literal=True) + 1


def _turn_numbers(items: pl.DataFrame) -> pl.DataFrame:
    """A number for every distinct user turn of items with several: runs of turns are then compared as short lists of numbers."""
    texts = items.filter(pl.col("turns") > 1).select(text=pl.col("texts").explode()).unique().sort("text")
    return texts.with_row_index("number").with_columns(pl.col("number").cast(pl.String))


def _item_keys(items: pl.DataFrame, numbers: pl.DataFrame, rule: ExactRule) -> pl.DataFrame:
    several, one = pl.col("turns") > 1, pl.col("question").is_not_null()
    known = pl.col("answer").is_not_null()
    runs = (
        items.filter(several)
        .select("eval_set", "row", "answer", pl.col("texts"))
        .explode("texts")
        .join(numbers, left_on="texts", right_on="text", how="left", maintain_order="left")
        .group_by("eval_set", "row", maintain_order=True)
        .agg(pl.col("number").str.join(_UNIT), pl.col("answer").first())
    )
    pair, last_pair = pl.col("question") + _RECORD + pl.col("answer"), pl.col("last") + _RECORD + pl.col("answer")
    together = (_words("last") + _words("answer") >= rule.informative_tokens) & ~pl.col("closed")
    parts = [
        (items.filter(one), "turn", "turn", pl.col("question")),
        (items.filter(one & known), "pair", "pair", pair),
        (runs, "run", "run", pl.col("number")),
        (runs.filter(known), "run_pair", "run_pair", pl.col("number") + _RECORD + pl.col("answer")),
        (items.filter(pl.col("telling") & ~pl.col("closed")), "answer", "answer", pl.col("answer")),
        (items.filter(several & (_words("last") >= rule.informative_tokens)), "turn", "last", pl.col("last")),
        (items.filter(several & known & together), "pair", "last_pair", last_pair),
    ]
    return pl.concat(
        [
            frame.select(space=pl.lit(space), key=key, kind=pl.lit(kind), eval_set="eval_set", row="row")
            for frame, space, kind, key in parts
        ]
    )


def _train_keys(train: _Asks, numbers: pl.DataFrame, lengths: list[int]) -> pl.DataFrame:
    asks, spoken = train.asks, train.spoken
    answers = spoken.filter(pl.col("role") == str(Role.ASSISTANT))
    parts = [
        (asks, "turn", pl.col("question")),
        (asks.filter(pl.col("answer").is_not_null()), "pair", pl.col("question") + _RECORD + pl.col("answer")),
        (answers, "answer", pl.col("text")),
    ]
    # Turns that stand in no eval item have no number, and a run with such a turn is null: most of the table drops out here.
    follows = (pl.col("role").shift(-1) == str(Role.ASSISTANT)) & (pl.col("row").shift(-1) == pl.col("row"))
    user = (
        spoken.with_columns(answer=pl.when(follows).then(pl.col("text").shift(-1)))
        .filter(pl.col("role") == str(Role.USER))
        .join(numbers, on="text", how="left", maintain_order="left")
    )
    for length in lengths:
        run = pl.concat_str([pl.col("number").shift(-i) for i in range(length)], separator=_UNIT)
        whole = pl.col("row").shift(1 - length) == pl.col("row")
        runs = user.select("row", run=pl.when(whole).then(run), answer=pl.col("answer").shift(1 - length)).filter(
            pl.col("run").is_not_null()
        )
        parts.append((runs, "run", pl.col("run")))
        parts.append((runs.filter(pl.col("answer").is_not_null()), "run_pair", pl.col("run") + _RECORD + pl.col("answer")))
    return pl.concat([frame.select(space=pl.lit(space), key=key, row="row") for frame, space, key in parts])


def _item_lineage(name: str, table: pa.Table) -> pl.DataFrame:
    frame = pl.DataFrame({"key": table["row_id"]}).with_row_index("row")
    return frame.select(
        space=pl.lit("parent"),
        key=pl.col("key").cast(pl.String),
        kind=pl.lit("lineage"),
        eval_set=pl.lit(name),
        row=pl.col("row").cast(pl.Int64),
    )


def _train_lineage(train: pa.Table) -> pl.DataFrame:
    frame = pl.DataFrame({"key": train["parents"]}).with_row_index("row").explode("key", empty_as_null=False)
    return frame.select(space=pl.lit("parent"), key=pl.col("key").cast(pl.String), row=pl.col("row").cast(pl.Int64))
