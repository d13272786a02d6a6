"""Rephrased eval items in the training data: candidates by TF-IDF, an optional encoder, a calibrated threshold, confirmation."""

from __future__ import annotations

from ftplatform.contamination.paraphrase.check import contamination_paraphrase, paraphrase_pairs
from ftplatform.contamination.paraphrase.encoder import CachedEncoder, Encoder, SentenceTransformerEncoder
from ftplatform.contamination.paraphrase.reviews import REVIEW_SCHEMA, InvalidReview
from ftplatform.contamination.paraphrase.rule import ParaphraseRule

__all__ = [
    "REVIEW_SCHEMA",
    "CachedEncoder",
    "Encoder",
    "InvalidReview",
    "ParaphraseRule",
    "SentenceTransformerEncoder",
    "contamination_paraphrase",
    "paraphrase_pairs",
]
