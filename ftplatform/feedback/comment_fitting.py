"""Fit the comment model again: ``python -m ftplatform.feedback.comment_fitting [--out FILE]``. The same file comes out.

The texts are in `comment_training.txt`. The model is measured with whole groups of them left out, each a manner of commenting or
answering that the fit has not seen.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.canonical import digest
from ftplatform.errors import InputDataError
from ftplatform.feedback.comment_model import BORDER, FILE, CommentModel, features
from ftplatform.feedback.meta_language import normalized

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TRAINING = "comment_training.txt"
#: Texts that have to show a feature.
MIN_TEXTS = 2
#: Inverse strength of the ridge penalty.
C = 0.3

_SECTION = re.compile(r"\[(comment|answer) ([\w-]+)\]")


@dataclass(frozen=True, slots=True)
class TrainingTexts:
    """Attributes:
    texts: n texts.
    comments: shape (n,), whether each is a comment.
    groups: the section of each, shape (n,).
    """

    texts: list[str]
    comments: NDArray[np.bool_]
    groups: NDArray[np.str_]


def training_texts(source: str | None = None) -> TrainingTexts:
    """The texts of the package, or those of a text in the same form.

    Raises:
        InputDataError: naming the line before the first section.
    """
    text = (files("ftplatform.feedback") / TRAINING).read_text("utf-8") if source is None else source
    texts: list[str] = []
    comments: list[bool] = []
    groups: list[str] = []
    section: re.Match[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        if named := _SECTION.fullmatch(line):
            section = named
        elif section is None:
            raise InputDataError(f"{TRAINING}, line {number}: a text before the first section.", remedy="Correct the line.")
        else:
            texts.append(line)
            comments.append(section.group(1) == "comment")
            groups.append(section.group(2))
    return TrainingTexts(texts, np.array(comments), np.array(groups))


def fit(data: TrainingTexts | None = None) -> CommentModel:
    """Weights fitted on all texts, with what leaving out each group said of them in `facts`."""
    data = training_texts() if data is None else data
    matrix, names = _matrix(data.texts)
    left_out = np.zeros(len(data.texts))
    for group in np.unique(data.groups):
        rest = data.groups != group
        weights, bias = _logistic(matrix[rest], data.comments[rest])
        left_out[~rest] = matrix[~rest] @ weights + bias
    said = left_out >= np.log(BORDER / (1 - BORDER))
    facts = {
        "texts": len(data.texts),
        "comments": int(data.comments.sum()),
        "data_digest": digest([data.texts, data.comments.tolist()])[:16],
        "group_left_out": {
            "recall": round(float(said[data.comments].mean()), 3),
            "false_alarms": round(float(said[~data.comments].mean()), 3),
        },
        "groups": _by_group(data, said),
    }
    weights, bias = _logistic(matrix, data.comments)
    weights = np.round(weights, 3)
    kept = np.flatnonzero(weights)
    return CommentModel(pl.DataFrame({"feature": [names[i] for i in kept], "weight": weights[kept]}), round(bias, 3), facts)


def _by_group(data: TrainingTexts, said: NDArray[np.bool_]) -> dict[str, str]:
    return {str(g): f"{int(said[data.groups == g].sum())} of {int((data.groups == g).sum())}" for g in np.unique(data.groups)}


def _matrix(texts: list[str]) -> tuple[csr_matrix, list[str]]:
    """Presence of each feature that `MIN_TEXTS` texts show; shape (n, features)."""
    from scipy.sparse import csr_matrix

    clean = pl.DataFrame({"text": texts}).select(normalized(pl.col("text"))).to_series()
    found = features(clean)
    names: list[str] = sorted(found.group_by("feature").len().filter(pl.col("len") >= MIN_TEXTS)["feature"].to_list())
    placed = found.join(pl.DataFrame({"feature": names}).with_row_index("column"), on="feature", how="inner")
    entries = (np.ones(len(placed)), (placed["text"].to_numpy(), placed["column"].to_numpy()))
    return csr_matrix(entries, shape=(len(texts), len(names))), names


def _logistic(matrix: csr_matrix, comments: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, solver="liblinear", tol=1e-6, max_iter=2000, random_state=0, class_weight="balanced")
    model.fit(matrix, comments)
    return np.asarray(model.coef_)[0], float(np.asarray(model.intercept_)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m ftplatform.feedback.comment_fitting", description=__doc__)
    own = Path(str(files("ftplatform.feedback"))) / FILE
    parser.add_argument("--out", type=Path, default=own, help="file to write; the package's own unless given")
    options = parser.parse_args(arguments)
    try:
        fitted = fit()
    except InputDataError as error:
        print(error, file=sys.stderr)
        return 2
    options.out.write_bytes(fitted.to_json())
    facts: dict[str, Any] = dict(fitted.facts)
    for name, value in facts.items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
