"""Contexts that force a word, for asking a tuned model how it spells it, and how its answers spelled it.

Two uses: with the prefix of the answer, teacher-forced at the place of the word (`ForcingContext.good` and `.bad`, as
`evaluation.sampling.variant_rate` reads them); or as rows of an eval set of behavior probes, whose answers are sampled at the
temperature of production and read with `spelled`. Greedy answers hide a spelling that comes in one answer of ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.rows.schema import Role, row_id
from ftplatform.targets.variants.words import Rows, batches, compared, in_case_of, normalized, target_turns, word_spans

#: Marks the slice of a probe that names the wrong word; the right one is the probe's reference.
PROBE_SLICE = "variant:"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcingContext:
    """A place of the corpus where a word stands.

    Attributes:
        row_id: the row it is from.
        conversation: role and content of the messages before the answer.
        prefix: the answer up to the word, the space before it included.
        right, wrong: the word as it should stand here, and the variant.
        cluster: contexts of one conversation share it.
    """

    row_id: str
    conversation: Sequence[Mapping[str, str]]
    prefix: str
    right: str
    wrong: str
    cluster: str

    @property
    def good(self) -> str:
        """The answer up to and with the right word."""
        return self.prefix + self.right

    @property
    def bad(self) -> str:
        """The same with the variant."""
        return self.prefix + self.wrong

    def to_probe(self) -> dict[str, Any]:
        """A record of an eval set of `behavior_probes`: the conversation, the right word as reference, the wrong one as slice."""
        answer = {"role": str(Role.ASSISTANT), "content": self.right}
        return {
            "messages": [*self.conversation, answer],
            "slices": [f"{PROBE_SLICE}{self.wrong.lower()}"],
            "group": self.cluster,
        }


def forcing_contexts(rows: Rows, pairs: Mapping[str, str], *, most: int = 600) -> list[ForcingContext]:
    """Places where one of the words, right or wrong, stands in a trainable assistant turn: one per different conversation before it.

    Take rows that the model was **not** trained on, such as the reserve of a split. Of an answer the first place counts.

    Args:
        rows: `row_id`, `messages` are read.
        pairs: variant to right word, lower case (a term as it is written).
        most: contexts returned, those with the smallest row ids (which are hashes) of all that differ.
    """
    by_word = {word: pair for pair in pairs.items() for word in (pair[0], normalized(pair[1]))}
    found: dict[tuple[str, str], ForcingContext] = {}
    for table in batches(rows):
        for context in _contexts(table, by_word):
            key = (context.wrong.lower(), context.cluster)
            kept = found.get(key)
            if kept is None or context.row_id < kept.row_id:
                found[key] = context
        if len(found) > 4 * most:
            found = dict(sorted(found.items(), key=lambda item: item[1].row_id)[: 2 * most])
    return sorted(found.values(), key=lambda context: context.row_id)[:most]


def _contexts(table: pa.Table, by_word: Mapping[str, tuple[str, str]]) -> Iterator[ForcingContext]:
    wanted = pl.Series(list(by_word), dtype=pl.String)
    answers = target_turns(table).filter(
        (pl.col("turn") > 0) & pl.col("text").str.contains_any(wanted.to_list(), ascii_case_insensitive=True)
    )
    hits = answers.filter(compared(pl.col("text")).list.set_intersection(wanted.to_list()).list.len() > 0)
    # Only rows with a hit leave Arrow.
    messages = pc.take(table["messages"], pa.array(hits["row"].to_list(), pa.int64())).to_pylist()
    for line, conversation in zip(hits.iter_rows(named=True), messages, strict=True):
        for start, end in word_spans(line["text"]):
            use = line["text"][start:end]
            pair = by_word.get(normalized(use))
            if pair is not None:
                wrong, right = pair
                before = [{"role": m["role"], "content": m["content"]} for m in conversation[: line["turn"]]]
                yield ForcingContext(
                    row_id=line["row_id"],
                    conversation=before,
                    prefix=line["text"][:start],
                    right=in_case_of(right, use) if right == right.lower() else right,
                    wrong=in_case_of(wrong, use),
                    cluster=row_id(before)[:16],
                )
                break


def spelled(answers: pl.DataFrame) -> pl.Series:
    """How each answer spells its word: 1.0 the wrong way (also if both stand there), 0.0 the right way, null if neither stands there.

    Args:
        answers: answer, right, wrong (lower case), one line per answer.

    Returns:
        Float64, as long as `answers`.
    """
    said = compared(pl.col("answer"))
    wrong, right = (said.list.contains(pl.col(name).str.to_lowercase()) for name in ("wrong", "right"))
    return answers.select(spelled=pl.when(wrong).then(1.0).when(right).then(0.0)).to_series()
