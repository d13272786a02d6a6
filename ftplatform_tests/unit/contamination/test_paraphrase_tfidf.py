"""Candidates without a model: what is a word, which texts are nearest, and that blocks and copies do not matter."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ftplatform.contamination.paraphrase import texts as texts_module
from ftplatform.contamination.paraphrase import tfidf as tfidf_module
from ftplatform.contamination.paraphrase.signals import NumberWeights, final_answers, has_numbers
from ftplatform.contamination.paraphrase.texts import eval_items, letters, text_keys, train_texts, words
from ftplatform.contamination.paraphrase.tfidf import Tfidf, nearest
from ftplatform_tests.tables import row, table


def said(text: str) -> list[str]:
    found = words(pl.Series([text]))
    return [found.vocabulary[code] for code in found.codes]


def blocks(texts: list[str], size: int = 10_000) -> list[pl.DataFrame]:
    frame = pl.DataFrame(
        {"row": range(len(texts)), "text": texts, "answer": [None] * len(texts)}, schema_overrides={"answer": pl.String}
    )
    frame = frame.with_columns(key=text_keys(frame["text"]))
    return list(frame.iter_slices(size))


def corpus(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    names = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
    return [" ".join(rng.choices(names, k=8)) + f" {rng.randrange(60)} and {rng.randrange(60)}" for _ in range(n)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Twice half a dozen eggs", ["2", "1/2", "a", "12", "eggs"]),
        ("$80,000 or 80000 or 80000.00", ["80000", "or", "80000", "or", "80000"]),
        ("3.50 ½ 1/4", ["3.5", "1/2", "1/4"]),
        ("hasCloseElements has_close_elements", ["has", "close", "elements", "has", "close", "elements"]),
        ("ＦＵＬＬ Ｗidth", ["full", "width"]),
        ("退款 please", ["退", "款", "please"]),
        ("!?", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_every_turn_stands_for_itself_and_the_user_turns_together_once_more() -> None:
    rows = table(
        [row(("system", "be kind"), ("user", "one"), ("assistant", "two"), ("user", "three"), ("tool", "no"), ("user", " "))]
    )
    (block,) = train_texts(rows)
    assert block.select("text", "answer").rows() == [("one", "two"), ("two", None), ("three", None), ("one\nthree", None)]


def test_copies_within_a_block_are_one_text() -> None:
    (block,) = train_texts(table([row("Where is it?"), row("where is  IT"), row("elsewhere")]))
    assert block["row"].to_list() == [0, 2]


def test_items_keep_question_answer_and_family() -> None:
    sets = {"b": table([row("q1", "a1", "q2", "a2", group="g")]), "a": table([row(("assistant", "only"))])}
    items = eval_items(sets)
    assert items.select("eval_set", "question", "answer", "family").rows() == [("a", "", "only", None), ("b", "q1\nq2", "a2", "g")]


def test_letters_outside_the_latin_script() -> None:
    assert letters(pl.Series(["añb1", "где", ""])) == (6, 3)


def test_nearest_equals_all_pairs_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    items, texts = corpus(30, 1), corpus(700, 2)
    index = Tfidf.fit(pl.Series(items), pl.Series(texts))
    questions = index.matrix(pl.Series(items))
    dense = (questions @ index.matrix(pl.Series(texts)).T).toarray()
    best = -np.sort(-dense, axis=1)[:, :7]
    found = nearest(index, questions, blocks(texts), 7)
    assert found.group_by("item", maintain_order=True).len()["len"].to_list() == [7] * 30
    np.testing.assert_allclose(found["score"].to_numpy().reshape(30, 7), best, atol=1e-6)
    np.testing.assert_allclose(dense[found["item"].to_numpy(), found["row"].to_numpy()], found["score"].to_numpy(), atol=1e-6)
    monkeypatch.setattr(tfidf_module, "_SCORES", 2000)
    assert nearest(index, questions, blocks(texts, 37), 7).select("item", "row").equals(found.select("item", "row"))


def test_scores_are_cosines_of_the_written_formula() -> None:
    items, texts = ["red fish", "blue fish swims"], ["red fish red", "green bird"]
    index = Tfidf.fit(pl.Series(items), pl.Series(texts))
    # Text 0 holds "red" twice, "fish" and the pair "red fish", in 2, 3, 2 of 4 texts; the pair "fish red" is in no item.
    weights = (np.log(np.array([5 / 3, 5 / 4, 5 / 3])) + 1) * [1 + np.log(2), 1, 1]
    found = index.matrix(pl.Series(texts))
    np.testing.assert_allclose(np.sort(found[0].data), np.sort(weights) / np.linalg.norm(weights), rtol=1e-6)
    assert found[1].nnz == 0
    # An unknown word lengthens a text as one would that only a single text has.
    length = np.hypot(np.linalg.norm(weights), np.log(5 / 2) + 1)
    longer = index.matrix(pl.Series(["red fish red bird"]))
    np.testing.assert_allclose(np.sort(longer.data), np.sort(weights) / length, rtol=1e-6)


def test_an_item_that_stands_in_for_a_training_text_is_seen_like_one() -> None:
    items = corpus(40, 1)
    whole, without = (Tfidf.fit(pl.Series(texts), pl.Series(corpus(200, 3))) for texts in (items, items[:-1]))
    last = pl.Series(items[-1:])

    def scores(index: Tfidf, own: bool) -> np.ndarray:
        return (index.matrix(pl.Series(items[:-1])) @ index.matrix(last, own=own).T).toarray().ravel()

    # What the other items would score with it, had it never been an item.
    expected = scores(without, own=False)
    assert np.abs(scores(whole, own=True) - expected).max() < 0.05 * expected.max()
    assert np.median(scores(whole, own=False)[expected > 0] / expected[expected > 0]) < 0.8


def test_copies_do_not_crowd_out_the_paraphrase() -> None:
    item = "where is the refund for my parcel"
    decoys = [f"where is the refund for my parcel number{'!' * k}" for k in range(40)]
    texts = [*decoys, "i wait for my parcel refund where is it", *corpus(50)]
    index = Tfidf.fit(pl.Series([item]), pl.Series(texts))
    scores = (index.matrix(pl.Series([item])) @ index.matrix(pl.Series(texts)).T).toarray()[0]
    assert set(np.argsort(-scores, kind="stable")[:10]) <= set(range(40))  # ten best texts: all copies of the decoy
    assert 40 in nearest(index, index.matrix(pl.Series([item])), blocks(texts), 10)["row"].to_list()


def test_two_numbers_together_find_what_no_common_word_would() -> None:
    item = "Tom has 17 apples and buys 23 more"
    texts = ["A rancher owning 17 horses acquires another 23", "He paid 17 dollars and got 41 back", "She ran 23 miles in 5 days"]
    index = Tfidf.fit(pl.Series([item]), pl.Series(texts))
    found = nearest(index, index.matrix(pl.Series([item])), blocks(texts), 3)
    assert found["row"][0] == 0
    # Without pairs of numbers as features the right text stands out less.
    blind = replace(index, keys=(*index.keys[:2], index.keys[2][:0]), weights=index.weights[: -len(index.keys[2])])
    alone = nearest(blind, blind.matrix(pl.Series([item])), blocks(texts), 3)
    assert found["score"][0] / found["score"][1] > 1.05 * alone["score"][0] / alone["score"][1]


def test_nothing_to_search() -> None:
    index = Tfidf.fit(pl.Series(["a question"]), pl.Series([], dtype=pl.String))
    questions = index.matrix(pl.Series(["a question"]))
    assert len(nearest(index, questions, [], 5)) == 0
    assert len(nearest(index, questions, blocks(["кот", "!!"]), 5)) == 0


def test_blocks_of_a_table_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_module, "_ROWS", 3)
    parts = list(train_texts(table(row(f"text {i}") for i in range(8))))
    assert [part["row"].to_list() for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_number_agreement_weighs_rare_numbers_more() -> None:
    weights = NumberWeights.fit(pl.Series(["2 and 7919"] + ["2 and 3"] * 9), pl.Series([], dtype=pl.String))
    left = pl.Series(["2 and 7919", "2 and 7919", "twice", "none", "5", "7919 2 2"])
    right = pl.Series(["7919 and 3", "2 and 3", "2", "none", "none", "two 7919"])
    found = weights.agreement(left, right)
    assert found["shared"].to_list() == [1, 1, 1, 0, 0, 2]
    rare, common, only, neither, one_sided, same = found["agreement"].to_list()
    assert rare > 0.8 > 0.2 > common
    assert (neither, one_sided, same) == (None, 0.0, 1.0)
    assert only == 0.0  # every text holds a 2: it says nothing
    assert has_numbers(left).tolist() == [True, True, True, False, True, True]


def test_final_answers() -> None:
    answers = pl.Series(["9 + 9 = 18\n#### 18", "It is 18.00", "#### 1,018", "Yes, of course!", None])
    assert final_answers(answers).to_list() == ["18", "18", "1018", "yes of course", None]
