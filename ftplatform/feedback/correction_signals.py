"""Four signals that a correction is a comment about the answer, or an instruction, and not an answer itself.

Each is blind to something, so two of them are needed. The overlap and the length say nothing of a short true target ("No.", "$42.10",
"Sydney."): a share of two words is no share, so of a few words the overlap only speaks where they are talk about the answer, and
length alone never flags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.feedback import comment_model
from ftplatform.feedback.meta_language import is_meta, normalized

#: Mean log-probability per token (nats) of each continuation given its prompt, under the untuned model. Called with (prompts, texts).
LogProbability = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]

#: Content words below which the overlap says nothing of a text that is not meta-language.
MIN_CONTENT_WORDS = 3

#: Corrections with an old answer below which no quantile of the log-probability gain is taken.
MIN_SCORED = 40

# A word is what both sides of an overlap can share; numbers and amounts are what a correction is there to change.
_WORD = r"[\p{L}][\p{L}'-]+"
_STOP_WORDS = """
a about after all also an and any are as at be because been before being but by can could did do does for from get had
has have he her here him his how i i'm if in into is isn't it it's its just like may me more most my no not now of off
on one or our out over please she should so some such than thank thanks that that's the their them then there these
they this those to too up us very was way we were what when where which while who why will with would yes you you're
your
""".split()  # noqa: SIM905 - a list of a hundred quoted words cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalLimits:
    """When a signal fires.

    Attributes:
        overlap: share of the correction's content words that prompt and old answer have too, up to which it fires.
        length_ratio: characters of the correction over those of the old answer, below which it fires.
        log_probability: quantile of the gain in log-probability below which it fires.
    """

    overlap: float = 0.05
    length_ratio: float = 0.3
    log_probability: float = 0.05


#: Columns of `correction_signals`; the text signals first.
TEXT_SIGNALS = ("meta_language", "overlap", "length")
SIGNALS = (*TEXT_SIGNALS, "log_probability")


def correction_signals(
    corrections: pa.Table, limits: SignalLimits | None = None, *, log_probability: LogProbability | None = None
) -> pl.DataFrame:
    """Which signals fire for each correction.

    Args:
        corrections: `prompt`, `answer` (null if not known) and `correction`, all strings.
        limits: when they fire.
        log_probability: of the untuned model; without one its signal never fires. The gain is log p(correction | prompt) - log
            p(old answer | prompt), and "low" is measured on the rows that no text signal doubts, so that many comments cannot make
            themselves the norm.

    Returns:
        One row per correction, in order: booleans `meta_language`, `overlap`, `length`, `log_probability` (false where a signal
        abstains) and `signals`, how many fire.

    Raises:
        ValueError: if the model does not return one number per text.
    """
    limits = limits or SignalLimits()
    correction, context = pl.col("correction"), pl.concat_str("prompt", pl.col("answer").fill_null(""), separator=" ")
    frame = pl.DataFrame({name: corrections[name] for name in ("prompt", "answer", "correction")}).with_columns(
        clean=normalized(correction), words=_content_words(correction), known=_content_words(context)
    )
    modeled = comment_model.shipped().probabilities(frame["clean"]) >= comment_model.BORDER
    meta, distinct = is_meta(pl.col("clean")) | pl.Series(modeled), pl.col("words").list.len()
    shared = pl.col("words").list.set_intersection("known").list.len()
    ratio = correction.str.strip_chars().str.len_chars() / pl.col("answer").str.strip_chars().str.len_chars()
    fired = frame.select(
        meta_language=meta,
        overlap=((distinct >= MIN_CONTENT_WORDS) | meta) & (shared <= limits.overlap * distinct),
        length=(ratio < limits.length_ratio).fill_null(False),
    )
    low = np.zeros(fired.height, dtype=bool)
    if log_probability is not None:
        low = _unlikely(frame, fired.select(pl.any_horizontal(TEXT_SIGNALS)).to_series().to_numpy(), limits, log_probability)
    return fired.with_columns(pl.Series("log_probability", low)).with_columns(
        signals=pl.sum_horizontal(pl.col(name).cast(pl.Int32) for name in SIGNALS)
    )


def _content_words(text: pl.Expr) -> pl.Expr:
    return normalized(text).str.extract_all(_WORD).list.set_difference(pl.lit(_STOP_WORDS, dtype=pl.List(pl.String)))


def _unlikely(
    frame: pl.DataFrame, doubted: NDArray[np.bool_], limits: SignalLimits, log_probability: LogProbability
) -> NDArray[np.bool_]:
    answered = frame["answer"].is_not_null().to_numpy()
    low = np.zeros(frame.height, dtype=bool)
    undoubted = answered & ~doubted
    if undoubted.sum() < MIN_SCORED:
        return low
    asked = frame.filter(answered)
    prompts = asked["prompt"].to_list()
    gain = np.subtract(
        *(_one_each(log_probability(prompts, asked[name].to_list()), len(prompts)) for name in ("correction", "answer"))
    )
    low[answered] = gain < np.quantile(gain[undoubted[answered]], limits.log_probability)
    return low


def _one_each(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (n,) or not np.isfinite(numbers).all():
        raise ValueError(f"log_probability returned shape {numbers.shape} for {n} texts, or numbers that are not finite")
    return numbers
