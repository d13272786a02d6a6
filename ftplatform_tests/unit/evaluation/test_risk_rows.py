"""Rows that lie near harmful requests, by the bundled base model's representation and by characters."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.evaluation.kinds import Kind
from ftplatform.evaluation.representations import MODEL_TIER, TEXT_TIER, Represent, base_representation, character_tfidf
from ftplatform.evaluation.risk_rows import safety_risk_rows, user_texts
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.aligned_world import BASE, exam, read, rows_of


@pytest.fixture(scope="module")
def harmful() -> pa.Table:
    return exam("refusal_probes", Kind.REFUSAL_PROBES, each=20).rows


@pytest.fixture(scope="module")
def safe() -> pa.Table:
    return pa.concat_tables(
        [exam("overrefusal_probes", Kind.OVERREFUSAL_PROBES).rows, exam("benign_requests", Kind.HELPFULNESS_PROBES).rows]
    )


@pytest.fixture(scope="module")
def customers() -> pa.Table:
    return rows_of(read("production_inputs.jsonl"))


@pytest.fixture(scope="module")
def transcripts() -> pa.Table:
    return rows_of(read("transcripts.jsonl")[:600])


@pytest.fixture(scope="module")
def risky() -> pa.Table:
    """Rows that answer what the safety mix declines: what no label of the data would call harmful, planted."""
    declined = [r for r in read("safety_mix.jsonl") if not r["category"].startswith("answered_")]
    rng = random.Random(0)
    return rows_of([{**r, "completion": "Sure. Start with the easy part.", "category": None} for r in rng.sample(declined, 200)])


@pytest.fixture(scope="module")
def model() -> Represent:
    return base_representation(BASE, device="cpu")


def judged(rows: pa.Table, harmful: pa.Table, safe: pa.Table, reference: pa.Table, represent: Represent, tier: str) -> Verdict:
    return safety_risk_rows(rows, harmful, safe, reference, represent, tier=tier)


@pytest.mark.parametrize("tier", [MODEL_TIER, TEXT_TIER])
def test_planted_rows_are_found_and_usual_ones_are_not(
    tier: str, model: Represent, harmful: pa.Table, safe: pa.Table, customers: pa.Table, transcripts: pa.Table, risky: pa.Table
) -> None:
    both = pa.concat_tables([transcripts, risky])
    texts = [t for table in (both, harmful, safe, customers) for t in user_texts(table)]
    represent = model if tier == MODEL_TIER else character_tfidf(texts)
    quiet = judged(transcripts, harmful, safe, customers, represent, tier)
    assert quiet.decision is Decision.PASS
    assert quiet.tier == tier
    verdict = judged(both, harmful, safe, customers, represent, tier)
    assert verdict.decision is Decision.WARN
    assert verdict.estimate is not None
    assert verdict.estimate > 0.5
    planted = set(risky["row_id"].to_pylist())
    assert sum(row in planted for row in verdict.details["riskiest_row_ids"][:100]) >= 90
    assert len(verdict.evidence) == 20
    assert verdict.plot
    assert verdict.plot.startswith("<svg")


def test_nearness_to_harmful_requests_alone_cries_wolf() -> None:
    """ADV: harmless how-to questions are phrased like harmful ones; compared with small talk they look risky to a one-sided rule."""
    angles = {"harmful": 0.3, "row": -0.25, "safe": -0.3, "usual": 1.8}
    rng = np.random.default_rng(0)
    wobble = rng.normal(0, 0.02, 10_000)

    def represent(texts: Sequence[str]) -> np.ndarray:
        parts = [text.split() for text in texts]
        angle = np.array([angles[kind] + wobble[int(i)] for kind, i in parts])
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    made = {kind: table_of([f"{kind} {i}" for i in range(600)]) for kind in angles}
    near = {kind: (represent(user_texts(made[kind])) @ represent(user_texts(made["harmful"])).T).mean(axis=1) for kind in angles}
    assert (np.sort(near["row"])[-100:] > near["usual"].max()).all(), "the one-sided rule warns"
    verdict = judged(made["row"], made["harmful"], made["safe"], made["usual"], represent, "made up")
    assert verdict.decision is Decision.PASS


def test_a_large_split_does_not_warn_by_its_size() -> None:
    """ADV: of 200,000 rows like the reference 200 lie beyond its 99.9th percentile, so the hundred riskiest always do."""
    rng = np.random.default_rng(0)
    vectors = {f"row {i}": v for i, v in enumerate(rng.normal(size=200_000))}
    vectors |= {f"usual {i}": v for i, v in enumerate(rng.normal(size=5000))}
    vectors |= {f"harmful {i}": 1.0 for i in range(30)} | {f"safe {i}": 0.0 for i in range(30)}

    def represent(texts: Sequence[str]) -> np.ndarray:
        return np.array([[vectors[t]] for t in texts], np.float32)

    def made(name: str, n: int) -> pa.Table:
        return table_of([f"{name} {i}" for i in range(n)])

    rows, usual = made("row", 200_000), made("usual", 5000)
    values = np.array([vectors[f"row {i}"] for i in range(200_000)])
    limit = np.quantile([vectors[f"usual {i}"] for i in range(5000)], 0.999)
    assert (np.sort(values)[-100:] > limit).all(), "the naive rule warns"
    verdict = judged(rows, made("harmful", 30), made("safe", 30), usual, represent, "made up")
    assert verdict.details["top_rows"] == 800
    assert verdict.decision is Decision.PASS


def table_of(texts: list[str]) -> pa.Table:
    from ftplatform.rows.schema import MESSAGE_TYPE

    turns = pa.StructArray.from_arrays(
        [pa.array(["user"] * len(texts)), pa.array(texts), pa.array([False] * len(texts))], fields=list(MESSAGE_TYPE)
    )
    messages = pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), turns)
    return pa.table({"row_id": texts, "messages": messages, "slices": pa.array([[]] * len(texts), pa.list_(pa.string()))})


def test_too_little_of_anything_is_no_pass(harmful: pa.Table, safe: pa.Table, customers: pa.Table, transcripts: pa.Table) -> None:
    represent = character_tfidf(user_texts(transcripts))
    for rows, anchors, other, usual in (
        (transcripts.slice(0, 50), harmful, safe, customers),
        (transcripts, harmful.slice(0, 10), safe, customers),
        (transcripts, harmful, safe.slice(0, 10), customers),
        (transcripts, harmful, safe, customers.slice(0, 100)),
        (transcripts, harmful.slice(0, 0), safe, customers),
    ):
        assert judged(rows, anchors, other, usual, represent, TEXT_TIER).decision is Decision.INSUFFICIENT_EVIDENCE


def test_representations_do_not_depend_on_the_batch(model: Represent) -> None:
    texts = ["How do I reset the router?", "hi", "a much longer question about " + "very " * 40 + "many things"]
    together = model(texts)
    assert together.shape == (3, 128)
    for i, text in enumerate(texts):
        np.testing.assert_allclose(np.asarray(together[i]), np.asarray(model([text])[0]), atol=2e-6)
    assert np.linalg.norm(together[0]) == pytest.approx(1.0, abs=1e-5)
