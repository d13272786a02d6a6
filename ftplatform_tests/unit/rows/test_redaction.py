"""Redaction of rows: what is taken out, what is left, and that it is recorded. Planted values have known answers."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ftplatform.rows.masking import PiiKind, find_pii
from ftplatform.rows.personal_data import Finding, iban_valid, luhn_valid, may_hold_pii
from ftplatform.rows.redaction import SPAN_SCHEMA, Redaction
from ftplatform.rows.schema import ROW_SCHEMA, row_id
from ftplatform_tests.real_data import bitext, multidogo, read_jsonl
from ftplatform_tests.tables import asked, row, table
from ftplatform_tests.unit.rows.test_masking import HIDDEN


def redacted(rows: pa.Table, **options: Any) -> tuple[list[dict[str, Any]], Redaction]:
    redaction = Redaction(**options)
    done = pa.Table.from_batches(redaction.batches(rows.to_batches(max_chunksize=3)), schema=ROW_SCHEMA)
    return done.to_pylist(), redaction


def said(rows: list[dict[str, Any]]) -> list[list[str]]:
    return [[m["content"] for m in r["messages"]] for r in rows]


def test_identity_is_kept_inside_a_conversation_and_only_there() -> None:
    rows = table(
        [
            row("I am jo@example.org", "Is it JO@example.org or al@example.org?", group="c1"),
            row("Nothing here.", "No.", group="c2"),
            row("al@example.org", "Fine.", group="c2"),
            row("call (555) 123-4567", "555.123.4567, right?"),
            row("and jo@example.org again", "Yes.", group="c1"),
        ]
    )
    after, redaction = redacted(rows)
    assert said(after) == [
        ["I am [EMAIL_1]", "Is it [EMAIL_1] or [EMAIL_2]?"],
        ["Nothing here.", "No."],
        ["[EMAIL_1]", "Fine."],
        ["call [PHONE_1]", "[PHONE_1], right?"],
        ["and [EMAIL_1] again", "Yes."],
    ]
    assert (redaction.counts.rows, redaction.counts.changed_rows, redaction.counts.texts, redaction.counts.changed_texts) == (
        5,
        4,
        10,
        6,
    )
    assert redaction.counts.by_kind == Counter(EMAIL=5, PHONE=2)


def test_what_was_taken_out_is_recorded_and_the_ids_follow_the_text() -> None:
    before = table([row("hi", "mail jo@example.org or al@example.org")])
    after, redaction = redacted(before)
    spans = redaction.spans()
    assert spans.schema == SPAN_SCHEMA
    original = before["messages"][0].as_py()[1]["content"]
    lines = spans.to_pylist()
    assert [original[line["start"] : line["end"]] for line in lines] == ["jo@example.org", "al@example.org"]
    assert [(line["message"], line["role"], line["placeholder"]) for line in lines] == [
        (1, "assistant", "[EMAIL_1]"),
        (1, "assistant", "[EMAIL_2]"),
    ]
    assert {line["original_row_id"] for line in lines} == {before["row_id"][0].as_py()}
    assert {line["row_id"] for line in lines} == {after[0]["row_id"]} == {row_id(after[0]["messages"])}
    assert "jo@" not in repr(lines), "the record must not hold what was taken out"
    untouched = {k: v for k, v in after[0].items() if k not in {"row_id", "messages"}}
    assert untouched == {k: v for k, v in before.to_pylist()[0].items() if k in untouched}
    assert [m["trainable"] for m in after[0]["messages"]] == [False, True]


def test_a_second_pass_finds_nothing() -> None:
    rows = table(row(text) for text, _ in HIDDEN)
    first, _ = redacted(rows)
    again, redaction = redacted(table(first))
    assert again == first
    assert redaction.spans().num_rows == 0


def test_numbers_stay_unless_asked_for() -> None:
    rows = asked(["order 123456789012"])
    assert said(redacted(rows)[0]) == [["order 123456789012"]]
    assert said(redacted(rows, kinds=PiiKind)[0]) == [["order [NUMBER_1]"]]


def test_no_rows_and_rows_without_messages() -> None:
    assert redacted(table([]))[0] == []
    empty = {**row("x"), "messages": []}
    assert redacted(table([empty, row("jo@example.org")]))[0][1]["messages"][0]["content"] == "[EMAIL_1]"


def test_a_slice_of_a_batch() -> None:
    rows = asked(["jo@example.org", "nothing", "al@example.org"]).combine_chunks()
    redaction = Redaction()
    (batch,) = redaction.batches([rows.to_batches()[0].slice(1, 2)])
    assert [m[0]["content"] for m in batch.column("messages").to_pylist()] == ["nothing", "[EMAIL_1]"]


def test_a_recognizer_adds_what_no_pattern_finds() -> None:
    def names(texts: Any) -> list[list[Finding]]:
        found = [[] for _ in texts]
        for at, text in enumerate(texts):
            if (start := text.find("Ann Lee")) >= 0:
                found[at] = [Finding(PiiKind.PERSON, start, start + 7)]
            if (start := text.find("ann@example.org")) >= 0:
                found[at].append(Finding(PiiKind.PERSON, start, start + 3))
        return found

    after, redaction = redacted(asked(["Ann Lee, ann@example.org", "nobody"]), recognizer=names)
    assert said(after) == [["[PERSON_1], [EMAIL_1]"], ["nobody"]], "the pattern wins where both find something"
    assert redaction.counts.by_kind == Counter(PERSON=1, EMAIL=1)
    with pytest.raises(ValueError, match="1 of 2"):
        redacted(asked(["a", "b"]), recognizer=lambda _texts: [[]])


_FRAGMENTS = "1|23 |4111 1111 1111 1111|@|a@b.c|:|::1|fe80::1%|key=|abcDEF123|-|.|\u200b|GB82 WEST|(at)|\u0663|\n"
_PIECES = st.sampled_from([text for text, _ in HIDDEN] + [*_FRAGMENTS.split("|"), "x" * 24])


@given(st.lists(st.one_of(_PIECES, st.text(max_size=6)), max_size=8))
@example(["Bearer: ", "hunter22"])
@example(["eyJ", "abcdefgh", ".abcdefgh"])
def test_the_first_look_misses_nothing(pieces: list[str]) -> None:
    text = "".join(pieces).encode("utf-8", "ignore").decode()
    worth = pl.select(may_hold_pii(pl.lit(text))).item()
    assert worth or not find_pii(text)


# ---- planted values --------------------------------------------------------------------------------------------------------


def _card(rng: random.Random) -> str:
    body = rng.choice(["4", "51", "37", "6011"]) + "".join(rng.choices("0123456789", k=14))
    body = body[: 14 if body.startswith("37") else 15]
    number = next(body + str(d) for d in range(10) if luhn_valid([int(c) for c in body + str(d)]))
    return rng.choice([number, " ".join(number[i : i + 4] for i in range(0, len(number), 4))])


def _iban(rng: random.Random) -> str:
    account = "".join(rng.choices("0123456789", k=18))
    found = next(f"DE{check:02d}{account}" for check in range(2, 99) if iban_valid(f"DE{check:02d}{account}"))
    return rng.choice([found, " ".join(found[i : i + 4] for i in range(0, len(found), 4))])


def _phone(rng: random.Random) -> str:
    area, exchange, line = rng.randint(201, 989), rng.randint(200, 999), rng.randint(0, 9999)
    form = rng.choice(["({}) {}-{:04d}", "{}-{}-{:04d}", "+1 {} {} {:04d}", "1-{}-{}-{:04d}", "{}.{}.{:04d}"])
    return form.format(area, exchange, line)


PLANTED = {
    PiiKind.EMAIL: lambda rng: (
        f"{rng.choice(['jo', 'a.lee', 'm_k+news'])}{rng.randint(1, 99)}@{rng.choice(['mail', 'post'])}.example.org"
    ),
    PiiKind.PHONE: _phone,
    PiiKind.CARD: _card,
    PiiKind.IBAN: _iban,
    PiiKind.SSN: lambda rng: f"{rng.randint(1, 665):03d}-{rng.randint(1, 99):02d}-{rng.randint(1, 9999):04d}",
    PiiKind.IP: lambda rng: rng.choice(
        [".".join(str(rng.randint(1, 254)) for _ in range(4)), f"2001:db8::{rng.randint(1, 9999):x}:{rng.randint(1, 9999):x}"]
    ),
    PiiKind.SECRET: lambda rng: rng.choice(["sk-", "ghp_", "hf_"]) + "".join(rng.choices("abcdefghijkmnpqrstuvwxyz23456789", k=32)),
}


def star_turns(data: Path) -> list[str]:
    dialogues = read_jsonl(data / "star" / "star_open.jsonl.gz")
    return list(dict.fromkeys(e["Text"] for d in dialogues for e in d["Events"] if e.get("Action") in {"utter", "pick_suggestion"}))


def test_planted_values_are_found_whole_and_under_their_name(shared_data: Path) -> None:
    rng = random.Random(4)
    hosts = [text for text in rng.sample(star_turns(shared_data), 3000) if not find_pii(text)]
    right: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    for at, host in enumerate(hosts):
        kind = list(PLANTED)[at % len(PLANTED)]
        value = PLANTED[kind](rng)
        words = host.split(" ")
        place = rng.randint(0, len(words))
        text = " ".join([*words[:place], value, *words[place:]])
        planted[kind] += 1
        right[kind] += any(f.kind is kind and text[f.start : f.end] == value for f in find_pii(text))
    recall = {kind: right[kind] / planted[kind] for kind in PLANTED}
    print(f"\nrecall over {sum(planted.values())} planted values: { {str(k): round(v, 4) for k, v in recall.items()} }")
    assert min(recall.values()) >= 0.97, recall


def test_false_alarms_on_real_turns_and_order_numbers(shared_data: Path) -> None:
    """No personal data was left in these corpora, so what is taken out is looked at: at most one text in a thousand."""
    turns = {
        "star": star_turns(shared_data),
        "bitext": [m[0]["content"] for m in bitext(shared_data)["messages"].to_pylist()],
    }
    wanted = set(PiiKind) - {PiiKind.NUMBER}
    for name, texts in turns.items():
        alarms = [(f.kind, text[f.start : f.end]) for text in texts for f in find_pii(text) if f.kind in wanted]
        print(f"\n{name}: {len(alarms)} found in {len(texts)} texts: {Counter(str(k) for k, _ in alarms)}, e.g. {alarms[:8]}")
        assert len(alarms) <= len(texts) / 1000


def test_most_texts_are_not_looked_at_twice(shared_data: Path) -> None:
    """The first look is what makes a million rows affordable: it must let few texts through, and be faster than looking at all."""
    texts = [m[0]["content"] for m in multidogo(shared_data, "finance", "train")["messages"].to_pylist()]
    frame = pl.DataFrame({"text": texts})
    started = time.process_time()
    worth = frame.select(may_hold_pii(pl.col("text"))).to_series()
    quick = time.process_time() - started
    started = time.process_time()
    found = [bool(find_pii(text)) for text in texts]
    slow = time.process_time() - started
    share = worth.sum() / len(texts)
    print(f"\n{share:.2%} of {len(texts)} texts are looked at twice, {sum(found)} hold something; {slow / quick:.0f} times faster")
    assert share < 0.1
    assert not [text for text, look, hit in zip(texts, worth, found, strict=True) if hit and not look]
    assert quick < slow
