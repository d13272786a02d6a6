"""Near-deduplication: who is removed, who stands for them, and what may never be merged."""

from __future__ import annotations

import random
import re

import numpy as np
import polars as pl
import pytest

from ftplatform.dedup.conflicts import compatible, targets
from ftplatform.dedup.lsh import nearest_above, similar_pairs
from ftplatform.dedup.near import NearDedup, mergeable_pairs, near_duplicates
from ftplatform.dedup.slices import SliceSpec
from ftplatform.dedup.survival import slice_survival
from ftplatform.errors import InputDataError
from ftplatform.kernels.lsh import banding
from ftplatform.kernels.minhash import minhash
from ftplatform.kernels.shingles import shingle_sets
from ftplatform.kernels.similarity import jaccard
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

WORDS = [f"word{i}" for i in range(400)]


def sentence(rng: random.Random, length: int = 30) -> str:
    return " ".join(rng.choices(WORDS, k=length))


def edited(rng: random.Random, text: str, edits: int) -> str:
    words = text.split()
    for at in rng.sample(range(len(words)), edits):
        words[at] = f"edit{rng.randrange(10**6)}"
    return " ".join(words)


def reference_shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set()


def reference_jaccard(a: str, b: str) -> float:
    left, right = reference_shingles(a), reference_shingles(b)
    return len(left & right) / len(left | right) if left | right else 0.0


def test_jaccard_equals_the_definition() -> None:
    rng = random.Random(0)
    texts = ["", "?!", "one", "one two", "One, TWO", "one two three", "Überweisung bitte prüfen", "überweisung BITTE prüfen"]
    base = sentence(rng)
    texts += [base, *(edited(rng, base, k) for k in (1, 2, 5, 10)), sentence(rng), base + " " + base]
    left, right = (index.ravel() for index in np.meshgrid(np.arange(len(texts)), np.arange(len(texts))))
    sets = shingle_sets(pl.Series(texts))
    expected = [reference_jaccard(texts[i], texts[j]) for i, j in zip(left, right, strict=True)]
    assert jaccard(sets, left, sets, right) == pytest.approx(expected)


def test_minhash_estimates_jaccard_without_bias() -> None:
    rng = random.Random(1)
    pairs = [(base, edited(rng, base, rng.randrange(1, 8))) for base in (sentence(rng, 60) for _ in range(300))]
    sets = shingle_sets(pl.Series([text for pair in pairs for text in pair]))
    signatures = minhash(sets, 128)
    left = np.arange(0, 600, 2)
    estimate = (signatures[left] == signatures[left + 1]).mean(axis=1)
    errors = estimate - jaccard(sets, left, sets, left + 1)
    # The standard deviation of one estimate is at most .044; of the mean of 300, .0026.
    assert abs(errors.mean()) < 0.01
    assert errors.std() < 0.055


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_banding_reaches_its_recall(threshold: float) -> None:
    bands, rows = banding(threshold, 128)
    assert bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= 0.99


def test_pairs_found_are_exactly_those_above_the_threshold() -> None:
    rng = random.Random(2)
    bases = [sentence(rng, 40) for _ in range(150)]
    texts = [*bases, *(edited(rng, base, rng.randrange(1, 6)) for base in bases)]
    sets = shingle_sets(pl.Series(texts))
    found = similar_pairs(sets, minhash(sets, 128), 0.7)
    truth = {(i, j) for i in range(300) for j in range(i + 1, 300) if reference_jaccard(texts[i], texts[j]) >= 0.7}
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert pairs <= truth
    assert len(pairs) >= 0.99 * len(truth) > 50


def test_near_duplicates_go_and_the_medoid_stays() -> None:
    rng = random.Random(3)
    base = sentence(rng, 40)
    # Three variants around the base, each one edit from it and two from each other: the base is the medoid.
    variants = [edited(rng, base, 1) for _ in range(3)]
    shortest = base.rsplit(" ", 2)[0]
    rows = [row(text, "this is the one answer that they all share") for text in (*variants, base, shortest, sentence(rng, 40))]
    result = near_duplicates(table(rows), settings=NearDedup(threshold=0.7))
    kept = {r["messages"][0]["content"] for r in result.kept.to_pylist()}
    assert kept == {base, rows[-1]["messages"][0]["content"]}
    assert {r["kept_row_id"] for r in result.removed.to_pylist()} == {rows[3]["row_id"]}


def test_no_row_is_removed_without_a_kept_row_above_the_threshold() -> None:
    # A chain: each link is similar to the next, the ends share nothing. Connected components would leave one of 12.
    rng = random.Random(4)
    words = [f"w{i}" for i in range(140)]
    texts = [" ".join(words[5 * i : 5 * i + 60]) for i in range(12)]
    rows = [row(text, "a") for text in texts] + [row(sentence(rng), "b") for _ in range(30)]
    result = near_duplicates(table(rows), settings=NearDedup(threshold=0.8))
    by_id = {r["row_id"]: " ".join(m["content"] for m in r["messages"]) for r in rows}
    kept = set(result.kept["row_id"].to_pylist())
    assert result.removed.num_rows > 4
    assert len(kept & {r["row_id"] for r in rows[:12]}) > 2
    for removal in result.removed.to_pylist():
        assert removal["kept_row_id"] in kept
        similarity = reference_jaccard(by_id[removal["row_id"]], by_id[removal["kept_row_id"]])
        assert removal["similarity"] == pytest.approx(similarity)
        assert similarity >= 0.8


def test_a_thousand_fillings_of_one_template_become_one_row() -> None:
    # Larger than a bucket that is compared completely.
    body = " ".join(f"t{i}" for i in range(60))
    rows = [row(f"my order {100_000 + i} {body}", f"your order {100_000 + i} is on its way to you now") for i in range(1_000)]
    result = near_duplicates(table(rows), settings=NearDedup(threshold=0.8))
    assert result.kept.num_rows == 1
    assert result.stats["largest_cluster"] == 1_000


REFUND = "i bought a blue kettle last week and it leaks from the handle so please give me my money back for order 5521"


def test_opposite_resolutions_of_near_identical_requests_are_never_merged() -> None:
    rows = [row(REFUND, "Approved."), row(REFUND.replace("last", "this"), "Denied.")]
    assert reference_jaccard(REFUND + " approved", REFUND.replace("last", "this") + " denied") > 0.6
    result = near_duplicates(table(rows), settings=NearDedup(threshold=0.6))
    assert result.kept.num_rows == 2
    assert result.conflicts.num_rows == 1
    shown = result.conflicts.select(["text", "other_text"]).to_pylist()[0]
    assert sorted(text.rsplit("| ", 1)[1] for text in shown.values()) == ["Approved.", "Denied."]
    # The naive rule, similarity of the whole text alone, merges them.
    sets = shingle_sets(pl.Series([f"{r['messages'][0]['content']}\n{r['messages'][1]['content']}" for r in rows]))
    assert len(similar_pairs(sets, minhash(sets, 128), 0.6).left) == 1


@pytest.mark.parametrize(
    ("question", "answer", "other_question", "other_answer", "merged"),
    [
        ("same", "No.", "same", "no", True),  # the same words
        ("same", "No.", "same", "Yes.", False),
        ("same", "we will pay you back within five working days", "same", "we will pay you back within six working days", False),
        ("order 1", "order 1 is on its way", "order 2", "order 2 is on its way", True),  # filled-in numbers
        ("order one", "order 1 is on its way", "order uno", "order 2 is on its way", False),  # a number nobody asked for
        ("one way", "you will get the money on your card soon", "other way", "you will not get the money on your card soon", False),
        (
            "one way",
            "you will get the whole refund back on your credit card within the next ten days of today",
            "other way",
            "you will get the whole refund back on your credit card within the next ten days of now",
            True,
        ),
        ("one way", "it is blue", "other way", "it is red", False),  # short answers are compared word for word
    ],
)  # fmt: skip
def test_compatible_answers(question: str, answer: str, other_question: str, other_answer: str, merged: bool) -> None:
    of = targets(pl.Series([question, other_question]), pl.Series([answer, other_answer]))
    assert compatible(of, np.array([0]), np.array([1]), 0.8).tolist() == [merged]


def test_slices_keep_their_floor_with_the_farthest_rows() -> None:
    rng = random.Random(5)
    base = sentence(rng, 40)
    close = [row(edited(rng, base, 1), "the shared answer", slices=["hostile"]) for _ in range(9)]
    far = [row(edited(rng, base, 2), "the shared answer", slices=["hostile"]) for _ in range(3)]
    others = [row(sentence(rng), "other") for _ in range(200)]
    rows = table([row(base, "the shared answer"), *close, *far, *others])
    settings = NearDedup(threshold=0.6, balance_q=None)
    free = near_duplicates(rows, settings=NearDedup(threshold=0.6, floor=0, balance_q=None))
    assert slice_survival(rows, free.kept).decision is Decision.FAIL
    result = near_duplicates(rows, settings=settings)
    survivors = [r for r in result.kept.to_pylist() if "hostile" in r["slices"]]
    assert len(survivors) == 5
    assert result.stats["restored_for_slices"] >= 4
    assert {r["row_id"] for r in far} <= {r["row_id"] for r in survivors}
    must_keep = near_duplicates(rows, [SliceSpec("hostile", tag="hostile", must_keep=True)], settings)
    assert sum("hostile" in r["slices"] for r in must_keep.kept.to_pylist()) == 8


def test_no_slice_loses_more_than_the_rest() -> None:
    rng = random.Random(11)
    bases = [sentence(rng, 40) for _ in range(60)]
    # A slice of templates among rows without near copies: similarity alone takes half of it and nothing else.
    pairs = [row(text, "the shared answer", slices=["forms"]) for base in bases for text in (base, edited(rng, base, 1))]
    rows = table(pairs + [row(sentence(rng, 40), f"answer {i}") for i in range(600)])
    alone = near_duplicates(rows, settings=NearDedup(balance_q=None))
    assert slice_survival(rows, alone.kept).decision is Decision.FAIL
    balanced = near_duplicates(rows)
    assert slice_survival(rows, balanced.kept).decision is Decision.PASS
    assert alone.stats["near_duplicates"] > balanced.stats["near_duplicates"]
    # Rows of the slice that went elsewhere before leave less to lose now.
    lost = near_duplicates(rows.slice(0, 720), lost=table([row(sentence(rng), "a", slices=["forms"]) for _ in range(30)]))
    assert lost.stats["near_duplicates"] <= balanced.stats["near_duplicates"]


def test_with_weights_nothing_goes_and_what_repeats_counts_less() -> None:
    rng = random.Random(5)
    base = sentence(rng, 40)
    copies = [row(edited(rng, base, 1), "the shared answer", slices=["form"]) for _ in range(15)]
    rows = table(
        [row(base, "the shared answer", slices=["form"]), *copies, *(row(sentence(rng), f"answer {i}") for i in range(50))]
    )
    result = near_duplicates(rows, settings=NearDedup(threshold=0.6, floor=2, method="weights"))
    assert result.kept.equals(rows)
    assert result.removed.num_rows == 0
    assert {r["kept_row_id"] for r in result.repeated.to_pylist()} == {rows["row_id"][0].as_py()}, "the medoid"
    assert result.weights["row_id"].to_pylist() == rows["row_id"].to_pylist()
    weights = result.weights["weight"].to_numpy()
    # Sixteen of a kind weigh as much as their square root; rows that stand alone weigh 1.
    assert weights == pytest.approx([0.25] * 16 + [1.0] * 50)
    assert result.stats["mean_weight"] == pytest.approx(weights.mean())
    # A slice that lies in one cluster weighs at least its floor.
    protected = near_duplicates(rows, settings=NearDedup(threshold=0.6, floor=8, method="weights"))
    assert protected.weights["weight"].to_numpy()[:16].sum() == pytest.approx(8)
    assert protected.stats["slices_raised_to_their_floor"] == ["form"]
    # ADV: removal keeps the floor's eight and throws away the wordings of the other eight.
    assert near_duplicates(rows, settings=NearDedup(threshold=0.6, floor=8)).kept.num_rows < rows.num_rows


def test_where_near_duplicates_are_removed_every_row_counts_in_full() -> None:
    rng = random.Random(6)
    base = sentence(rng, 40)
    rows = table([row(base, "a"), row(edited(rng, base, 1), "a"), row(sentence(rng), "b")])
    result = near_duplicates(rows, settings=NearDedup(threshold=0.6))
    assert result.kept.num_rows == 2
    assert result.repeated.num_rows == 0
    assert result.weights.to_pylist() == [{"row_id": i, "cluster": i, "weight": 1.0} for i in result.kept["row_id"].to_pylist()]


def test_provenance_is_the_union_of_what_a_row_stands_for() -> None:
    rng = random.Random(6)
    base = sentence(rng, 40)
    rows = [row(base, "same answer", source="licensed"), row(edited(rng, base, 1), "same answer", source="scraped")]
    rows += [row(sentence(rng), "other", source="third")]
    result = near_duplicates(table(rows), settings=NearDedup(threshold=0.7))
    assert sorted(r["origins"] for r in result.kept.to_pylist()) == [["licensed", "scraped"], ["third"]]


def test_exact_copies_are_merged_whatever_the_threshold() -> None:
    rows = [row("hello there", "hi", source="a"), row("hello there", "hi", source="b"), row("HELLO there", "hi", source="a")]
    result = near_duplicates(table(rows), settings=NearDedup(threshold=1.0))
    assert result.kept.num_rows == 2
    assert result.kept["origins"][0].as_py() == ["a", "b"]
    assert result.removed["reason"].to_pylist() == ["exact_copy"]


def test_rows_without_words_are_nobodys_duplicates() -> None:
    rows = table([row("👍", "🎉"), row("🙏", "🎉"), row("...", "!!"), row("?", "!!")])
    assert near_duplicates(rows, settings=NearDedup(threshold=0.5)).kept.num_rows == 4


def test_shared_system_prompt_does_not_make_rows_alike() -> None:
    prompt = ("system", " ".join(f"rule{i}" for i in range(200)))
    rng = random.Random(8)
    rows = table([row(prompt, ("user", sentence(rng, 8)), ("assistant", "ok")) for _ in range(40)])
    assert near_duplicates(rows, settings=NearDedup(threshold=0.5)).kept.num_rows == 40
    naive = shingle_sets(pl.Series([" ".join(m["content"] for m in r["messages"]) for r in rows.to_pylist()]))
    assert len(similar_pairs(naive, minhash(naive, 128), 0.5).left) == 40 * 39 // 2


def test_the_result_does_not_depend_on_the_order_of_rows() -> None:
    rng = random.Random(9)
    bases = [sentence(rng, 30) for _ in range(40)]
    rows = [row(edited(rng, base, k), "same") for base in bases for k in (1, 2, 3)]
    kept = set(near_duplicates(table(rows), settings=NearDedup(threshold=0.6)).kept["row_id"].to_pylist())
    rng.shuffle(rows)
    assert set(near_duplicates(table(rows), settings=NearDedup(threshold=0.6)).kept["row_id"].to_pylist()) == kept


def test_empty_and_single() -> None:
    for rows in ([], [row("only one", "answer")]):
        result = near_duplicates(table(rows))
        assert result.kept.num_rows == len(rows)
        assert result.removed.num_rows == 0
    empty = shingle_sets(pl.Series([], dtype=pl.String))
    position, _ = nearest_above(empty, minhash(empty, 16), empty, minhash(empty, 16), 0.5)
    assert len(position) == 0


def test_a_threshold_outside_its_range_is_refused() -> None:
    with pytest.raises(InputDataError, match="threshold"):
        NearDedup(threshold=0.0)


def test_mergeable_pairs_are_those_deduplication_merges() -> None:
    rng = random.Random(8)
    base = sentence(rng)
    rows = table(
        [
            row(base, "the answer"),
            row(base.upper(), "the answer"),  # other bytes, same words
            row(edited(rng, base, 1), "the answer"),
            row(edited(rng, base, 1), "no, another one"),  # conflicting answer: never merged
            row(sentence(rng), "the answer"),
            row(base, "the answer"),  # an exact copy has no pairs of its own
        ]
    )
    settings = NearDedup(threshold=0.6)
    pairs = mergeable_pairs(rows, settings)
    assert sorted(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) in ([(0, 1), (0, 2)], [(0, 1), (1, 2)])
    kept = near_duplicates(rows, settings=settings).kept.num_rows
    assert kept == rows.num_rows - 1 - 2
