"""The sentence classifier: does a sentence promise something, does it claim that something was done?

Two logistic regressions over the features of `features`. The weights ship as JSON, one number for each feature by its name, so that
anybody can read why a sentence was flagged; `fitting` makes them again from the training sentences of this package.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.canonical import digest
from ftplatform.errors import InputDataError
from ftplatform.targets.habits.features import features

FILE = "model.json"
#: Probability from which the classifier's word is taken: where precision and recall meet on families left out, a little to the side
#: of recall, because a promise that is missed costs more than a sentence that is masked.
BORDER = 0.4
#: Names of the two outputs.
COMMITMENT, CLAIM = "commitment", "claim"


@dataclass(frozen=True)
class SentenceClassifier:
    """Fitted weights.

    Attributes:
        weights: frame `feature`, `commitment`, `claim` (Float64).
        bias: intercept of each output.
        facts: how it was fitted and how well it does, for people.
    """

    weights: pl.DataFrame
    bias: Mapping[str, float]
    facts: Mapping[str, Any]

    def probabilities(self, texts: pl.Series) -> NDArray[np.float64]:
        """Probability of "commitment" and of "claim" for each sentence, shape (n, 2); no claim where there is nothing to claim."""
        scores = np.tile([self.bias[COMMITMENT], self.bias[CLAIM]], (len(texts), 1))
        seen = features(texts)
        summed = seen.table.join(self.weights, on="feature", how="inner").group_by("sentence").agg(pl.col(COMMITMENT, CLAIM).sum())
        scores[summed["sentence"].to_numpy()] += summed.select(COMMITMENT, CLAIM).to_numpy()
        found = 0.5 * (1 + np.tanh(0.5 * scores))
        found[~seen.can_claim, 1] = 0
        return found

    def to_json(self) -> bytes:
        """The file, with a feature on each line."""
        lines = [
            f"{json.dumps(feature)}: [{commitment:g}, {claim:g}]"
            for feature, commitment, claim in self.weights.sort("feature").iter_rows()
        ]
        head = {"facts": dict(self.facts), "bias": {name: round(value, 3) for name, value in self.bias.items()}}
        return (json.dumps(head, indent=1)[:-2] + ',\n "weights": {\n' + ",\n".join(lines) + "\n}}\n").encode()

    @classmethod
    def load(cls, data: bytes, *, source: str) -> SentenceClassifier:
        """Reads what `to_json` wrote.

        Raises:
            InputDataError: if `data` is something else.
        """
        try:
            document = json.loads(data)
            entries = document["weights"].items()
            weights = pl.DataFrame(
                {
                    "feature": [name for name, _ in entries],
                    **{k: [pair[i] for _, pair in entries] for i, k in enumerate((COMMITMENT, CLAIM))},
                },
                schema={"feature": pl.String, COMMITMENT: pl.Float64, CLAIM: pl.Float64},
            )
            bias = {name: float(document["bias"][name]) for name in (COMMITMENT, CLAIM)}
            return cls(weights, bias, document["facts"])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, pl.exceptions.PolarsError) as error:
            raise InputDataError(
                f"{source} does not hold the weights of the habit classifier: {error}.",
                remedy="Fit them again: python -m ftplatform.targets.habits.fitting.",
            ) from None

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the weights; part of every decision made with them."""
        return digest([self.weights.sort("feature").to_dict(as_series=False), dict(self.bias)])


@functools.cache
def shipped() -> SentenceClassifier:
    """The weights of this package."""
    return SentenceClassifier.load(resources.files("ftplatform.targets.habits").joinpath(FILE).read_bytes(), source=FILE)


def shipped_path() -> Path:
    """Where the package keeps its weights."""
    return Path(str(resources.files("ftplatform.targets.habits"))) / FILE
