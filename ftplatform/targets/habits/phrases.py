"""Which phrases are over-represented against approved text, and who writes them: weighted log-odds with an informative prior.

Raw ratios put the rarest words first and raw differences the commonest. The prior, words as frequent as in both texts together,
shrinks what is rare; dividing by the standard error ranks what is left by evidence.

Source: B. Monroe, M. Colaresi, K. Quinn, "Fightin' Words", Political Analysis 16 (2008) 372, equations 15, 16 and 22.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform import plots
from ftplatform.errors import InputDataError
from ftplatform.rows.masking import mask_text
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.targets.habits.batching import Rows, tables

#: Weight of the prior, in words (Monroe's choice for a corpus of speeches).
PRIOR_WORDS = 500.0
#: Different phrases that are counted at once; beyond, the rarest are dropped, and with them what appears once in a batch.
MAX_PHRASES = 2_000_000
#: Words of the longest phrase.
LONGEST = 3

# Channels, handles, emoji codes, ticket numbers, abbreviations with a slash, words. Case is kept for capitals, which may be acronyms.
_TOKEN = r"[#@][\w-]{2,}|:[a-z_+-]{2,}:|\b[A-Z]{2,6}-\d+\b|\b[bcw]/[a-z]?\b|\b[\p{L}\d]+(?:['’]\p{L}+)?"
_COUNTS = {"phrase": pl.String, "count": pl.Int64}
_BY_AUTHOR = {"phrase": pl.String, "author": pl.String, "len": pl.Int64}


def spoken(rows: Rows, *, trainable_only: bool) -> Iterator[pl.DataFrame]:
    """`turn_id` (Int64, through the whole input), `author`, `content` of assistant turns, batch by batch."""
    before = 0
    for table in tables(rows):
        said = pl.DataFrame(turns(table, Role.ASSISTANT, trainable_only=trainable_only)).select("row", "content")
        authors = pl.Series(table["author"], dtype=pl.String)
        yield said.select(
            turn_id=pl.int_range(pl.len(), dtype=pl.Int64) + before, author=authors.gather(said["row"]), content="content"
        )
        before += len(said)


def tokens(said: pl.DataFrame) -> pl.DataFrame:
    """`turn_id`, `author`, `token`: lower case, but words in capitals as they are."""
    word = pl.col("token")
    acronym = word.str.contains(r"^[A-Z]{2,5}$|^[A-Z]{2,6}-\d+$") & ~pl.col("shouted")
    return (
        said.with_columns(token=pl.col("content").str.extract_all(_TOKEN), shouted=~pl.col("content").str.contains(r"\p{Ll}"))
        .drop("content")
        .explode("token", empty_as_null=False)
        .select("turn_id", "author", token=pl.when(acronym).then(word).otherwise(word.str.to_lowercase()))
    )


def count_phrases(parts: Iterable[pl.DataFrame], longest: int = LONGEST) -> tuple[pl.DataFrame, int]:
    """`phrase`, `count` of runs of 1 to `longest` words inside turns, and the number of words.

    Args:
        parts: batches as `tokens` gives them.
    """
    total, words = pl.DataFrame(schema=_COUNTS), 0
    for part in parts:
        words += len(part)
        counts = runs(part, longest).group_by("phrase").agg(count=pl.len().cast(pl.Int64))
        total = pl.concat([total, counts]).group_by("phrase").agg(pl.col("count").sum())
        if len(total) > MAX_PHRASES:
            total = total.top_k(MAX_PHRASES // 2, by="count")
    return total, words


def runs(part: pl.DataFrame, longest: int) -> pl.DataFrame:
    """Every run of 1 to `longest` words of a turn: `turn_id`, `author`, `phrase`."""
    found, phrase = [part.rename({"token": "phrase"})], pl.col("token")
    for ahead in range(1, longest):
        phrase = phrase + " " + pl.col("token").shift(-ahead)
        same = pl.col("turn_id").shift(-ahead) == pl.col("turn_id")
        found.append(part.select("turn_id", "author", phrase=pl.when(same).then(phrase)).drop_nulls("phrase"))
    return pl.concat(found)


def log_odds(targets: tuple[pl.DataFrame, int], approved: tuple[pl.DataFrame, int], prior: float = PRIOR_WORDS) -> pl.DataFrame:
    """How much likelier each phrase is in targets than in approved text.

    Args:
        targets, approved: counts and number of words, as `count_phrases` gives them; both hold at least one word.
        prior: weight of the prior, in words.

    Returns:
        `phrase`, `count`, `approved` (counts), `log_odds` (difference of log-odds), `z` (in standard errors), largest `z` first.
    """
    (ours, n), (theirs, m) = targets, approved
    if not n or not m:
        raise ValueError(f"{n} words of targets and {m} of approved text; both sides need some")
    both = ours.join(theirs.rename({"count": "approved"}), on="phrase", how="full", coalesce=True).fill_null(0)
    y, x = (both[name].to_numpy().astype(np.float64) for name in ("count", "approved"))
    alpha = prior * (y + x) / (n + m)
    odds = np.log((y + alpha) / (n + prior - y - alpha)) - np.log((x + alpha) / (m + prior - x - alpha))
    error = np.sqrt(1 / (y + alpha) + 1 / (x + alpha))
    return both.with_columns(log_odds=odds, z=odds / error).sort("z", "phrase", descending=[True, False])


def over_represented(
    rows: pa.Table | Callable[[], Rows], approved: Rows, *, top: int = 40, at_least: int = 5, longest: int = LONGEST
) -> tuple[pl.DataFrame, str]:
    """The mining view: what agents write that approved text does not, and which agents.

    Args:
        rows: targets (`ROW_SCHEMA`), or a function that starts their batches; trainable assistant turns are read, twice.
        approved: approved text (`ROW_SCHEMA`); its assistant turns are read.
        top: phrases to list. at_least: times a phrase has to occur.

    Returns:
        Frame `phrase` (masked), `count`, `approved`, `log_odds`, `z`, `authors` (how many wrote it), `top_author` (masked),
        `top_author_share` of its uses, largest `z` first, all above 0; and a chart of it as SVG.

    Raises:
        InputDataError: either side holds no word.
    """

    def ours() -> Iterator[pl.DataFrame]:
        return (tokens(part) for part in spoken(rows() if callable(rows) else rows, trainable_only=True))

    counted = count_phrases(ours(), longest)
    reference = count_phrases((tokens(part) for part in spoken(approved, trainable_only=False)), longest)
    if not counted[1] or not reference[1]:
        raise InputDataError(
            f"{counted[1]:,} words of targets and {reference[1]:,} of approved text; both sides need some.",
            remedy="Provide rows with trainable assistant turns, and approved texts with assistant turns.",
        )
    chosen = log_odds(counted, reference).filter((pl.col("count") >= at_least) & (pl.col("z") > 0)).head(top)
    by_author = pl.concat([pl.DataFrame(schema=_BY_AUTHOR), *(_by_author(part, chosen, longest) for part in ours())])
    by_author = by_author.group_by("phrase", "author").agg(pl.col("len").sum()).sort("len", "author", descending=[True, False])
    who = by_author.group_by("phrase", maintain_order=True).agg(
        authors=pl.len(), top_author=pl.col("author").first(), top_author_share=pl.col("len").first() / pl.col("len").sum()
    )
    table = chosen.join(who, on="phrase", how="left", maintain_order="left").with_columns(
        pl.col("phrase", "top_author").map_elements(mask_text, return_dtype=pl.String), pl.col("authors").fill_null(0)
    )
    chart = plots.bars(
        [(phrase, z) for phrase, z in table.select("phrase", "z").head(25).iter_rows()],
        title="Phrases over-represented against approved text",
        x_label="z of the log-odds",
    )
    return table, chart


def _by_author(part: pl.DataFrame, chosen: pl.DataFrame, longest: int) -> pl.DataFrame:
    """How often each known author used each chosen phrase."""
    used = runs(part, longest).drop_nulls("author").join(chosen.select("phrase"), on="phrase", how="semi")
    return used.group_by("phrase", "author").agg(len=pl.len().cast(pl.Int64))
