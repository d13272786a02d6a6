"""M9 on real data: every check, calibration on the channel's own splits, and remedies that make the AUC fall."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from ftplatform.synthesis.calibration import PASS_BELOW, calibrate_surface
from ftplatform.synthesis.content_mix import content_mix_match
from ftplatform.synthesis.coverage import input_tail_coverage
from ftplatform.synthesis.gaps import input_feature_gaps
from ftplatform.synthesis.remedies.resample import mix
from ftplatform.synthesis.remedies.style import condition_style
from ftplatform.synthesis.report import RealismReport, realism_report
from ftplatform.synthesis.surface import input_surface_match
from ftplatform.verdict import Decision
from ftplatform_tests import real_data
from ftplatform_tests.acceptance.test_m09_input_surface import naive_centroid_cosine, polished, texts
from ftplatform_tests.tables import asked


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> pa.Table:
    return real_data.banking77(shared_data, "test")


@pytest.fixture(scope="module")
def train(shared_data: Path) -> pa.Table:
    return real_data.banking77(shared_data, "train")


@pytest.fixture(scope="module")
def same_topics(reference: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Half of the real inputs as a tasteful teacher would put them, and the other half as they are."""
    real = texts(reference)
    random.Random(0).shuffle(real)
    half = len(real) // 2
    return asked([polished(text) for text in real[:half]]), asked(real[half:])


def test_real_against_real_passes_every_check(train: pa.Table, reference: pa.Table) -> None:
    for check in (input_feature_gaps, input_tail_coverage, content_mix_match):
        verdict = check(train, reference)
        assert verdict.decision is Decision.PASS, verdict.summary


def test_generated_text_fails_with_the_right_features_and_tails_named(shared_data: Path, reference: pa.Table) -> None:
    candidate = real_data.bitext(shared_data)
    gaps = input_feature_gaps(candidate, reference)
    assert gaps.decision is Decision.FAIL
    # The generator writes in lower case, without final marks, one request each.
    assert [e["feature"] for e in gaps.evidence[:4]] == [
        "end_punctuation",
        "initial_capital",
        "punctuation_per_word",
        "question_mark",
    ]
    tails = input_tail_coverage(candidate, reference)
    assert tails.decision is Decision.FAIL
    assert tails.ci_low is not None
    assert tails.ci_low > 0.5
    found = {t["tail"]: t for t in tails.details["tails"]}
    assert found["long"]["lost"]
    assert found["multi_intent"]["candidate"] == 0 < found["multi_intent"]["reference"]
    mixed = content_mix_match(candidate, reference)
    assert mixed.decision is Decision.WARN
    assert mixed.estimate is not None
    assert mixed.estimate > 0.1


def test_same_topics_and_centroid_still_fail_and_the_topics_pass(same_topics: tuple[pa.Table, pa.Table]) -> None:
    """ADV: every check of content is satisfied."""
    candidate, real = same_topics
    assert naive_centroid_cosine(texts(candidate), texts(real)) > 0.9
    assert content_mix_match(candidate, real).decision is Decision.PASS
    verdict = input_feature_gaps(candidate, real)
    assert verdict.decision is Decision.FAIL
    assert {"politeness", "connectors", "log_words"} <= {e["feature"] for e in verdict.evidence[:3]}


def test_lower_case_and_typos_leave_the_gaps_that_matter(same_topics: tuple[pa.Table, pa.Table]) -> None:
    """ADV: a check that looks for capitals and typos is satisfied, or more than satisfied."""
    rng = random.Random(1)
    candidate, real = same_topics
    letters = "abcdefghijklmnopqrstuvwxyz"
    cheap = [
        "".join(rng.choice(letters) if c.isalpha() and rng.random() < 0.03 else c for c in t.lower()) for t in texts(candidate)
    ]
    verdict = input_feature_gaps(asked(cheap), real)
    assert verdict.decision is Decision.FAIL
    gaps = {str(e["feature"]): float(e["d"] or 0) for e in verdict.evidence}
    assert gaps["unknown_word_rate"] > 0.5, "typos enough and to spare"
    assert min(abs(gaps[name]) for name in ("politeness", "connectors", "log_words")) > 0.8


@pytest.mark.parametrize("favored", [0, 2])
def test_another_topic_mix_of_the_same_users_only_warns_about_the_mix(train: pa.Table, reference: pa.Table, favored: int) -> None:
    corpus = train.to_pylist()
    intents = sorted({r["slices"][0] for r in corpus})
    quarter = {intent: number * 4 // len(intents) for number, intent in enumerate(intents)}
    random.Random(favored).shuffle(corpus)
    candidate: list[str] = []
    for part in range(4):
        members = [r["messages"][0]["content"] for r in corpus if quarter[r["slices"][0]] == part]
        candidate += members[: 1400 if part == favored else 200]
    skewed = asked(candidate)
    assert content_mix_match(skewed, reference).decision is Decision.WARN
    assert input_surface_match(skewed, reference).decision is Decision.PASS
    assert input_feature_gaps(skewed, reference).decision is Decision.PASS
    assert not [t for t in input_tail_coverage(skewed, reference).details["tails"] if t["lost"]]


def test_fifty_inputs_are_not_enough_for_any_check(shared_data: Path, reference: pa.Table) -> None:
    few = real_data.bitext(shared_data).slice(0, 50)
    for check in (input_surface_match, input_feature_gaps, input_tail_coverage, content_mix_match):
        assert check(few, reference).decision is Decision.INSUFFICIENT_EVIDENCE


def test_two_domains_of_one_channel_pass_after_calibration_on_others(shared_data: Path) -> None:
    """Finance and insurance chats, by limits from airline against finance: other rows, and insurance was never looked at."""
    airline, known = (real_data.multidogo(shared_data, domain, "train", min_words=4) for domain in ("airline", "finance"))
    calibration = calibrate_surface(pa.concat_tables([airline, known]), "source")
    assert calibration.calibrated
    assert PASS_BELOW < calibration.pass_below < 0.70
    finance, insurance = (real_data.multidogo(shared_data, domain, "test", min_words=4) for domain in ("finance", "insurance"))
    uncalibrated = input_surface_match(finance, insurance)
    assert uncalibrated.decision is Decision.WARN, "the general limit asks for more than these chats agree among themselves"
    verdict = input_surface_match(finance, insurance, calibration=calibration)
    assert verdict.decision is Decision.PASS, verdict.summary
    # The wider limit lets nothing generated through.
    generated = input_surface_match(real_data.bitext(shared_data), insurance, calibration=calibration)
    assert generated.decision is Decision.FAIL


def test_another_channel_does_not_widen_the_limits(shared_data: Path, train: pa.Table) -> None:
    """ADV: calibrated by the two most different real sets at hand, everything passes."""
    spoken = real_data.clinc150(shared_data, "train")
    calibration = calibrate_surface(pa.concat_tables([train, spoken]), "source")
    (pair,) = [split for split in calibration.splits if split.note]
    assert pair.auc > 0.9
    assert (calibration.calibrated, calibration.pass_below) == (False, PASS_BELOW)


@pytest.fixture(scope="module")
def remedied(shared_data: Path, train: pa.Table, reference: pa.Table) -> RealismReport:
    return realism_report(
        real_data.bitext(shared_data).slice(0, 2500),
        pa.concat_tables([train, reference]),
        {
            "style": lambda rows, learn: condition_style(rows, learn, 1),
            "mix": lambda rows, learn: mix(rows, learn, 0.5, 1),
            "style and mix": lambda rows, learn: mix(condition_style(rows, learn, 1), learn, 0.5, 1),
        },
        permutations=60,
    )


def test_each_remedy_makes_the_auc_fall(remedied: RealismReport) -> None:
    bounds = {step.name: (step.verdict.ci_low, step.verdict.ci_high) for step in remedied.steps}
    low = {name: float(pair[0] or 0) for name, pair in bounds.items()}
    high = {name: float(pair[1] or 0) for name, pair in bounds.items()}
    assert low["as written"] > 0.93
    assert high["style"] < low["as written"]
    assert high["mix"] < low["style"]
    assert high["style and mix"] < low["mix"]


def test_what_style_can_close_is_closed(remedied: RealismReport) -> None:
    gaps = {step.name: {str(e["feature"]): abs(float(e["d"] or 0)) for e in step.verdict.evidence} for step in remedied.steps}
    for feature in ("end_punctuation", "initial_capital", "punctuation_per_word"):
        assert gaps["as written"][feature] > 1
        assert gaps["style"][feature] < 0.5
    # What it is about is left to a better teacher.
    assert gaps["style"]["characters_per_word"] > 0.5
