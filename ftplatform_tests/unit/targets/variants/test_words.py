"""Words are the same in a table and in a single text, and code, addresses and numbers are none."""

from __future__ import annotations

import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.targets.variants.words import (
    batches,
    in_case_of,
    normalized,
    plain,
    prose,
    sentences,
    split_words,
    target_turns,
    word_spans,
    words,
)
from ftplatform_tests.tables import row, table


def in_table(texts: list[str]) -> list[list[str]]:
    """Normalized words of each text, by polars."""
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String}).select(word=words(prose(pl.col("text"))))
    return frame.with_columns(pl.col("word").list.eval(plain(pl.element()).str.to_lowercase()))["word"].to_list()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Your deductible’s due.", ["deductible", "due", "your"]),
        ("It's the customer's", ["customer", "it's", "the"]),
        ("Don't re-open - now", ["don't", "now", "re-open"]),
        ("see https://adress.exmaple.com/helo or mail jon@exmaple.org", ["mail", "or", "see"]),
        ("run `pyhton -m foo` and ```\nimprot x\n``` now", ["and", "now", "run"]),
        ("order A12B3, item_id, C:\\temp\\fiel, 3rd, $amout", ["order"]),
        ("Dear <custmer name>, {acount} [ADRESS LINE] ok", ["dear", "ok"]),
        ("exmaple.com is down.Thanks", ["down", "is", "thanks"]),
        ("naïve Ärger", ["naïve", "ärger"]),
        ("", []),
    ],
)
def test_what_is_a_word(text: str, found: list[str]) -> None:
    assert sorted(in_table([text])[0]) == found
    assert sorted(normalized(text[start:end]) for start, end in word_spans(text)) == found


@given(st.lists(st.text(alphabet="abZé'’- .,@/0_`-\n<>{}[]A", max_size=60), max_size=8))
def test_a_text_alone_has_the_words_it_has_in_a_table(texts: list[str]) -> None:
    alone = [[normalized(text[start:end]) for start, end in word_spans(text)] for text in texts]
    assert alone == in_table(texts)


def test_only_trainable_assistant_turns_are_targets() -> None:
    masked = row("typo uno", "typo duo", "typo tres", "typo quattro", author="ann")
    masked["messages"][1]["trainable"] = False
    rows = table([masked, row("a", "b")])
    found = target_turns(rows)
    assert found.select("row", "turn", "author", "text").rows() == [(0, 3, "ann", "typo quattro"), (1, 1, None, "b")]


def test_a_stream_is_read_as_its_table_is() -> None:
    rows = table(row(f"q {i}", f"a {i}") for i in range(50))
    streamed = list(batches(lambda: rows.to_batches(max_chunksize=7)))
    assert [part.num_rows for part in streamed] == [7] * 7 + [1]
    assert sum(part.num_rows for part in batches(rows)) == 50


def test_sentences_end_where_people_end_them() -> None:
    frame = pl.DataFrame({"text": ["One. Two! (Three?) Four: five\nSix v1.2 end"]})
    assert [s.strip() for s in frame.select(sentences(pl.col("text"))).item().to_list()] == [
        "One.",
        "Two!",
        "(Three?)",
        "Four:",
        "five",
        "Six v1.2 end",
    ]


def test_capitals_and_possessives() -> None:
    assert [in_case_of("right", use) for use in ("wrong", "Wrong", "WRONG", "I", "wRONG")] == [
        "right",
        "Right",
        "RIGHT",
        "Right",
        "right",
    ]
    assert split_words("AcmePay’s Wi-Fi") == ["AcmePay", "Wi-Fi"]


@pytest.mark.parametrize(
    "hostile", ["a" * 200_000, "a." * 100_000, "`" * 200_000, "<a" * 100_000, "1a" * 100_000, "'a" * 100_000, "a-" * 100_000]
)
def test_a_hostile_text_costs_its_length(hostile: str) -> None:
    started = time.process_time()
    spans = word_spans(hostile)
    assert time.process_time() - started < 5, "quadratic time would take minutes"
    assert len(in_table([hostile])[0]) == len(spans)
