"""Code as code: what counts as it, which features outlive a rephrasing, hostile source, and rivals."""

from __future__ import annotations

import datetime
import random
import re
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ftplatform.contamination.paraphrase import REVIEW_SCHEMA, ParaphraseRule, contamination_paraphrase, paraphrase_pairs
from ftplatform.contamination.paraphrase.code import CodeIndex, features, is_code, parsed
from ftplatform.contamination.paraphrase.code_search import CodeSet
from ftplatform.contamination.paraphrase.texts import text_keys
from ftplatform.verdict import Decision
from ftplatform_tests.tables import asked
from ftplatform_tests.unit.contamination.paraphrase_code import library

PYTHON = '''def clip(values, low=2, high=40):
    """Bound every value. clip([1, 99]) gives [2, 40]."""
    kept = []
    for value in values:
        kept.append(max(low, min(value, high)))
    return kept
'''
RENAMED = '''def bound(numbers, floor=2, ceiling=40):
    """Bound every value. bound([1, 99]) gives [2, 40]."""
    out = []
    for number in numbers:
        out.append(max(floor, min(number, ceiling)))
    return out
'''
JAVASCRIPT = """```javascript
// Bound every value: clip([1, 99]) gives [2, 40].
function clip(values) { const kept = []; for (const v of values) { kept.push(Math.max(2, Math.min(v, 40))); } return kept; }
```"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PYTHON, True),
        (JAVASCRIPT, True),
        ("import os", True),
        ("total = price * 2", True),
        ("Yes", False),
        ("Tom; Jane", False),
        ("1 + 1", False),
        ("How many eggs are left?", False),
        ("if he says so", False),
        ("", False),
    ],
)
def test_code_is_what_parses_or_stands_in_a_fence(text: str, expected: bool) -> None:
    assert is_code(text) is expected


def test_a_renamed_function_keeps_its_structure_and_values() -> None:
    one, other = features(PYTHON), features(RENAMED)
    for view in ("syntax", "tokens", "literals"):
        assert one[view] == other[view]
    assert one["words"] != other["words"]
    # Another function of the same size does not.
    third = features("def clip(values, low=2, high=40):\n    return sorted(set(values))[low:high]\n")
    assert third["syntax"] != one["syntax"]


def test_another_language_is_compared_by_tokens_and_values() -> None:
    one, other = features(PYTHON), features(JAVASCRIPT)
    assert not other["syntax"]
    assert {"max()", "min()"} <= set(one["tokens"]) & set(other["tokens"])
    assert {"1 99", "2 40"} <= set(one["literals"]) & set(other["literals"])


def test_arity_and_library_calls_are_structure() -> None:
    assert features("def f(a, b):\n    return abs(a)")["syntax"]["FunctionDef 2"] == 1
    assert features("def g(x, y):\n    return math.sqrt(x)")["syntax"]["Call sqrt"] == 1


@pytest.mark.parametrize(
    "source",
    [
        "-" * 19_999 + "1",
        "(" * 20_000,
        "a" + ".b" * 9_000,
        "1" + "+1" * 9_000,
        "x = 0x" + "f" * 19_000,
        "9" * 20_000,
        "nul\0byte",
        'x = "\ud800"',
        "/*" * 10_000,
        '"\\' * 10_000,
        '"""' * 6_666,
        "```" * 6_666,
        "if a:\n p\n" + "elif a:\n p\n" * 1_600,
    ],
)
def test_hostile_source_is_read_in_no_time(source: str) -> None:
    before = time.process_time()
    bags = features(source)
    assert set(bags) == {"words", "literals", "tokens", "syntax"}
    assert isinstance(is_code(source), bool)
    assert time.process_time() - before < 3


def test_nothing_of_the_source_runs(tmp_path) -> None:
    target = tmp_path / "made"
    assert parsed(f"open({str(target)!r}, 'w')") is not None
    features(f"import pathlib\npathlib.Path({str(target)!r}).touch()")
    assert not target.exists()


def test_rare_features_count_more_and_short_texts_are_damped() -> None:
    texts = pl.Series(["def f(a):\n    return gcd(a, 7)", *(f"def f(a):\n    return a + {k}" for k in range(20))])
    index = CodeIndex.fit(texts)
    view = index.views["syntax"]
    assert view.weights[view.positions["Call gcd"]] > view.weights[view.positions["FunctionDef 1"]]
    own = index.matrices(texts)["syntax"]
    lengths = np.sqrt(np.asarray(own.multiply(own).sum(axis=1)).ravel())
    assert (lengths < 1).all()
    assert lengths[0] > lengths[1]


FAMILIES = 130


def task(seed: int) -> tuple[str, str]:
    """A function on five made-up nouns and three numbers, and the same function in other names, words and order."""
    rng = random.Random(seed)
    nouns = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(5)]
    low, high, step = (rng.randrange(11, 9_999) for _ in range(3))
    call = rng.choice(["sorted", "sum", "max", "min", "len", "set", "abs", "round"])
    item = (
        f'def {nouns[0]}_{nouns[1]}(rows):\n    """Keep each {nouns[2]} {nouns[3]} of the {nouns[4]}.\n'
        f'    >>> {nouns[0]}_{nouns[1]}([{low}, {high}])\n    {step}\n    """\n'
        f"    kept = []\n    for row in rows:\n        if row > {low}:\n            kept.append(row % {step})\n    return {call}(kept)\n"
    )
    other = (
        f'def handle(data):\n    """Of every {nouns[4]}, the {nouns[3]} that is {nouns[2]} stays.\n'
        f'    >>> handle([{low}, {high}])\n    {step}\n    """\n'
        f"    chosen = []\n    for entry in data:\n        if entry > {low}:\n"
        f"            chosen.append(entry % {step})\n    return {call}(chosen)\n"
    )
    return item, other


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}


def test_a_rephrased_function_is_confirmed_and_named_by_its_views() -> None:
    items = asked([task(seed)[0] for seed in range(FAMILIES)])
    copies = [task(seed)[1] for seed in range(5)]
    train = asked([*library(200), *copies])
    verdict = contamination_paraphrase(train, {"tasks": items})
    assert (verdict.decision, verdict.tier) == (Decision.FAIL, "code")
    assert verdict.details["eval_sets"]["tasks"]["compared_as"] == "code"
    assert verdict.estimate == pytest.approx(5 / FAMILIES)
    assert {tuple(str(e["by"]).split(", ")) for e in verdict.evidence} <= {
        ("names and words", "values"),
        ("values", "structure"),
        ("names and words", "structure"),
        ("names and words", "values", "structure"),
    }
    pairs = paraphrase_pairs(train, {"tasks": items})
    assert set(pairs["train_row_id"].to_pylist()) == set(train["row_id"].to_pylist()[-5:])
    # No eight words in a row are the same.
    assert not any(grams(task(seed)[0], 8) & grams(task(seed)[1], 8) for seed in range(5))


def test_a_persons_word_overrides_the_views() -> None:
    items, train = asked([task(seed)[0] for seed in range(FAMILIES)]), asked([*library(200), task(0)[1]])
    noon = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    said = {"eval_row_id": items["row_id"][0].as_py(), "train_row_id": train["row_id"][-1].as_py(), "by": "ana", "at": noon}
    different = pa.Table.from_pylist([{**said, "verdict": "different"}], schema=REVIEW_SCHEMA)
    (before,) = paraphrase_pairs(train, {"tasks": items}).to_pylist()
    (after,) = paraphrase_pairs(train, {"tasks": items}, reviewed=different).to_pylist()
    assert (before["status"], after["status"], after["by"]) == ("confirmed", "cleared", "ana")


def test_code_and_prose_are_compared_each_in_its_way() -> None:
    prose = asked([f"Where does {task(seed)[0].split('(')[0][4:].replace('_', ' ')} go on day {seed}?" for seed in range(FAMILIES)])
    evals = {"tasks": asked([task(seed)[0] for seed in range(FAMILIES)]), "questions": prose}
    verdict = contamination_paraphrase(asked([*library(200), task(0)[1]]), evals)
    assert verdict.tier == "TF-IDF and code"
    assert {name: found["compared_as"] for name, found in verdict.details["eval_sets"].items()} == {
        "tasks": "code",
        "questions": "text",
    }


def test_a_set_of_code_without_a_suspect_does_not_pass() -> None:
    items = asked([task(seed)[0] for seed in range(FAMILIES)])
    verdict = contamination_paraphrase(asked(library(200)), {"tasks": items})
    assert verdict.details["pairs"] == {"confirmed": 0, "open": 0, "cleared": 0}
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "rephrasings of code" in verdict.summary


def code_set(texts: list[str], sets: list[str], families: list[str]) -> dict[str, CodeSet]:
    frame = pl.DataFrame({"question": texts, "eval_set": sets, "family": families})
    return CodeSet.among(frame, ParaphraseRule())


def scored(chosen: CodeSet, item: int, text: str) -> float:
    texts = pl.Series("text", [text])
    pairs = pl.DataFrame({"item": [item], "text": texts, "key": text_keys(texts), "at": [None]}, schema_overrides={"at": pl.Int64})
    return chosen.score(pairs)["score"].item()


def test_a_text_belongs_to_the_item_it_is_most_like() -> None:
    twins = [PYTHON, PYTHON.replace("max(low, min(value, high))", "min(high, value)").replace("40", "90")]
    texts = [*twins, *(task(seed)[0] for seed in range(20))]
    alone = code_set(texts, ["s"] * len(texts), [str(k) for k in range(len(texts))])["s"]
    own, twin = scored(alone, 0, RENAMED), scored(alone, 1, RENAMED)
    assert own > twin
    # By similarity alone the wrong twin would be called a paraphrase as well: it is far more alike than any unrelated function.
    pair = pl.DataFrame({"item": [1, 2], "text": [RENAMED] * 2, "key": [0, 0], "at": [None] * 2}, schema_overrides={"at": pl.Int64})
    similar = alone.score(pair)["similarity"]
    assert similar[0] > 5 * similar[1]
    # Members of one family are no rivals.
    kin = code_set(texts, ["s"] * len(texts), ["f", "f", *(str(k) for k in range(20))])["s"]
    assert scored(kin, 1, RENAMED) > twin
    # Nor are the items of another set, say the reworded twin of a vault.
    sets = code_set([*texts, *texts], ["s"] * len(texts) + ["t"] * len(texts), [str(k) for k in range(2 * len(texts))])
    assert scored(sets["s"], 0, RENAMED) == pytest.approx(own)


def test_prose_is_not_compared_as_code() -> None:
    texts = ["How many eggs are left?"] * 3 + [PYTHON] * 2
    assert code_set(texts, ["s"] * 5, list("abcde")) == {}
