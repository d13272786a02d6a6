"""M12, the first door, on real questions: rows written from failed eval items against rows written for their topic."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import mannwhitneyu
from sklearn.feature_extraction.text import TfidfVectorizer

from ftplatform.contamination.triage import triage_leak
from ftplatform.statistics.intervals import wilson
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests import real_data
from ftplatform_tests.tables import asked, row, table

SEEDS = range(30)
FAILED, PASSED, SAME_TOPIC, BATCH = 12, 188, 28, 300

#: Words that carry no content; kept or dropped at random by a paraphrase.
_STOP = frozenset(
    re.findall(
        r"\w+",
        "i me my a an the to of and in on for is are was do does did can could would you your it that this with from at be have has"
        " had what how why when where there if not no so as by or we us our am will just get",
    )
)


@dataclass(frozen=True)
class World:
    """failed, passed: eval items. old: training rows of the version before, without the topic. honest: new rows on the topic that
    failed. paraphrases: two of each failed item. elsewhere: new rows on everything."""

    failed: pa.Table
    passed: pa.Table
    old: list[str]
    honest: list[str]
    paraphrases: list[str]
    elsewhere: list[str]


@cache
def questions(data: Path, name: str, part: str) -> list[tuple[str, str]]:
    """(text, topic): the domain of a clinc150 query, the intent of a banking77 query."""
    rows = getattr(real_data, name)(data, part).select(["messages", "slices"]).to_pylist()
    topics = {}
    if name == "clinc150":
        domains = real_data.read_json(data / "clinc150" / "domains.json.gz")
        topics = {intent: domain for domain, intents in domains.items() for intent in intents}
    return [(r["messages"][0]["content"], topics.get(r["slices"][0], r["slices"][0])) for r in rows]


def paraphrase(text: str, words: list[str], rng: np.random.Generator) -> str:
    """Keeps 40 to 60 % of the content words; the others are dropped or give way to words of the topic, the parts change places."""
    said = re.findall(r"\w+", text.lower())
    content = [at for at, word in enumerate(said) if word not in _STOP]
    kept = set(rng.choice(content, max(1, round(len(content) * rng.uniform(0.4, 0.6))), replace=False)) if content else set()
    result = []
    for at, word in enumerate(said):
        if at in kept or (word in _STOP and rng.random() < 0.6):
            result.append(word)
        elif word not in _STOP and rng.random() < 0.7:
            result.append(words[rng.integers(len(words))])
    cut = rng.integers(1, len(result)) if len(result) > 4 and rng.random() < 0.5 else 0
    return " ".join(result[cut:] + result[:cut])


@cache
def world(data: Path, name: str, seed: int) -> World:
    """12 failed of 200 items, all of one topic, as failures are."""
    rng = np.random.default_rng(seed)
    test, train = questions(data, name, "test"), questions(data, name, "train")
    topics = sorted({topic for _, topic in test})
    topic = topics[seed % len(topics)]
    inside = rng.permutation([at for at, (_, t) in enumerate(test) if t == topic])[: FAILED + SAME_TOPIC]
    outside = rng.permutation([at for at, (_, t) in enumerate(test) if t != topic])[: PASSED + FAILED - len(inside)]
    items = [row(test[at][0], slices=[test[at][1]]) for at in (*inside, *outside)]
    fresh = [text for text, t in train if t == topic]
    words = [word for text in fresh for word in re.findall(r"\w+", text.lower()) if word not in _STOP]
    others = [text for text, t in train if t != topic]
    return World(
        failed=table(items[:FAILED]),
        passed=table(items[FAILED:]),
        old=[others[at] for at in rng.permutation(len(others))[:1000]],
        honest=[fresh[at] for at in rng.permutation(len(fresh))[:BATCH]],
        paraphrases=[paraphrase(test[at][0], words, rng) for at in inside[:FAILED] for _ in range(2)],
        elsewhere=[train[at][0] for at in rng.permutation(len(train))[:BATCH]],
    )


def leaked(w: World, rest: list[str]) -> Verdict:
    return triage_leak(asked([*w.paraphrases, *rest[: BATCH - len(w.paraphrases)]]), w.failed, w.passed)


def largest_similarity(texts: list[str], batch: list[str]) -> np.ndarray:
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit([*texts, *batch])
    return (vectorizer.transform(texts) @ vectorizer.transform(batch).T).toarray().max(axis=1)


def naive_p(w: World, batch: list[str], *, old: list[str] | None = None) -> float:
    """Failed against passed by largest similarity to the batch, less that to the old rows if given."""
    texts = [r["messages"][0]["content"] for r in (*w.failed.to_pylist(), *w.passed.to_pylist())]
    scores = largest_similarity(texts, batch) - (largest_similarity(texts, old) if old else 0)
    return float(mannwhitneyu(scores[:FAILED], scores[FAILED:], alternative="greater").pvalue)


@pytest.mark.parametrize("name", ["clinc150", "banking77"])
def test_24_paraphrases_of_12_failed_items_fail_and_are_listed(shared_data: Path, name: str) -> None:
    w = world(shared_data, name, 0)
    verdict = leaked(w, w.elsewhere)
    assert verdict.decision is Decision.FAIL
    assert verdict.n == FAILED
    planted = set(asked(w.paraphrases)["row_id"].to_pylist())
    failed = set(w.failed["row_id"].to_pylist())
    assert any(pair["above_threshold"] for pair in verdict.evidence)
    assert {pair["eval_row_id"] for pair in verdict.evidence} == failed, "each failed item with its nearest row"
    listed = [pair["row_id"] in planted for pair in verdict.evidence]
    assert sum(listed) / len(listed) >= 0.75
    alone = triage_leak(asked(w.paraphrases), w.failed, w.passed)
    assert alone.decision is Decision.FAIL


@pytest.mark.parametrize("name", ["clinc150", "banking77"])
def test_300_fresh_rows_on_the_failed_topic_pass(shared_data: Path, name: str) -> None:
    w = world(shared_data, name, 0)
    verdict = triage_leak(asked(w.honest), w.failed, w.passed)
    assert verdict.decision is Decision.PASS
    assert verdict.details["pairs_above_threshold"] > 0, "rows of a topic look alike; pairs alone prove nothing"
    # The same test without topics takes the topic for the source, and the difference to the old rows does so all the more.
    assert naive_p(w, w.honest) < 0.01
    assert naive_p(w, w.honest, old=w.old) < 0.01


def test_without_topics_a_remedial_batch_is_not_blocked_but_shown(shared_data: Path) -> None:
    w = world(shared_data, "clinc150", 1)
    bare = [table([{**r, "slices": []} for r in part.to_pylist()]) for part in (w.failed, w.passed)]
    verdict = triage_leak(asked(w.honest), *bare)
    assert verdict.decision is Decision.WARN
    assert "slices" in verdict.remedy
    named = dict(zip(w.failed["row_id"].to_pylist() + w.passed["row_id"].to_pylist(), ["a"] * FAILED + ["b"] * PASSED, strict=True))
    # A topic that nothing passed has no control: the honest answer is that it cannot be told.
    assert triage_leak(asked(w.honest), *bare, topics=named).decision is Decision.INSUFFICIENT_EVIDENCE


def test_real_rephrasings_of_gsm8k(shared_data: Path) -> None:
    rng = np.random.default_rng(0)
    items, train = (real_data.gsm8k(shared_data, part) for part in ("test", "train"))
    rephrased = real_data.read_jsonl(shared_data / "llm_decontaminator" / "rephrase__rephrase_gsm8k.jsonl.gz")
    chosen = rng.permutation(items.num_rows)[: FAILED + PASSED]
    failed, passed = items.take(chosen[:FAILED]), items.take(chosen[FAILED:])
    texts = [rephrased[at]["text"].removeprefix("Question: ").partition("\nAnswer:")[0] for at in chosen[:FAILED]]
    fresh = train.take(rng.permutation(train.num_rows)[:BATCH])
    batch = pa.concat_tables([asked(texts), fresh.slice(FAILED)])
    verdict = triage_leak(batch, failed, passed)
    assert verdict.decision is Decision.FAIL
    pairs = {(pair["eval_row_id"], pair["row_id"]) for pair in verdict.evidence}
    truth = set(zip(failed["row_id"].to_pylist(), asked(texts)["row_id"].to_pylist(), strict=True))
    assert len(pairs & truth) >= 10
    assert triage_leak(fresh, failed, passed).decision is Decision.PASS


def test_power_and_false_alarms_over_30_seeds(shared_data: Path) -> None:
    """The project's figures; a change of the method that costs power or honesty shows here."""
    counts = {"honest": 0, "leak": 0, "hidden leak": 0, "naive on honest": 0, "difference on honest": 0}
    for seed in SEEDS:
        w = world(shared_data, "clinc150", seed)
        counts["honest"] += triage_leak(asked(w.honest), w.failed, w.passed).decision is Decision.FAIL
        counts["leak"] += leaked(w, w.elsewhere).decision is Decision.FAIL
        counts["hidden leak"] += leaked(w, w.honest).decision is Decision.FAIL
        counts["naive on honest"] += naive_p(w, w.honest) < 0.01
        counts["difference on honest"] += naive_p(w, w.honest, old=w.old) < 0.01
    intervals = {what: wilson(count, len(SEEDS)) for what, count in counts.items()}
    print(json.dumps({what: [round(i.estimate, 2), round(i.low, 2), round(i.high, 2)] for what, i in intervals.items()}))
    assert intervals["honest"].high < 0.2
    assert intervals["leak"].low > 0.8
    assert intervals["hidden leak"].low > 0.3
    assert intervals["naive on honest"].low > 0.5
    assert intervals["difference on honest"].low > 0.5
