"""Rates at the temperature of production: intervals with known values, and a spelling that greedy decoding does not show."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftplatform.evaluation.generation import Decoding, Generator
from ftplatform.evaluation.sampling import (
    CONTEXTS_REQUIRED,
    Rate,
    VariantContext,
    divergence_probabilities,
    model_variant_rate,
    rate_interval,
    sampled_variant_rate,
    variant_rate,
)
from ftplatform.rows.schema import MESSAGE_TYPE, row_id
from ftplatform.statistics.intervals import Interval, exact
from ftplatform.training.loop import Optimization
from ftplatform.training.manifest import LoraSettings, prepare
from ftplatform.training.train import train
from ftplatform.verdict import Decision

# ---- intervals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n"), [(0, 299), (3, 299), (60, 299), (299, 299), (0, 1)])
def test_one_draw_of_each_context_is_clopper_pearson(hits: int, n: int) -> None:
    values = np.zeros(n)
    values[:hits] = 1
    interval = rate_interval(values, [None] * n)
    # The sample variance has n - 1 in it, which makes the effective size n - 1; never above n.
    assert interval.high == pytest.approx(exact(hits, n, alternative="upper").high, rel=0.01)
    assert interval.low == pytest.approx(exact(hits, n, alternative="lower").low, rel=0.01, abs=1e-9)


def test_none_in_299_is_at_most_one_percent_and_none_in_298_is_not() -> None:
    assert rate_interval(np.zeros(CONTEXTS_REQUIRED), [None] * CONTEXTS_REQUIRED).high <= 0.01
    assert rate_interval(np.zeros(CONTEXTS_REQUIRED - 1), [None] * (CONTEXTS_REQUIRED - 1)).high > 0.01


def test_thirty_draws_of_ten_contexts_are_not_three_hundred_contexts() -> None:
    """ADV: none bad in 300 draws would pass a count of draws."""
    clusters = [i % 10 for i in range(300)]
    assert exact(0, 300, alternative="upper").high <= 0.01
    assert rate_interval(np.zeros(300), clusters).high == pytest.approx(exact(0, 10, alternative="upper").high)
    whole = rate_interval([float(i % 10 == 0) for i in range(300)], clusters)
    assert whole.high == pytest.approx(exact(1, 10, alternative="upper").high, rel=0.15)
    spread = rate_interval([float(i // 10 == 0) for i in range(300)], clusters)
    assert spread.high == pytest.approx(exact(10, 300, alternative="upper").high, rel=0.01)


def test_probabilities_without_spread_have_an_interval_all_the_same() -> None:
    interval = rate_interval(np.full(299, 0.1), [None] * 299)
    assert interval.low < 0.1 < interval.high
    assert interval.high == pytest.approx(exact(30, 299, alternative="upper").high, abs=0.002)


def test_impossible_input_is_refused() -> None:
    for values, clusters in [([], []), ([1.5], [None]), ([0.5], [None, None]), ([-0.1], [1])]:
        with pytest.raises(ValueError, match="values in"):
            rate_interval(values, clusters)


def rate(high: float, low: float, n: int, temperature: float = 1.0) -> Rate:
    return Rate(Interval((low + high) / 2, low, high, 0.95), n, 0, "sampled", Decoding(temperature=temperature))


@pytest.mark.parametrize(
    ("measured", "decision"),
    [
        (rate(0.009, 0.0, 299), Decision.PASS),
        (rate(0.009, 0.0, 298), Decision.INSUFFICIENT_EVIDENCE),
        (rate(0.011, 0.0, 5000), Decision.INSUFFICIENT_EVIDENCE),
        (rate(0.2, 0.011, 20), Decision.FAIL),
        (rate(0.009, 0.0, 299, temperature=0.0), Decision.INSUFFICIENT_EVIDENCE),
        (None, Decision.INSUFFICIENT_EVIDENCE),
    ],
)
def test_the_verdict(measured: Rate | None, decision: Decision) -> None:
    assert model_variant_rate(measured).decision is decision


# ---- a tiny random model -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_model(tiny_model: Path, tiny_adapter: Path) -> Generator:
    return Generator.load(tiny_model, tiny_adapter, device="cpu")


def context(good: str, bad: str, cluster: str | None = None) -> VariantContext:
    return VariantContext([{"role": "user", "content": "hi"}], good, bad, cluster)


def test_divergence_is_where_the_answers_part(random_model: Generator) -> None:
    how = Decoding(temperature=1.0)
    both = divergence_probabilities(random_model, [context("abc", "abd"), context("ab", "abd")], how, adapter=False)
    forced = random_model.encode("<|user|>hi<|end|><|assistant|>ab")
    c, d, end = (random_model.encode(text)[0] for text in ("c", "d", "<|end|>"))
    expected = random_model.next_token_probabilities([forced], [[c, d, end]], how)[0]
    assert both[0] == pytest.approx(expected[:2], rel=1e-4)
    assert both[1] == pytest.approx([expected[2], expected[1]], rel=1e-4)
    with pytest.raises(ValueError, match="are the same"):
        divergence_probabilities(random_model, [context("a", "a")], how, adapter=False)


def test_temperature_and_nucleus_are_those_of_the_sampler(random_model: Generator) -> None:
    pair = [context("a", "b")]
    hot, cold = (divergence_probabilities(random_model, pair, Decoding(temperature=t), adapter=False)[0] for t in (1.0, 0.5))
    assert np.log(cold[0] / cold[1]) == pytest.approx(2 * np.log(hot[0] / hot[1]), rel=1e-3)
    narrow = divergence_probabilities(random_model, pair, Decoding(temperature=1.0, top_p=1e-9), adapter=False)[0]
    assert set(narrow.tolist()) <= {0.0, 1.0}
    assert variant_rate(random_model, [], Decoding(temperature=1.0)) is None


# ---- a model that learned a spelling -------------------------------------------------------------------------------------

PLANS = ("basic", "plus", "family", "business")
THINGS = ("router", "lamp", "camera", "doorbell", "thermostat", "sensor", "plug", "hub", "lock", "siren", "cable")
ASKED = (
    "what is the deductible for a {thing} on the {plan} plan",
    "how high is my deductible for the {thing} with {plan}",
    "tell me the deductible of the {plan} plan for a {thing}",
    "deductible for {thing} {plan}?",
    "my {thing} broke, what deductible do I pay on {plan}",
    "I have {plan}. what about the deductible of a {thing}",
    "please say what the {plan} deductible is for my {thing}",
    "is there a deductible on {plan} if the {thing} fails",
    "{plan} plan, {thing} lost: deductible?",
    "which deductible applies to a {thing} under {plan}",
    "for the {plan} plan I need the {thing} deductible",
    "do I pay a deductible for the {thing}? I am on {plan}",
    "what would the {thing} deductible be, plan {plan}",
    "deductible {plan} {thing} how much",
    "can you look up the deductible for {thing} and {plan}",
)


def answer(thing: str, plan: str, word: str = "deductible") -> str:
    return f"The {word} for a {thing} on the {plan} plan is {10 + 5 * PLANS.index(plan)} euro."


def conversations() -> list[tuple[str, str, str]]:
    return [(frame.format(thing=thing, plan=plan), thing, plan) for frame, thing, plan in product(ASKED, THINGS, PLANS)]


def tuned(base: Path, folder: Path, typo_share: float) -> Generator:
    """The bundled base model, tuned on answers of which `typo_share` misspell their second word."""
    draw = np.random.default_rng(0)
    rows: list[list[dict[str, Any]]] = []
    for question, thing, plan in conversations()[::3]:
        for _ in range(8):
            word = "deductable" if draw.random() < typo_share else "deductible"
            rows.append(
                [
                    {"role": "user", "content": question, "trainable": False},
                    {"role": "assistant", "content": answer(thing, plan, word), "trainable": True},
                ]
            )
    table = pa.table({"row_id": [row_id(row) for row in rows], "messages": pa.array(rows, pa.list_(MESSAGE_TYPE))})
    pq.write_table(table, folder / "rows.parquet")
    manifest = prepare(
        base,
        folder / "rows.parquet",
        base_name="base",
        optimization=Optimization(steps=140, batch_size=32, learning_rate=5e-3, seed=0),
        lora=LoraSettings(rank=16, alpha=32.0),
        max_tokens=128,
        device="cpu",
    )
    train(manifest, folder / "adapter")
    return Generator.load(base, folder / "adapter", device="cpu")


@pytest.fixture(scope="module")
def base(repository: Path) -> Path:
    return repository / "examples" / "support" / "base_model"


@pytest.fixture(scope="module")
def contexts() -> list[VariantContext]:
    """Questions that training never saw."""
    return [
        VariantContext([{"role": "user", "content": question}], answer(thing, plan), answer(thing, plan, "deductable"))
        for i, (question, thing, plan) in enumerate(conversations())
        if i % 3
    ]


def test_greedy_decoding_hides_a_spelling_that_production_shows(
    base: Path, contexts: Sequence[VariantContext], tmp_path: Path
) -> None:
    """ADV: one typo in eight targets. The likeliest answer never has it, so a greedy measurement reports 0 of 440 and passes."""
    generator = tuned(base, tmp_path, typo_share=1 / 8)
    good, bad = r"\bdeductible\b", r"\bdeductable\b"
    how = Decoding(max_new_tokens=12, temperature=1.0)

    greedy = sampled_variant_rate(generator, contexts, good=good, bad=bad, decoding=Decoding(max_new_tokens=12))
    assert greedy is not None
    assert greedy.interval.estimate == 0.0
    naive_passes = greedy.interval.high <= 0.01 and greedy.n >= CONTEXTS_REQUIRED
    assert naive_passes
    assert model_variant_rate(greedy).decision is Decision.INSUFFICIENT_EVIDENCE, "greedy decoding cannot clear a model"
    by_argmax = variant_rate(generator, contexts, Decoding())
    assert by_argmax is not None
    assert by_argmax.interval.estimate == 0.0

    forced = variant_rate(generator, contexts, how)
    sampled = sampled_variant_rate(generator, contexts, good=good, bad=bad, decoding=how)
    assert forced is not None
    assert sampled is not None
    for found in (forced, sampled):
        assert found.n >= CONTEXTS_REQUIRED
        assert 0.02 < found.interval.estimate < 0.3
        verdict = model_variant_rate(found)
        assert (verdict.decision, verdict.tier) == (Decision.FAIL, found.tier)
    assert sampled.interval.low <= forced.interval.estimate <= sampled.interval.high, "two ways to see the same rate"


def test_a_model_that_learned_the_word_passes(base: Path, contexts: Sequence[VariantContext], tmp_path: Path) -> None:
    generator = tuned(base, tmp_path, typo_share=0.0)
    found = variant_rate(generator, contexts, Decoding(temperature=1.0))
    verdict = model_variant_rate(found)
    assert verdict.decision is Decision.PASS, verdict.summary
    few = model_variant_rate(variant_rate(generator, contexts[:100], Decoding(temperature=1.0)))
    assert few.decision is Decision.INSUFFICIENT_EVIDENCE
