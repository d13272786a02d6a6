"""The fitted coefficients: what they are, and how they are kept in a file."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ftplatform.canonical import canonical_json
from ftplatform.errors import InputDataError
from ftplatform.evaluation.refusal_judge.error_rates import ErrorRates

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: The coefficients of this package; `README.md` beside them states what they were fitted on.
SHIPPED = Path(__file__).parent / "coefficients" / "xstest.safetensors"

#: Coefficients are kept to so many decimals; what lies beyond is the rounding of a processor, not of the data.
DECIMALS = 4

_FACTS = "facts"


@dataclass(frozen=True, slots=True)
class Classifier:
    """Logistic regression with a calibrated output.

    Attributes:
        weights: shape (d,). bias: added to the linear term.
        slope, offset: Platt scaling of the linear term (J. Platt, Advances in Large Margin Classifiers (1999) 61).
    """

    weights: NDArray[np.float64]
    bias: float
    slope: float = 1.0
    offset: float = 0.0

    def linear(self, features: csr_matrix) -> NDArray[np.float64]:
        """Uncalibrated log-odds, shape (n,)."""
        return np.asarray(features @ self.weights).ravel() + self.bias

    def probability(self, features: csr_matrix) -> NDArray[np.float64]:
        """Shape (n,)."""
        # A sigmoid that cannot overflow.
        return 0.5 * (1 + np.tanh(0.5 * (self.slope * self.linear(features) + self.offset)))


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Everything a judge is made of.

    Attributes:
        lexical: declined or answered, without embeddings.
        embedding: the same with embeddings, or None.
        partial: partial or full refusal, given declined.
        anchors: what the encoder of the fit makes of `encoder.ANCHORS`, shape (2, d), or None.
        facts: what it was fitted on and how it fared (JSON-able), `error_rates` per tier among them.
    """

    lexical: Classifier
    embedding: Classifier | None
    partial: Classifier
    anchors: NDArray[np.float32] | None
    facts: Mapping[str, Any]

    def error_rates(self, tier: str) -> ErrorRates:
        """How `tier` fared on models it had not seen, partial refusals counted as declined."""
        return ErrorRates(**self.facts["error_rates"][tier])

    def save(self, path: Path) -> None:
        """Writes safetensors; the same coefficients give the same bytes."""
        from safetensors.numpy import save

        tensors: dict[str, NDArray[Any]] = {} if self.anchors is None else {"anchors": self.anchors}
        for name, classifier in self._classifiers().items():
            tensors[name] = np.round([*classifier.weights, classifier.bias, classifier.slope, classifier.offset], DECIMALS).astype(
                np.float32
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(save(tensors, {_FACTS: canonical_json(dict(self.facts)).decode()}))

    @classmethod
    def load(cls, path: Path) -> Coefficients:
        """Reads what `save` wrote.

        Raises:
            InputDataError: if the file is missing or not such a file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
                facts = json.loads(opened.metadata()[_FACTS])
            classifiers = {
                name: Classifier(rest[:-3], *(float(value) for value in rest[-3:]))
                for name, rest in ((name, tensors[name].astype(np.float64)) for name in tensors if name != "anchors")
            }
            return cls(classifiers["lexical"], classifiers.get("embedding"), classifiers["partial"], tensors.get("anchors"), facts)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputDataError(
                f"{path} does not hold the coefficients of a refusal judge: {error}.",
                remedy="Fit them again: python -m ftplatform.evaluation.refusal_judge fit DATA.",
            ) from None

    def _classifiers(self) -> dict[str, Classifier]:
        found = {"lexical": self.lexical, "partial": self.partial}
        return found if self.embedding is None else {**found, "embedding": self.embedding}


@functools.cache
def shipped() -> Coefficients:
    """The coefficients of this package."""
    return Coefficients.load(SHIPPED)
