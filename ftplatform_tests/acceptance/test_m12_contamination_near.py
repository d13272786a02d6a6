"""M12 on real data: items edited lightly, items that only look alike, official splits, and rephrasings that no n-gram finds."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from ftplatform.contamination.exact import contaminated_items
from ftplatform.contamination.near import contamination_near
from ftplatform.contamination.near_items import NearRule, probes_of
from ftplatform.contamination.near_matching import near_hits
from ftplatform.contamination.scan import NgramIndex, Scanner
from ftplatform.rows.normalize import normalize_text
from ftplatform.verdict import Decision
from ftplatform_tests import real_data
from ftplatform_tests.tables import asked, row, table


def questions(rows: pa.Table) -> list[str]:
    return [messages[0]["content"] for messages in rows["messages"].to_pylist()]


def similar(train: list[str], items: list[str], threshold: float = 0.7) -> float:
    """Share of the items with character 5-gram Jaccard similarity of at least the threshold to a training text, computed exactly."""
    vectors = CountVectorizer(analyzer="char", ngram_range=(5, 5), binary=True).fit([*train, *items])
    known, asked_for = vectors.transform(dict.fromkeys(train)), vectors.transform(items)
    sizes, found = np.asarray(known.sum(axis=1)).ravel(), 0
    for start in range(0, len(items), 256):
        part = asked_for[start : start + 256]
        both = (part @ known.T).tocoo()
        union = np.asarray(part.sum(axis=1)).ravel()[both.row] + sizes[both.col] - both.data
        found += len(np.unique(both.row[both.data >= threshold * union]))
    return found / len(items)


def every_seventh(text: str, phase: int, pick: random.Random) -> str:
    fillers = ["quilt", "anchor", "velvet", "marble", "copper"]
    return " ".join(pick.choice(fillers) if i % 7 == phase else word for i, word in enumerate(text.split()))


def with_another_word(text: str, common: Counter[str], word: str) -> str:
    """The text with its rarest word of four letters or more replaced."""
    words = text.split()
    at = min((common[w.lower()], i) for i, w in enumerate(words) if len(w) > 3)[1]
    return " ".join([*words[:at], word, *words[at + 1 :]])


def splits(data: Path, name: str) -> tuple[pa.Table, pa.Table]:
    if name in ("insurance", "finance"):
        return real_data.multidogo(data, name, "train"), real_data.multidogo(data, name, "test", min_words=5)
    return getattr(real_data, name)(data, "train"), getattr(real_data, name)(data, "test")


@pytest.mark.parametrize(
    ("name", "exact", "alike", "near"),
    [
        ("banking77", 0.008, 0.1026, 0.087),
        ("clinc150", 0.004, 0.0618, 0.034),
        ("gsm8k", 0.0, 0.0015, 0.006),
        ("insurance", 0.402, 0.5272, 0.458),
        ("finance", 0.255, 0.3613, 0.312),
    ],
)
def test_official_splits(shared_data: Path, name: str, exact: float, alike: float, near: float) -> None:
    """`exact` and `alike` (J >= .7) are the known answers for questions; here J is exact, 1 to 4 points above a MinHash estimate of it."""
    train, items = splits(shared_data, name)
    verdict = contamination_near(train, {name: items})
    assert verdict.decision is Decision.FAIL
    assert verdict.n == items.num_rows
    assert verdict.estimate == pytest.approx(near, abs=0.004)
    copies = contaminated_items(train, {name: items}).num_rows / items.num_rows
    assert copies == pytest.approx(exact, abs=0.0031)
    assert similar(questions(train), questions(items)) == pytest.approx(alike, abs=0.001)
    # Between the copies and what is alike by letters; gsm8k's answers are read as well.
    assert verdict.estimate is not None
    assert copies <= verdict.estimate
    assert verdict.estimate <= alike or name == "gsm8k"


@pytest.mark.parametrize("phase", [0, 3])
def test_every_seventh_word_changed(shared_data: Path, phase: int) -> None:
    items, train = questions(real_data.gsm8k(shared_data, "test")), questions(real_data.gsm8k(shared_data, "train"))
    pick = random.Random(phase)
    edited = [every_seventh(text, phase, pick) for text in items]
    verdict = contamination_near(asked([*edited, *train]), {"gsm8k": asked(items)})
    assert verdict.estimate is not None
    assert verdict.estimate >= 0.95
    # The share found by chance is what the training questions alone give: five items.
    assert contamination_near(asked(train), {"gsm8k": asked(items)}).estimate == pytest.approx(5 / 1319, abs=0.001)
    index = NgramIndex.of(pa.array(items), 13)
    hits = Scanner(index).scan(pa.array(edited))
    assert len(set(hits.owners.tolist())) < 0.01 * len(items)


def test_short_texts_with_every_seventh_word_changed(shared_data: Path) -> None:
    items = [text for text in questions(real_data.banking77(shared_data, "test")) if len(text.split()) >= 13]
    pick = random.Random(3)
    other = questions(real_data.clinc150(shared_data, "train"))
    verdict = contamination_near(asked([every_seventh(text, 3, pick) for text in items] + other), {"bank": asked(items)})
    assert len(items) > 700
    assert verdict.estimate is not None
    assert verdict.estimate >= 0.95


@pytest.mark.parametrize(("name", "other"), [("gsm8k", "clinc150"), ("banking77", "clinc150"), ("clinc150", "banking77")])
def test_unrelated_items_are_left_alone(shared_data: Path, name: str, other: str) -> None:
    train, items = splits(shared_data, other)[0], splits(shared_data, name)[1]
    verdict = contamination_near(train, {name: items})
    assert verdict.estimate is not None
    assert verdict.estimate <= 0.01
    assert verdict.n == items.num_rows
    # Thirteen tokens in a row is all that an n-gram rule can look for: it has nothing to say about the short items it calls clean.
    shorter = sum(len(normalize_text(text).split()) < 13 for text in questions(items))
    assert verdict.details["uncheckable_share"] == 0
    assert (shorter / items.num_rows > 0.7) is (name != "gsm8k")


def test_rephrased_questions_are_beyond_n_grams(shared_data: Path) -> None:
    items = questions(real_data.gsm8k(shared_data, "test"))
    rephrased = [r["text"] for r in real_data.read_jsonl(shared_data / "llm_decontaminator" / "rephrase__rephrase_gsm8k.jsonl.gz")]
    assert len(items) == len(rephrased) == 1319

    def share_a_gram(width: int) -> float:
        index = NgramIndex.of(pa.array(items), width)
        hits = Scanner(index).scan(pa.array(rephrased))
        hit, item, _ = hits.expand(index)
        return len({int(i) for i, owner in zip(item, hits.owners[hit], strict=True) if i == owner}) / len(items)

    assert share_a_gram(13) == 0
    assert share_a_gram(8) == pytest.approx(0.063, abs=0.02)
    assert share_a_gram(5) == pytest.approx(0.484, abs=0.04)
    verdict = contamination_near(asked(rephrased), {"gsm8k": asked(items)})
    assert verdict.estimate is not None
    assert verdict.estimate < 0.01  # this check does not replace contamination_paraphrase


def test_one_item_in_thousands_is_named_with_its_door(shared_data: Path) -> None:
    train, items = real_data.gsm8k(shared_data, "train"), real_data.gsm8k(shared_data, "test")
    before = contamination_near(train, {"gsm8k": items}, NearRule(max_share=0.01))
    assert before.decision is Decision.PASS
    text = every_seventh(questions(items)[700], 5, random.Random(0))
    rows = table([*train.to_pylist(), row(f"Solve this: {text}", "no idea", surface="synthetic")])
    verdict = contamination_near(rows, {"gsm8k": items}, NearRule(max_share=0.0061))
    assert verdict.decision is Decision.FAIL
    hit = next(e for e in verdict.evidence if e["eval_row_id"] == items["row_id"][700].as_py())
    assert (hit["train_row_id"], hit["tier"], hit["door"]) == (rows["row_id"][-1].as_py(), "edited", "synthetic seed")


@pytest.mark.parametrize("name", ["gsm8k", "banking77", "clinc150", "insurance", "finance"])
def test_other_fillings_of_planted_templates_are_told_from_planted_copies(shared_data: Path, name: str) -> None:
    """The settings were chosen on the first two; the others are as good."""
    texts = list(dict.fromkeys(questions(splits(shared_data, name)[0])))
    common = Counter(word.lower() for text in texts for word in set(text.split()))
    fillings = sorted(word for word, count in common.items() if 3 <= count <= 200 and re.fullmatch("[a-z]{4,}", word))
    pick = random.Random(1)
    long = [text for text in texts if len(text.split()) >= 13]
    chosen = pick.sample(long, min(300, len(long)))
    ordinary = [row(text, "an answer") for text in texts if text not in set(chosen)]
    frames, leaked = chosen[:200], chosen[200:]
    train, items = list(ordinary), []
    for frame in frames:
        filled = [row(with_another_word(frame, common, word), f"about {word}") for word in pick.sample(fillings, 9)]
        train, items = [*train, *filled[:6]], [*items, *filled[6:]]
    evals = {"items": table(items)}
    probes = probes_of(table(train), evals, NearRule())
    alike = near_hits(table(train), probes, NearRule()).hits["probe"].n_unique() / len(items)
    verdict = contamination_near(table(train), evals)
    assert alike > 0.95  # ADV: by runs, containment and alignment alone nearly all of them are copies
    assert verdict.estimate is not None
    assert verdict.estimate < 0.1
    # Copies beside them with one name changed, or with every seventh word, however many and whatever they say in reply.
    copies = [row(with_another_word(text, common, pick.choice(fillings)), "one reply") for text in leaked]
    edited = [row(every_seventh(text, 3, pick), f"reply {i}") for text in leaked for i in range(4)]
    items = table([row(text, "an answer of its own") for text in leaked])
    for leaks in (copies, edited):
        verdict = contamination_near(table([*train, *leaks]), {"items": items})
        assert verdict.estimate is not None
        assert verdict.estimate >= 0.95
