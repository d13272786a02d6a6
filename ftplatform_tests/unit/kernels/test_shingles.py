from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftplatform.kernels import blocks
from ftplatform.kernels.hashing import sequence_hash, shingle_hash, word_hash
from ftplatform.kernels.shingles import shingle_sets, text_hashes
from ftplatform_tests.unit.kernels import reference

#: Words of every length around 8 and 16, capitals that lower to ASCII or to two characters, marks, digits, punctuation, separators.
CHARACTERS = "abzABZ019_ .,'’“-\n\t\x00\x7fÉéßİKΣσ日本ª²①𝟙🙂́"
TEXTS = st.lists(st.one_of(st.text(CHARACTERS, max_size=60), st.text(max_size=30), st.text("aB c", max_size=60)), max_size=8)


def expected(texts: list[str], width: int = 3) -> list[list[int]]:
    return [sorted({shingle_hash(s) for s in reference.shingles(text, width)}) for text in texts]


def as_lists(texts: blocks.Texts, width: int = 3) -> list[list[int]]:
    sets = shingle_sets(texts, width)
    return [sets.values[a:b].tolist() for a, b in zip(sets.offsets, sets.offsets[1:], strict=False)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, width=st.integers(1, 4))
def test_sets_are_those_of_the_unicode_rule(backend: str, texts: list[str], width: int) -> None:
    assert as_lists(pl.Series(texts, dtype=pl.String), width) == expected(texts, width)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS)
def test_sequence_hashes_are_those_of_plain_python(backend: str, texts: list[str]) -> None:
    hashes = text_hashes(pl.Series(texts, dtype=pl.String))
    assert hashes.tolist() == [sequence_hash(" ".join(reference.words(text)).encode()) for text in texts]


def test_a_byte_table_alone_joins_words_at_a_curly_quote(backend: str) -> None:
    text = "it’s the “large” one"
    naive = "".join(c if c.isalnum() or ord(c) >= 128 else " " for c in text).split()
    assert len(naive) == 4
    assert reference.words(text) == ["it", "s", "the", "large", "one"]
    assert as_lists(pl.Series([text])) == expected([text])


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["One two three four", None, "", "Ünlü bir söz var", "x"]),
        pa.array(["One two three four", None, "", "Ünlü bir söz var", "x"], pa.large_string()),
        pa.array(["skip me", "One two three four", None, "", "Ünlü bir söz var", "x", "and me"]).slice(1, 5),
        pa.chunked_array([["One two three four", None], [], ["", "Ünlü bir söz var", "x"]], pa.string()),
        pl.Series(["One two three four", None, "", "Ünlü bir söz var", "x"]),
    ],
    ids=["string", "large_string", "slice", "chunked", "polars"],
)
def test_every_kind_of_column(backend: str, column: blocks.Texts) -> None:
    texts = ["One two three four", "", "", "Ünlü bir söz var", "x"]
    assert as_lists(column) == expected(texts)
    chosen = shingle_sets(column, rows=np.array([0, 3]))
    assert [chosen.values[:2].tolist(), chosen.values[2:].tolist()] == [expected(texts)[0], expected(texts)[3]]


def test_blocks_cut_between_texts_and_nowhere_else(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"row {i} " + "Word’s end" * (i % 7) + "a" * (i % 20) for i in range(100)]
    whole = as_lists(pl.Series(texts))
    monkeypatch.setattr(blocks, "_ROWS", 7)
    monkeypatch.setattr(blocks, "_COMPILED_BYTES", 50)
    monkeypatch.setattr(blocks, "_NUMPY_BYTES", 50)
    assert len(list(blocks.text_blocks(pl.Series(texts), backend == "numba"))) > 30
    assert as_lists(pl.Series(texts)) == whole == expected(texts)
    rows = np.array([0, 6, 7, 41, 99])
    assert shingle_sets(pl.Series(texts), rows=rows).values.tolist() == [value for i in rows for value in whole[i]]


def test_a_word_ends_with_its_text(backend: str) -> None:
    assert as_lists(pa.array(["ab", "cd", "", "e"])) == expected(["ab", "cd", "", "e"])


def test_large_sets_are_sorted(backend: str) -> None:
    text = " ".join(str(i * i % 10007) for i in range(30_000))
    assert as_lists(pl.Series([text])) == expected([text])


def test_no_texts(backend: str) -> None:
    assert len(shingle_sets(pa.array([], pa.string()))) == 0
    assert len(shingle_sets(pa.chunked_array([], pa.large_string()))) == 0


def test_short_words_never_collide_and_order_matters() -> None:
    short = [bytes([a, b]) for a in range(97, 123) for b in range(97, 123)] + [bytes([a]) for a in range(97, 123)]
    assert len({word_hash(word) for word in short}) == len(short)
    assert len({shingle_hash(s) for s in (b"a b c", b"c b a", b"b a c", b"a b", b"abc", b"a b c d")}) == 6
