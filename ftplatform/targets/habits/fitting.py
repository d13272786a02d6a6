"""Fit the habit classifier again: ``python -m ftplatform.targets.habits.fitting [--out FILE]``. The same file comes out.

The sentences are in `training.txt`: handwritten ones, and templates whose blanks are filled from lists. They are left out by template
and by family (section) to measure the classifier; a template's other fillings never help it.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.canonical import digest
from ftplatform.errors import InputDataError
from ftplatform.targets.habits.classifier import BORDER, CLAIM, COMMITMENT, SentenceClassifier, shipped_path
from ftplatform.targets.habits.features import features

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FILE = "training.txt"
#: Fillings of a template at most.
FILLINGS = 8
#: A feature that fewer templates show than this says more about them than about promises.
MIN_TEMPLATES = 2
#: Inverse strength of the ridge penalty.
C = 1.0
FOLDS = 10
SEED = 0
OUTPUTS = (COMMITMENT, CLAIM)

_BLANK = re.compile(r"\{(\w+)\}")
_SECTION = re.compile(r"\[([\w+]+) ([\w-]+)(?: ([\w-]+))?\]")


@dataclass(frozen=True, slots=True)
class TrainingSentences:
    """Attributes:
    texts: n sentences.
    labels: shape (n, 2), 1 for "commitment" and for "claim".
    templates, families: which template and which section each comes from.
    trades: what trade the section is written in; empty where it is none in particular.
    """

    texts: list[str]
    labels: NDArray[np.int64]
    templates: NDArray[np.int64]
    families: NDArray[np.str_]
    trades: NDArray[np.str_]


def training_sentences(source: str | None = None) -> TrainingSentences:
    """The sentences of the package, or those of a text in the same form, templates filled in.

    Raises:
        InputDataError: naming the line that is wrong.
    """
    text = resources.files("ftplatform.targets.habits").joinpath(FILE).read_text("utf-8") if source is None else source
    lists: dict[str, list[str]] = {}
    texts: list[str] = []
    labels: list[list[int]] = []
    templates: list[int] = []
    families: list[str] = []
    trades: list[str] = []
    named: list[int] | None = None
    family = trade = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("@ "):
            name, _, listed = line[2:].partition(": ")
            lists[name] = listed.split("|")
        elif section := _SECTION.fullmatch(line):
            given, family, trade = section.group(1).split("+"), section.group(2), section.group(3) or ""
            if not set(given) <= {*OUTPUTS, "none"}:
                raise _wrong(number, f"unknown label in [{section.group(1)}]")
            named = [int(name in given) for name in OUTPUTS]
        elif named is None:
            raise _wrong(number, "a sentence before the first section")
        else:
            filled = _fill(line, lists, number)
            texts += filled
            labels += [named] * len(filled)
            templates += [number] * len(filled)
            families += [f"{family} {trade}".strip()] * len(filled)
            trades += [trade] * len(filled)
    return TrainingSentences(texts, np.array(labels).reshape(-1, 2), np.array(templates), np.array(families), np.array(trades))


def _wrong(line: int, what: str) -> InputDataError:
    return InputDataError(f"{FILE}, line {line}: {what}.", remedy="Correct the line.")


def _fill(line: str, lists: dict[str, list[str]], number: int) -> list[str]:
    """Up to `FILLINGS` different fillings, the same ones each time."""
    blanks = set(_BLANK.findall(line))
    if unknown := sorted(blanks - set(lists)):
        raise _wrong(number, f"no list for the blank {unknown[0]!r}")
    if not blanks:
        return [line]
    chance = random.Random(f"{SEED} {line}")
    found: dict[str, None] = {}
    for _ in range(2 * FILLINGS):
        filled = re.sub(r"\s+([.,;!?])|\s+", r"\1 ", _BLANK.sub(lambda blank: chance.choice(lists[blank.group(1)]), line)).strip()
        filled = re.sub(r"\s+", " ", filled)
        found[filled[0].upper() + filled[1:]] = None
    return list(found)[:FILLINGS]


def fit(data: TrainingSentences | None = None) -> SentenceClassifier:
    """Weights fitted on all sentences, with what leaving out templates and families said of them in `facts`."""
    data = training_sentences() if data is None else data
    matrix, names = _matrix(data)
    facts: dict[str, Any] = {
        "sentences": len(data.texts),
        "templates": len(np.unique(data.templates)),
        "data_digest": digest([data.texts, data.labels.tolist()])[:16],
        "labels": {name: int(data.labels[:, i].sum()) for i, name in enumerate(OUTPUTS)},
        "template_left_out": measure(data, matrix, data.templates % FOLDS),
        "family_left_out": measure(data, matrix, data.families),
        "trade_left_out": measure(data, matrix, data.trades, without=""),
    }
    everything = np.ones(len(data.texts), dtype=bool)
    models = [_logistic(matrix, data.labels[:, i], data.templates, everything) for i in range(2)]
    weights = np.round(np.array([model[0] for model in models]).T, 3)
    kept = np.flatnonzero(np.abs(weights).max(axis=1) > 0)
    table = pl.DataFrame({"feature": [names[i] for i in kept], COMMITMENT: weights[kept, 0], CLAIM: weights[kept, 1]})
    bias = {name: round(model[1], 3) for name, model in zip(OUTPUTS, models, strict=True)}
    return SentenceClassifier(table, bias, facts)


def measure(
    data: TrainingSentences, matrix: csr_matrix, group: NDArray[Any], *, without: str | None = None
) -> dict[str, dict[str, float]]:
    """Precision and recall of each output on sentences whose group the fit has not seen.

    Args:
        group: shape (n,).
        without: a group that is always learned from and never measured.
    """
    said = np.zeros(data.labels.shape, dtype=bool)
    measured = np.ones(len(group), dtype=bool) if without is None else group != without
    for held in np.unique(group[measured]):
        rest = group != held
        for i in range(2):
            weights, bias = _logistic(matrix, data.labels[:, i], data.templates, rest)
            said[~rest, i] = matrix[~rest] @ weights + bias >= np.log(BORDER / (1 - BORDER))
    return {name: precision_recall(said[measured, i], data.labels[measured, i] == 1) for i, name in enumerate(OUTPUTS)}


def precision_recall(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> dict[str, float]:
    """Precision and recall, to three decimals; 0 where nothing was said or nothing is true."""
    hits = int((said & true).sum())
    return {"precision": round(hits / max(1, int(said.sum())), 3), "recall": round(hits / max(1, int(true.sum())), 3)}


def _matrix(data: TrainingSentences) -> tuple[csr_matrix, list[str]]:
    """Presence of each feature that `MIN_TEMPLATES` templates show; shape (n, features)."""
    from scipy.sparse import csr_matrix

    found = features(pl.Series(data.texts, dtype=pl.String)).table
    found = found.with_columns(template=pl.Series(data.templates[found["sentence"].to_numpy()]))
    frequent = found.group_by("feature").agg(pl.col("template").n_unique()).filter(pl.col("template") >= MIN_TEMPLATES)
    names: list[str] = sorted(frequent["feature"].to_list())
    column = pl.DataFrame({"feature": names}).with_row_index("column")
    placed = found.join(column, on="feature", how="inner")
    entries = (np.ones(len(placed)), (placed["sentence"].to_numpy(), placed["column"].to_numpy()))
    matrix = csr_matrix(entries, shape=(len(data.texts), len(names)))
    matrix.sort_indices()  # the join keeps no order, and the last digits of a sum depend on its order
    return matrix, names


def _logistic(
    matrix: csr_matrix, labels: NDArray[np.int64], templates: NDArray[np.int64], rows: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """Weights and intercept. Each template counts once, in however many ways it was filled."""
    from sklearn.linear_model import LogisticRegression

    _, place, count = np.unique(templates[rows], return_inverse=True, return_counts=True)
    model = LogisticRegression(C=C, solver="liblinear", tol=1e-6, max_iter=2000, random_state=0)
    model.fit(matrix[rows], labels[rows], sample_weight=4.0 / count[place])
    return np.asarray(model.coef_)[0], float(np.asarray(model.intercept_)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m ftplatform.targets.habits.fitting", description=__doc__)
    parser.add_argument("--out", type=Path, default=shipped_path(), help="file to write; the package's own unless given")
    options = parser.parse_args(arguments)
    try:
        fitted = fit()
    except InputDataError as error:
        print(error, file=sys.stderr)
        return 2
    options.out.write_bytes(fitted.to_json())
    for name, value in fitted.facts.items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
