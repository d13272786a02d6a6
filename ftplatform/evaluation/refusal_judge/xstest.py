"""The labeled answers the judge is fitted on and measured with: XSTest v2 (Röttger et al. 2024, arXiv 2308.01263).

Five models answered 450 prompts (250 safe, 200 unsafe); two people labeled each answer as full compliance, partial refusal or full
refusal, a third settled what they disagreed on. The prompts and labels are CC-BY-4.0; the answers are the models' and stand under
their terms, so that neither is part of this package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.errors import InputDataError
from ftplatform.evaluation.refusal_judge.labels import Label

_FILE = re.compile(r"xstest_v2_completions_(?P<model>[a-z0-9]+)(?:_(?P<judge>gpteval|streval))?\.csv(?:\.gz)?$")
_KEY = ("id", "prompt", "completion", "final_label")
_JUDGES = {"gpteval": "gpt4_label", "streval": "strmatch_label"}
_LABELS = {
    "1_full_compliance": Label.COMPLY,
    "2_full_refusal": Label.REFUSE,
    "3_partial_refusal": Label.SAFE_COMPLETE,
}
_REMEDY = (
    "Give the folder of XSTest v2 (github.com/paul-rottger/exaggerated-safety) with model_completions and the evaluation files."
)


@dataclass(frozen=True, slots=True)
class LabeledAnswers:
    """n answers with what people said about them.

    Attributes:
        models, prompts, answers: who was asked, what, and what it said.
        humans: `REFUSE`, `SAFE_COMPLETE` (partial refusal) or `COMPLY`.
        peers: labels of other judges on the same answers, as published: `gpt4_label` (GPT-4 with a three-class prompt; where it
            declined to judge, its own words) and `strmatch_label`.
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    humans: tuple[Label, ...]
    peers: dict[str, tuple[str, ...]]

    @property
    def full(self) -> NDArray[np.bool_]:
        """Which answers are wholly one or the other: the subset of the two-class comparison. Shape (n,)."""
        return np.array([human is not Label.SAFE_COMPLETE for human in self.humans])


def read_xstest(folder: Path) -> LabeledAnswers:
    """The labeled answers in `folder`, models and prompts in a fixed order.

    Raises:
        InputDataError: if files, columns, rows or labels are missing, or the files disagree.
    """
    tables: dict[str, pl.DataFrame] = {}
    for path in sorted(folder.rglob("*")):
        if (match := _FILE.search(path.name)) and path.is_file():
            judge = _JUDGES.get(match["judge"] or "")
            frame = _read(path, judge)
            known = tables.get(match["model"])
            tables[match["model"]] = frame if known is None else _joined(known, frame, path)
    if not tables:
        raise InputDataError(f"{folder} holds no xstest_v2_completions_*.csv.", remedy=_REMEDY)
    whole = pl.concat([frame.with_columns(model=pl.lit(model)) for model, frame in sorted(tables.items())], how="diagonal")
    unknown = whole.filter(~pl.col("final_label").is_in(list(_LABELS)))
    if len(unknown):
        raise InputDataError(
            f"{folder}: answer {unknown['id'][0]} of {unknown['model'][0]} has the label {unknown['final_label'][0]!r}.",
            remedy=_REMEDY,
        )
    return LabeledAnswers(
        tuple(whole["model"]),
        tuple(whole["prompt"]),
        tuple(whole["completion"]),
        tuple(_LABELS[label] for label in whole["final_label"]),
        {peer: tuple(whole[peer].fill_null("")) for peer in _JUDGES.values() if peer in whole.columns},
    )


def _read(path: Path, judge: str | None) -> pl.DataFrame:
    columns = [*_KEY, *([judge] if judge else [])]
    try:
        frame = pl.read_csv(path, columns=columns, infer_schema=False).fill_null("")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputDataError(f"{path} is not a file of labeled answers: {error}.", remedy=_REMEDY) from None
    if frame["id"].n_unique() != len(frame):
        raise InputDataError(f"{path} has a prompt twice.", remedy=_REMEDY)
    return frame


def _joined(known: pl.DataFrame, other: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Columns of both; they must hold the same answers with the same human labels."""
    joined = known.join(other, on=list(_KEY), how="inner", maintain_order="left", suffix="_again")
    if len(joined) != len(known) or len(known) != len(other):
        raise InputDataError(f"{path} disagrees with another file about the same answers.", remedy=_REMEDY)
    return joined.drop([name for name in joined.columns if name.endswith("_again")])
