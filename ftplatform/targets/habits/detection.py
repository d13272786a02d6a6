"""Habits in trainable assistant turns: promises, claims, apologies and forbidden phrases, sentence by sentence, with what backs them.

A batch at a time, every step on columns. Each different sentence of a batch is read once; only rows with a finding have the rest of
their conversation read for evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import polars as pl
import pyarrow as pa

from ftplatform import progress
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.targets.habits import patterns
from ftplatform.targets.habits.batching import Rows, tables
from ftplatform.targets.habits.classifier import BORDER, SentenceClassifier, shipped
from ftplatform.targets.habits.evidence import due_apologies, first_calls, without_authority, without_call
from ftplatform.targets.habits.features import normalize
from ftplatform.targets.habits.policy import CommitmentKind, Policy
from ftplatform.targets.habits.sentences import sentences

#: Version of what is found; part of the version of every check that reads it.
DETECTION_VERSION = "2"
#: Columns of a corpus that are read.
COLUMNS = ("row_id", "messages", "source", "author", "group", "meta")


class Habit(StrEnum):
    """What can be wrong with a sentence."""

    COMMITMENT = "commitment"
    PHANTOM_ACTION = "phantom_action"
    APOLOGY = "apology"
    FORBIDDEN_PHRASE = "forbidden_phrase"


FINDINGS_SCHEMA = {
    "row_id": pl.String,
    "source": pl.String,
    "author": pl.String,
    "group": pl.String,
    "row": pl.Int64,
    "turn": pl.Int64,
    "start": pl.Int64,
    "end": pl.Int64,
    "sentence": pl.String,
    "habit": pl.String,
    "kind": pl.String,
    "probability": pl.Float64,
    "reason": pl.String,
}

_SUM = r"(?:[$€£]\s?(\d[\d,]*(?:\.\d+)?))|(?:\b(\d[\d,]*(?:\.\d+)?)\s?(?:dollars?|usd|euros?|eur|pounds?|gbp|bucks|quid|€|£))"
_CURRENCIES = (("USD", r"\$|dollar|usd|buck"), ("EUR", r"€|euro?s?\b|\beur\b"), ("GBP", r"£|pound|gbp|quid"))
_QUEUE = (
    r"(?:escalated|forwarded|passed|handed|raised|sent|transferred|reported|referred|routed|flagged|assigned)\b.{0,60}?"
    r"\b(?:to|with|over to) (?:our |the |a |an |my )([a-z][a-z -]{1,40}?)(?: about| for| who| and| as| of| now| today|[.,;!?]|$)"
)


@dataclass(frozen=True)
class Scan:
    """What was found in a corpus.

    Attributes:
        findings: `FINDINGS_SCHEMA`; `row` counts through the whole corpus. `reason` says why a sentence is not allowed and is null for
            one that is: a promise within authority, a claim with a call behind it, an apology that is due.
        rows, turns: rows read, and trainable assistant turns in them.
        habits: what was looked for.
        policy, classifier: what it was found with.
    """

    findings: pl.DataFrame
    rows: int
    turns: int
    habits: frozenset[Habit]
    policy: Policy
    classifier: SentenceClassifier

    def of(self, habit: Habit, *, unbacked: bool = True) -> pl.DataFrame:
        """The findings of one habit; by default only those without a warrant.

        Raises:
            ValueError: if the scan did not look for it.
        """
        if habit not in self.habits:
            raise ValueError(f"the scan looked for {', '.join(sorted(self.habits)) or 'nothing'}, not for {habit}")
        found = self.findings.filter(pl.col("habit") == str(habit))
        return found.filter(pl.col("reason").is_not_null()) if unbacked else found

    def unallowed(self) -> pl.DataFrame:
        """All findings without a warrant."""
        return self.findings.filter(pl.col("reason").is_not_null())

    def unmasked(self, masks: pa.Table) -> Scan:
        """The scan without the sentences that are masked from the loss.

        Args:
            masks: table of `rows.schema.MASKS_SCHEMA`.
        """
        parts = pl.DataFrame(pl.from_arrow(masks)).rename({"start": "masked_from", "end": "masked_to"})
        numbered = self.findings.with_row_index("at")
        hidden = numbered.join(parts, on=["row_id", "turn"]).filter(
            (pl.col("masked_from") <= pl.col("start")) & (pl.col("masked_to") >= pl.col("end"))
        )
        left = numbered.join(hidden, on="at", how="anti").drop("at")
        return replace(self, findings=left)


def scan(
    rows: Rows,
    policy: Policy,
    *,
    habits: Iterable[Habit] = tuple(Habit),
    classifier: SentenceClassifier | None = None,
) -> Scan:
    """Read a corpus for habits, batch by batch.

    Args:
        rows: table or batches with the columns `COLUMNS` of `ROW_SCHEMA`.
        policy: what is allowed.
        habits: which to look for.
        classifier: the one of the package by default.
    """
    model = classifier or shipped()
    wanted = frozenset(habits)
    found = [pl.DataFrame(schema=FINDINGS_SCHEMA)]
    read = spoken = 0
    for table in tables(rows):
        said = _spoken(table)
        part = _judged(_sentences(said, policy, wanted, model), table, policy)
        found.append(part.with_columns(pl.col("row") + read))
        read, spoken = read + table.num_rows, spoken + len(said)
        progress.advance("reading targets for habits", read)
    return Scan(pl.concat(found), read, spoken, wanted, policy, model)


def _spoken(table: pa.Table) -> pl.DataFrame:
    """`row`, `turn`, `content` of the trainable assistant turns."""
    return pl.DataFrame(turns(table, Role.ASSISTANT, trainable_only=True)).select("row", "turn", "content")


def _sentences(said: pl.DataFrame, policy: Policy, habits: frozenset[Habit], model: SentenceClassifier) -> pl.DataFrame:
    """Sentences with at least one habit in them, one line for each habit."""
    pieces = sentences(said)
    known = pieces.select("sentence").unique(maintain_order=True)
    plain = known.select(normalize(pl.col("sentence"))).to_series()
    read = known.with_columns(plain=plain)
    text = pl.col("plain")
    parts = [_certain(read, patterns.apologizes(text), Habit.APOLOGY)]
    if habits & {Habit.COMMITMENT, Habit.PHANTOM_ACTION}:
        promised, claimed = _promised_and_claimed(plain, model)
        parts += [
            read.with_columns(probability=promised, habit=pl.lit(str(Habit.COMMITMENT)), kind=patterns.kind_of_promise(text)),
            read.with_columns(probability=claimed, habit=pl.lit(str(Habit.PHANTOM_ACTION)), kind=patterns.claimed_act(text)),
        ]
    if phrases := [phrase.lower() for phrase in policy.voice.forbidden]:
        parts.append(_certain(read, pl.col("sentence").str.to_lowercase().str.contains_any(phrases), Habit.FORBIDDEN_PHRASE))
    hits = pl.concat(parts).filter((pl.col("probability") >= BORDER) & pl.col("habit").is_in([str(h) for h in habits]))
    return pieces.join(hits, on="sentence", how="inner", maintain_order="left")


def _certain(read: pl.DataFrame, rule: pl.Expr, habit: Habit) -> pl.DataFrame:
    return read.with_columns(probability=pl.when(rule).then(1.0).otherwise(0.0), habit=pl.lit(str(habit)), kind=pl.lit(str(habit)))


def _promised_and_claimed(plain: pl.Series, model: SentenceClassifier) -> tuple[pl.Series, pl.Series]:
    """Probability that a sentence promises, and that it claims: the classifier's, unless a rule knows better."""
    unquoted = plain.str.replace_all(patterns.QUOTED, " ")
    scores = model.probabilities(unquoted)
    sentence = pl.lit(unquoted)
    frame = pl.DataFrame({"promised": scores[:, 0], "claimed": scores[:, 1]}).with_columns(
        conditional=patterns.conditional(sentence),
        promises=patterns.direct_promise(sentence),
        vague=(patterns.kind_of_promise(sentence) == str(CommitmentKind.DEADLINE)) & patterns.binds_nobody(sentence),
        claims=patterns.direct_claim(sentence),
        none=patterns.no_claim(sentence) | patterns.claimed_act(sentence).is_null(),
    )
    judged = frame.select(
        promised=pl.when(pl.col("conditional") | pl.col("vague")).then(0.0).when("promises").then(1.0).otherwise("promised"),
        claimed=pl.when(pl.col("conditional") | pl.col("none")).then(0.0).when("claims").then(1.0).otherwise("claimed"),
    )
    return judged["promised"], judged["claimed"]


def promises(texts: Iterable[str], classifier: SentenceClassifier | None = None) -> list[bool]:
    """Whether each single sentence promises money, credit, a waiver or a deadline, by the rules and the classifier together."""
    plain = pl.DataFrame({"text": list(texts)}, schema={"text": pl.String}).select(normalize(pl.col("text"))).to_series()
    return (_promised_and_claimed(plain, classifier or shipped())[0] >= BORDER).to_list()


def _judged(hits: pl.DataFrame, table: pa.Table, policy: Policy) -> pl.DataFrame:
    """The hits with their rows' columns and, for each, why it is not allowed."""
    if hits.is_empty():
        return pl.DataFrame(schema=FINDINGS_SCHEMA)
    positions = hits["row"].unique().sort()
    chosen = table.take(pa.array(positions.to_numpy()))
    conversation = pl.DataFrame(turns(chosen)).select(pl.col("row"), "turn", "role", "content")
    conversation = conversation.with_columns(row=positions.gather(conversation["row"]))
    calls = first_calls(conversation, policy)
    parts: list[pl.DataFrame] = []
    for (habit,), group in hits.group_by("habit", maintain_order=True):
        if habit == Habit.COMMITMENT:
            reason = without_authority(group.with_columns(_amount()), conversation, calls, policy)
        elif habit == Habit.PHANTOM_ACTION:
            named = group.with_columns(act="kind", queue=pl.col("plain").str.extract(_QUEUE, 1))
            reason = without_call(named, calls, policy)
        elif habit == Habit.APOLOGY:
            due = due_apologies(group, conversation, _flagged(chosen, positions, policy), policy)
            reason = pl.select(pl.when(due).then(None).otherwise(pl.lit("no failure of the company is known"))).to_series()
        else:
            reason = pl.Series(["the policy forbids the phrase"] * len(group))
        parts.append(group.with_columns(reason=reason.cast(pl.String)))
    facts = pl.DataFrame(chosen.select(["row_id", "source", "author", "group"])).with_columns(row=positions)
    return (
        pl.concat(parts)
        .join(facts, on="row", how="left", maintain_order="left")
        .select(list(FINDINGS_SCHEMA))
        .sort("row", "turn", "start")
    )


def _amount() -> list[pl.Expr]:
    """The largest sum a sentence names, its currency, and whether it names a percentage."""
    text = pl.col("sentence").str.to_lowercase()
    sums = text.str.extract_all(_SUM).list.eval(
        pl.element().str.replace_all(r"[^\d.]", "").str.strip_chars(".").cast(pl.Float64, strict=False)
    )
    currency = pl.when(False).then(pl.lit(""))
    for code, pattern in _CURRENCIES:
        currency = currency.when(text.str.contains(pattern)).then(pl.lit(code))
    return [
        sums.list.max().alias("amount"),
        currency.otherwise(None).alias("currency"),
        text.str.contains(r"\d\s?%|percent").alias("percent"),
    ]


def _flagged(chosen: pa.Table, positions: pl.Series, policy: Policy) -> pl.Series:
    """Rows that operations flagged as a failure of the company."""
    name = policy.apology.fault_field
    if name is None:
        return positions.clear()
    truth = pl.Series(chosen["meta"]).str.json_path_match(f"$.{name}")
    return positions.filter(truth.str.to_lowercase().is_in(["true", "1", "yes"]).fill_null(False))
