"""The scan: the same hits as plain Python on normalized text, whatever the script, from both implementations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.contamination import scan as scan_module
from ftplatform.contamination.scan import NgramIndex, Scanner, all_tokens, scan
from ftplatform.contamination.scan_tokens import text_blocks
from ftplatform.kernels import backend
from ftplatform.kernels.backend import VARIABLE
from ftplatform.rows.normalize import normalize_text

BOTH = pytest.mark.parametrize("kernels", ["numpy", "numba"])

ODD = [
    "",
    "   ",
    "5 - 3",
    "5-3 -2 5 \n-\t3 -",
    "٥ - ٣ = ٢",
    "“curly” it’s – well… «fine»",
    "ﬁne 😀👩‍👩‍👧 a",
    "$5 + 3=8~|x £3",
    "naïve CAFÉ cafe\u0301 İstanbul straße",
    "a_b-c/d 3/4 1 / 2 x/2 ^2 2^3",
    "\x00a\tb\n5\n-\n3\x1f",
    "שלום עולם hello שלום",
    "مرحبا بالعالم ١٢٣",
    "日本語 テキスト １２３",
    "soft\u00adhyphen zero\u200bwidth \ufeffmark",
    "- 5",
    "5 -",
    "🙂🙃",
]


def normalized(text: str | None) -> list[str]:
    return normalize_text(text or "").split()


def plain(items: list[str], texts: list[str | None], width: int) -> list[tuple[int, int, int, int]]:
    """(text, position, item, position in the item) of every common n-gram, and of every short item that is a whole text."""
    found = []
    for number, text in enumerate(texts):
        words = normalized(text)
        for which, item in enumerate(items):
            own = normalized(item)
            if 0 < len(own) < width:
                found += [(number, 0, which, 0)] if words == own else []
                continue
            for at in range(len(words) - width + 1):
                for start in range(len(own) - width + 1):
                    if words[at : at + width] == own[start : start + width]:
                        found.append((number, at, which, start))
    return sorted(found)


def ours(items: list[str], texts: list[str | None], width: int) -> list[tuple[int, int, int, int]]:
    index = NgramIndex.of(pa.array(items, pa.string()), width)
    hits = Scanner(index).scan(pa.array(texts, pa.string()))
    hit, item, start = hits.expand(index)
    columns = (hits.owners[hit], hits.positions[hit], item, start)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


#: Few words, so that common n-grams are common; many ways to write them.
WORDS = st.sampled_from(
    ["a", "B", "b", "5", "-", "3", "+", "’", "“", "é", "e\u0301", "ß", "שלום", "😀", "٥", "…", "\u200b", "½", "_"]
)
TEXTS = st.lists(WORDS, max_size=12).flatmap(lambda w: st.sampled_from(["", " ", "\n"]).map(lambda s: s.join(w))) | st.text(
    max_size=20
)


@BOTH
@pytest.mark.parametrize("width", [1, 2, 5])
def test_hits_are_those_of_plain_python(kernels: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, kernels)
    items = [*ODD, "the cat sat on the mat", "cat sat on the mat today 5 - 3"]
    texts = [None, *reversed(items), "x 5-3 = 2", "the “cat” sat, on the mat!", "x" * 5000]
    assert ours(items, texts, width) == plain(items, texts, width)


@BOTH
@settings(max_examples=60)
@given(items=st.lists(TEXTS, max_size=4), texts=st.lists(st.none() | TEXTS, max_size=5), width=st.integers(1, 4))
def test_hits_are_those_of_plain_python_for_any_text(kernels: str, items: list[str], texts: list[str | None], width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, kernels)
        assert ours(items, texts, width) == plain(items, texts, width)


@settings(max_examples=150)
@given(st.lists(st.none() | TEXTS, max_size=8))
def test_tokens_are_those_of_the_normalizer(texts: list[str | None]) -> None:
    tokens = all_tokens(pa.array(texts, pa.string()))
    words = [normalized(text) for text in texts]
    assert np.diff(tokens.bounds).tolist() == [len(own) for own in words]
    flat = [word for own in words for word in own]
    # One hash a word, one word a hash.
    assert len(set(zip(flat, tokens.hashes.tolist(), strict=True))) == len(set(flat)) == len(set(tokens.hashes.tolist()))


def test_a_table_of_word_bytes_alone_would_miss_a_quoted_copy() -> None:
    """The fast shortcut, every byte of 128 and more is part of a word, glues a curly quote to its word."""
    item, text = "where is my refund", "“where is my refund”"
    glued = bytes(b if b >= 128 or chr(b).isalnum() else 32 for b in text.encode()).split()
    assert glued[0] != b"where"
    assert len(ours([item], [text], 4)) == 1


@BOTH
def test_a_turn_of_a_megabyte(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, kernels)
    item = "one two three four five six"
    long = "lorem ipsum " * 120_000 + item + " dolor" * 1000
    assert ours([item], ["", long, "z" * 1_500_000, "🙂" * 300_000 + " " + item], 6) == [(1, 240_000, 0, 0), (3, 0, 0, 0)]


@BOTH
def test_consecutive_texts_of_an_owner_are_one_stream_but_short_items_are_whole_texts(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernels)
    index = NgramIndex.of(pa.array(["a b c d", "yes please"]), 4)
    hits = Scanner(index).scan(
        pa.array(["a b", "c d", "yes", "please", "yes please", "a b", "c d"]), np.array([3, 3, 5, 5, 5, 7, 8])
    )
    _, item, _ = hits.expand(index)
    assert list(zip(hits.owners.tolist(), hits.positions.tolist(), item.tolist(), strict=True)) == [(3, 0, 0), (5, 2, 1)]


@BOTH
def test_blocks_are_scanned_as_one(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, kernels)
    items = [f"item number {i} stands here" for i in range(300)]
    texts = [f"{i} {'word ' * (i % 40)} {items[i % 300]} – end" for i in range(9000)]
    index = NgramIndex.of(pa.array(items), 5)
    whole = Scanner(index).scan(pa.array(texts))
    assert sum(1 for _ in text_blocks(pa.array(texts))) > 1
    streamed = list(scan((pa.array(texts[i : i + 700]) for i in range(0, 9000, 700)), index))
    for name in ("owners", "positions", "grams"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in streamed]), getattr(whole, name))
    _, item, _ = whole.expand(index)
    assert np.array_equal(item, whole.owners % 300)
    assert len(item) == 9000


def test_owners_are_not_cut_by_blocks_and_slices_of_arrays_are_read_from_their_place() -> None:
    texts = pa.array(["skip me", *["word " * 60_000] * 9, "tail"]).slice(1)
    blocks = list(text_blocks(texts, np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2])))
    assert [block.owners.tolist() for block in blocks] == [[0] * 5, [1] * 2, [2] * 3]
    assert sum(len(block.data) for block in blocks) == sum(len(t.as_py()) for t in texts)
    assert all(a.owners[-1] != b.owners[0] for a, b in pairwise(blocks))
    assert list(text_blocks(pa.chunked_array([], pa.string()))) == []


def test_large_inputs_change_to_compiled_code_in_midstream_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    index = NgramIndex.of(pa.array(["a b c"]), 3)
    texts = pa.array([f"a b c {i}" for i in range(50)] * 2)
    used = []
    monkeypatch.setattr(backend.Compiled, "loaded", False)
    original = scan_module._scan_compiled
    monkeypatch.setattr(scan_module, "_scan_compiled", lambda *a: used.append(1) or original(*a))
    scanner = Scanner(index)
    before = scanner.scan(texts)
    assert not used
    monkeypatch.setattr(scan_module, "_EARNED", 10)
    monkeypatch.setattr(backend, "NUMBA_LOADED_FROM_BYTES", 10)
    after = scanner.scan(texts)
    assert used
    assert np.array_equal(before.owners, after.owners)
    assert np.array_equal(before.positions, after.positions)


def test_without_numba_numpy_does_it_and_a_wish_that_cannot_be_met_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_installed", lambda: False)
    monkeypatch.setattr(scan_module, "_EARNED", 0)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert ours(["a b c"], ["x a b c"], 3) == [(0, 1, 0, 0)]
    monkeypatch.setenv(VARIABLE, "numba")
    with pytest.raises(backend.KernelUnavailable, match="not installed"):
        ours(["a"], ["a"], 1)
    monkeypatch.setenv(VARIABLE, "fortran")
    with pytest.raises(backend.KernelUnavailable, match="fortran"):
        ours(["a"], ["a"], 1)


def test_an_index_without_items_finds_nothing_and_a_width_of_nothing_is_refused() -> None:
    assert ours([], ["a b c"], 3) == []
    assert ours(["", "😀"], ["😀", ""], 3) == []
    with pytest.raises(ValueError, match="at least one token"):
        NgramIndex.of(pa.array(["a"]), 0)


@BOTH
@pytest.mark.parametrize("width", [2, 5, 7, 8, 13])
def test_every_place_of_an_n_gram_is_found_though_only_anchors_are_looked_for(
    kernels: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, kernels)
    item = " ".join(f"w{i}" for i in range(width))
    texts: list[str | None] = ["x " * before + item + " y" * (before % 3) for before in range(2 * width)]
    assert ours([item], texts, width) == [(before, before, 0, 0) for before in range(2 * width)]
    # ADV: an anchor alone, all of the n-gram but its last word, is no hit.
    assert ours([item], [item.rsplit(" ", 1)[0] + " z " * 20], width) == []


@BOTH
def test_an_n_gram_over_many_turns_is_found_at_its_place_in_the_stream(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, kernels)
    words = [f"w{i}" for i in range(13)]
    index = NgramIndex.of(pa.array([" ".join(words)]), 13)
    turns = ["before it", *words, "", "and after", "q " * 30, " ".join(words[:9]), " ".join(words[9:])]
    hits = Scanner(index).scan(pa.array(turns), np.zeros(len(turns), np.int64))
    assert hits.positions.tolist() == [2, 2 + 13 + 2 + 30]


@BOTH
def test_texts_of_one_byte_may_have_two_hits_each(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, kernels)
    index = NgramIndex.of(pa.array(["a", "a a"]), 2)
    hits = Scanner(index).scan(pa.array(["a"] * 3000), np.zeros(3000, np.int64))
    assert len(hits.grams) == 2 * 3000 - 1


@settings(max_examples=60)
@given(st.lists(st.text(st.sampled_from("ab5٥é日😀-+*/^<$|~ \t\x7f\x1f.,_AZ09az@[`{"), max_size=40), max_size=6), st.integers(1, 9))
def test_both_implementations_agree_hit_by_hit(texts: list[str], width: int) -> None:
    index = NgramIndex.of(pa.array(texts, pa.string()), width)
    owners = np.arange(len(texts), dtype=np.int64) // 2
    found = []
    for kernels in ("numpy", "numba"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, kernels)
            found.append(Scanner(index).scan(pa.array(texts, pa.string()), owners))
    for name in ("owners", "positions", "grams"):
        assert np.array_equal(getattr(found[0], name), getattr(found[1], name))


def test_words_of_eight_bytes_and_more_are_told_apart() -> None:
    words = ["abcdefgh", "abcdefghi", "abcdefghabcdefgh", "abcdefghabcdefgi", "abcdefgi", "ABCDEFGHA", "a" * 23, "a" * 24, "a" * 25]
    tokens = all_tokens(pa.array([" ".join(words)]))
    assert len(set(tokens.hashes.tolist())) == len(words)
    assert ours(words, [f"{word.upper()}," for word in words], 1) == [(i, 0, i, 0) for i in range(len(words))]
