"""What the near comparison looks for: the questions and long answers of the eval sets, which of their words tell them apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.contamination.scan import NgramIndex, Scanner, all_tokens
from ftplatform.errors import InputDataError
from ftplatform.rows.normalize import NORMALIZER_VERSION, normalize
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

#: Tokens per seed. With every seventh word replaced six in a row remain; five leave room for one more edit.
SEED = 5
#: Training rows from which word frequencies and templates are learned: a share of a tenth is then known within half a point.
_SAMPLE_ROWS = 20_000
#: A template is shared by at least this many different items.
_TEMPLATE_ITEMS = 3

QUESTION, ANSWER = "question", "answer"


@dataclass(frozen=True, slots=True)
class NearRule:
    """Parameters of the comparison.

    Attributes:
        run_tokens: a common run of this many tokens is a match; of a shorter item, `run_share` of it.
        run_share: see there.
        informative_tokens: words with inverse document frequency above the median, of all items or of their own, that a match must
            hold (all, where an item has fewer). Numbers are not informative, and symbols are not even counted: worked sums share
            "60 + 20 = 80" and nothing else.
        containment: share of an item's 3-token shingles found in one training row that is a match.
        edited_share: share of an item's tokens found in order around common seeds that is a match.
        short_tokens: items of fewer tokens are matched whole or by containment only.
        template_share: text that stands in at least this share of the training rows and of an eval set's items belongs to a template.
        closed_set_questions: an answer found after so many different questions belongs to a closed set and identifies none of them.
        max_share: upper bound of the contaminated share that passes.
        held_out_sets: eval sets of rows held out of the very data that is trained on. One fact answers many of its questions, so
            only the questions are the exam; in other sets an answer that turns up in training is a hit as well.
        vault_sets: eval sets for which that bound is the upper confidence bound; elsewhere it is compared with the share itself.
        confidence: of the upper bound, one-sided.
        max_uncheckable: share of eval items with nothing to compare above which the check abstains.

    Raises:
        InputDataError: on a share outside (0, 1] or fewer tokens than a seed has.
    """

    run_tokens: int = 13
    run_share: float = 0.8
    informative_tokens: int = 5
    containment: float = 0.8
    edited_share: float = 0.7
    short_tokens: int = 13
    template_share: float = 0.1
    closed_set_questions: int = 5
    max_share: float = 0.005
    held_out_sets: frozenset[str] = frozenset()
    vault_sets: frozenset[str] = frozenset()
    confidence: float = 0.95
    max_uncheckable: float = 0.05

    def __post_init__(self) -> None:
        for name in ("run_share", "containment", "edited_share", "template_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InputDataError(f"{name} {getattr(self, name)} is not in (0, 1].", remedy="Use a share such as 0.8.")
        for name in ("run_tokens", "short_tokens"):
            if getattr(self, name) < 2 * SEED:
                raise InputDataError(f"{name} {getattr(self, name)} is below {2 * SEED}.", remedy="Use a count such as 13.")

    def record(self) -> dict[str, Any]:
        """The parameters for a verdict's config."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        named = {name: sorted(fields[name]) for name in ("held_out_sets", "vault_sets")}
        return {**fields, **named, "seed_tokens": SEED, "normalizer": NORMALIZER_VERSION}


@dataclass(frozen=True)
class Probes:
    """The distinct texts to look for. Per probe (n,) or per token of all probes (tokens,), where probe i begins at `starts[i]`.

    Attributes:
        texts: part ("question" or "answer") and text of each probe.
        items: frame (eval_set, row, probe): which eval rows say it.
        index: seeds of all probes without those that belong to templates.
        own: (tokens,): a word or number that is not part of a template; only these are counted.
        informative: (tokens,): the own words that tell items apart.
        references: frame (probe, reference): the normalized answers of the eval rows that ask the question `probe`.
    """

    texts: pl.DataFrame
    items: pl.DataFrame
    index: NgramIndex
    own: NDArray[np.bool_]
    informative: NDArray[np.bool_]
    references: pl.DataFrame

    @property
    def starts(self) -> NDArray[np.int64]:
        """First token of each probe."""
        return self.index.tokens.bounds[:-1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each probe."""
        return np.diff(self.index.tokens.bounds)

    def totals(self, per_token: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many tokens of each probe are true."""
        sums = prefix_sums(per_token)
        return sums[self.index.tokens.bounds[1:]] - sums[self.index.tokens.bounds[:-1]]


def prefix_sums(per_token: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Entry k counts the true ones among the first k."""
    return np.concatenate([[0], np.cumsum(per_token)]).astype(np.int64)


def spoken(rows: pa.Table, role: Role) -> tuple[pa.ChunkedArray, NDArray[np.int64]]:
    """The turns of one role and the row of each."""
    table = turns(rows, role)
    return table["content"], table["row"].to_numpy().astype(np.int64)


def probes_of(train: pa.Table, evals: Mapping[str, pa.Table], rule: NearRule) -> Probes:
    """Index the eval sets; word frequencies and templates come from a sample of the training rows at even distances."""
    everything = pl.concat([_said(table, name) for name, table in evals.items()])
    said = everything.filter((pl.col("part") == QUESTION) | ~pl.col("eval_set").is_in(list(rule.held_out_sets)))
    tokens = all_tokens(said["text"].to_arrow())
    counts = np.diff(tokens.bounds)
    long_enough = np.where(said["part"].to_numpy() == ANSWER, counts >= rule.short_tokens, counts > 0)
    items = said.filter(pl.Series(long_enough, dtype=pl.Boolean))
    texts = items.select("part", "text").unique(maintain_order=True).with_row_index("probe")
    items = items.join(texts, on=["part", "text"], how="left", maintain_order="left").select("eval_set", "row", "probe")
    index = NgramIndex.of(texts["text"].to_arrow(), SEED)
    step = max(1, -(-train.num_rows // _SAMPLE_ROWS))
    sample = train.select(["row_id", "messages"]).take(pa.array(np.arange(0, train.num_rows, step)))
    grams = _template_grams(sample, index, items, rule)
    occurrences = np.flatnonzero(np.isin(np.repeat(np.arange(len(index.keys)), np.diff(index.bounds)), grams))
    begins = index.tokens.bounds[index.items[occurrences]] + index.positions[occurrences]
    template = np.zeros(len(index.tokens.hashes), bool)
    template[(begins[:, None] + np.arange(SEED)).ravel()] = True
    written = pl.Series(normalize(texts["text"].to_arrow()), dtype=pl.String).str.split(" ").explode()
    written = written.filter(written != "")
    own = written.str.contains(r"[\p{L}\p{N}]").to_numpy() & ~template
    informative = _rare(sample, index) & written.str.contains(r"\p{L}").to_numpy() & own
    return Probes(texts, items, index.without(grams), own, informative, _references(everything, items))


def _said(rows: pa.Table, eval_set: str) -> pl.DataFrame:
    """eval_set, row, part, text: all user turns joined, and the last answer."""
    table = turns(rows)
    frame = pl.DataFrame({"row": table["row"], "role": table["role"], "text": table["content"]})
    asked = frame.filter(pl.col("role") == str(Role.USER)).group_by("row", maintain_order=True).agg(pl.col("text").str.join("\n"))
    answers = frame.filter(pl.col("role") == str(Role.ASSISTANT)).group_by("row", maintain_order=True).agg(pl.col("text").last())
    parts = [asked.with_columns(part=pl.lit(QUESTION)), answers.with_columns(part=pl.lit(ANSWER))]
    return pl.concat(parts).select(pl.lit(eval_set).alias("eval_set"), "row", "part", "text")


def _references(said: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    answers = said.filter(pl.col("part") == ANSWER).select("eval_set", "row", reference="text")
    answers = items.join(answers, on=["eval_set", "row"]).select("probe", "reference")
    answers = answers.with_columns(reference=pl.Series(normalize(answers["reference"].to_arrow()), dtype=pl.String))
    return answers.filter(pl.col("reference") != "").unique(maintain_order=True)


def _template_grams(sample: pa.Table, index: NgramIndex, items: pl.DataFrame, rule: NearRule) -> NDArray[np.int64]:
    """Grams common in the training rows *and* in an eval set: one item copied a thousand times is a leak, not a template."""
    found = [Scanner(index).scan(*spoken(sample, role)) for role in (Role.USER, Role.ASSISTANT)]
    pairs = np.unique(np.concatenate([hits.owners * len(index.keys) + hits.grams for hits in found]))
    rows = np.bincount(pairs % max(1, len(index.keys)), minlength=len(index.keys))
    common = rows >= max(2, rule.template_share * sample.num_rows)
    lengths = np.diff(index.tokens.bounds)
    # A whole short item is an item however common it is.
    common &= lengths[index.items[index.bounds[:-1]]] >= SEED
    gram_of = np.repeat(np.arange(len(index.keys)), np.diff(index.bounds))
    shared = np.zeros(len(index.keys), bool)
    for _, own in items.group_by("eval_set"):
        member = np.zeros(len(lengths), bool)
        member[own["probe"].to_numpy()] = True
        of = np.unique(gram_of[member[index.items]] * len(lengths) + index.items[member[index.items]]) // len(lengths)
        shared |= np.bincount(of, minlength=len(index.keys)) >= max(_TEMPLATE_ITEMS, rule.template_share * member.sum())
    return np.flatnonzero(common & shared)


def _rare(sample: pa.Table, index: NgramIndex) -> NDArray[np.bool_]:
    """Tokens whose inverse document frequency, over the sampled rows and the probes, is above the median of all items or of their own."""
    vocabulary, token = np.unique(index.tokens.hashes, return_inverse=True)
    if not len(vocabulary):
        return np.zeros(0, bool)
    streams = [(token, index.tokens.texts(), len(index.tokens.bounds) - 1)]
    for role in (Role.USER, Role.ASSISTANT):
        contents, rows = spoken(sample, role)
        tokens = all_tokens(contents).of_owners(rows)
        at = np.minimum(np.searchsorted(vocabulary, tokens.hashes), len(vocabulary) - 1)
        known = vocabulary[at] == tokens.hashes
        streams.append((at[known], tokens.texts()[known], len(tokens.bounds) - 1))
    documents = np.zeros(len(vocabulary), np.int64)
    for tokens_of, document, count in streams:
        seen = np.unique(tokens_of.astype(np.int64) * max(1, count) + document)
        documents += np.bincount(seen // max(1, count), minlength=len(vocabulary))
    # Above the median of all items or of its own: by the first alone, the rare words of one eval set would leave another of plain words
    # with nothing to tell; by the second alone, an item of nothing but rare words would.
    rarity = pl.DataFrame({"item": index.tokens.texts(), "rarity": -documents[token]})
    medians = pl.min_horizontal(pl.col("rarity").median(), pl.col("rarity").median().over("item"))
    return rarity.select(pl.col("rarity") > medians)["rarity"].to_numpy()
