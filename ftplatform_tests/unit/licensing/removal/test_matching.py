"""Finding claimed rows by place, id and words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from ftplatform.errors import InputDataError
from ftplatform.licensing.removal.claim import Matcher, read_claimed_rows, resolve, text_hash, unit_texts
from ftplatform.licensing.removal.matching import Thresholds, find
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.licensing.removal.world import near_duplicates, row_set, sentence

LONG = sentence(1, 40)


def reasons(matcher: Matcher, *rows: dict, **more) -> dict[str, tuple[str, str]]:
    """Row id to (reason, decision)."""
    found = find(resolve(matcher), [row_set("s", list(rows))], **more)
    return {i: (r, d) for i, r, d in found.table.select("row_id", "reason", "decision").iter_rows()}


def test_an_equal_row_and_an_equal_text_in_other_clothes() -> None:
    claimed = row("What is it?", LONG, source="theirs")
    same = row("What is it?", LONG, source="mirror")
    clothes = row(("system", "Be brief."), ("user", "WHAT is  it"), ("assistant", LONG.upper() + "!"), source="mirror")
    answer_only = row("Something else", LONG, source="mirror")
    other = row("What is it?", sentence(2, 40), source="ours")
    found = reasons(Matcher(rows=table([claimed])), same, clothes, answer_only, other)
    assert found == {
        same["row_id"]: ("row_id", "banned"),
        clothes["row_id"]: ("text", "banned"),
        answer_only["row_id"]: ("text", "banned"),
    }


def test_texts_that_are_nobodys_do_not_ban() -> None:
    """Naive: every equal message bans, so one claimed "Yes." takes every row that says yes."""
    prompt = ("system", "You are a helpful assistant that answers politely and at length, always.")
    claimed = table([row(prompt, ("user", LONG), ("assistant", "Yes.")), row("Thanks!", "You are welcome.")])
    yes = row("Is it open?", "Yes.")
    same_prompt = row(prompt, ("user", "Is it far?"), ("assistant", "No."))
    courtesy = row("thanks", "you are welcome!")
    found = reasons(Matcher(rows=claimed), yes, same_prompt, courtesy)
    assert found == {courtesy["row_id"]: ("text", "candidate")}, "a short whole row is listed for a person"
    naive = {t for r in claimed.to_pylist() for m in r["messages"] for t in [m["content"]]}
    assert any(m["content"] in naive for m in yes["messages"])
    assert any(m["content"] in naive for m in same_prompt["messages"])


def test_words_claimed_outright_are_found_in_every_role() -> None:
    shown = row(("system", LONG), ("user", "hi"))
    assert reasons(Matcher(texts=(LONG,)), shown) == {shown["row_id"]: ("text", "banned")}
    assert reasons(Matcher(text_hashes=(text_hash(LONG.upper()),)), shown) == {shown["row_id"]: ("text", "banned")}
    assert reasons(Matcher(texts=("hi",)), shown) == {shown["row_id"]: ("text", "candidate")}


def test_near_texts_fall_or_are_listed_by_similarity() -> None:
    words = LONG.split()
    edited = row("q", " ".join([*words[:-1], "changed"]), source="mirror")
    half = row("q", " ".join(words[:30] + sentence(3, 10).split()), source="mirror")
    other = row("q", sentence(4, 40))
    found = find(resolve(Matcher(texts=(LONG,))), [row_set("s", [edited, half, other])], near=near_duplicates)
    lines = {i: (d, round(s, 2), c) for i, d, s, c in found.table.select("row_id", "decision", "similarity", "claimed").iter_rows()}
    # 40 words have 38 shingles: 37 of 39, and 28 of 48.
    assert lines == {edited["row_id"]: ("banned", 0.95, "text 1"), half["row_id"]: ("candidate", 0.58, "text 1")}
    assert found.banned.to_list() == [edited["row_id"]]
    assert not find(resolve(Matcher(texts=(LONG,))), [row_set("s", [edited])]).near
    strict = find(
        resolve(Matcher(texts=(LONG,))), [row_set("s", [edited])], near=near_duplicates, thresholds=Thresholds(certain=1.0)
    )
    assert strict.table["decision"].to_list() == ["candidate"]


def test_a_place_leads_to_its_rows_and_from_there_to_the_mirror() -> None:
    theirs = [row("q", sentence(k, 30), source="raw/b") for k in range(5)]
    mirror = [row("q", sentence(k, 30), source="raw/c") for k in range(5)]
    ours = [row("q", sentence(50 + k, 30), source="raw/a") for k in range(5)]
    edited = row("q", sentence(2, 30) + " indeed", source="raw/c")
    sets = [row_set("raw/b", theirs), row_set("raw/c", [*mirror, edited]), row_set("raw/a", ours)]
    places = {"raw/b": ["hf://datasets/Org/Data@abc123/train.parquet"], "raw/c": ["https://example.org/copy.jsonl"]}
    matcher = Matcher(uris=("https://www.huggingface.co/datasets/org/data/tree/main", "https://example.org/elsewhere"))
    claimed = resolve(matcher, sets, places)
    assert claimed.names == ("raw/b",)
    assert claimed.unplaced == ("https://example.org/elsewhere",)
    found = find(claimed, sets, near=near_duplicates)
    assert found.counts() == [
        {"asset": "raw/b", "decision": "banned", "reason": "source", "rows": 5},
        {"asset": "raw/c", "decision": "banned", "reason": "near", "rows": 1},
        {"asset": "raw/c", "decision": "banned", "reason": "row_id", "rows": 5},
    ]
    assert found.scanned == {"raw/b": 5, "raw/c": 6, "raw/a": 5}
    naive = [r for r in mirror if "raw/b" in r["origins"]]
    assert not naive, "a search by place alone misses the mirror"
    ban = found.ban("notices/1", claimed, cleared=[edited["row_id"]])
    assert len(ban.row_ids) == 5
    assert ban.claim == claimed.digest


def test_rows_named_by_id_lead_to_their_words() -> None:
    named, copy = row("q", LONG, source="raw/b"), row("Q!", LONG, source="raw/c")
    sets = [row_set("raw/b", [named, row("q", sentence(5, 30))]), row_set("raw/c", [copy])]
    found = find(resolve(Matcher(row_ids=(named["row_id"],)), sets), sets)
    assert dict(found.table.select("row_id", "reason").iter_rows()) == {named["row_id"]: "row_id", copy["row_id"]: "text"}


@pytest.mark.parametrize(
    ("claimed", "own", "same"),
    [
        ("https://github.com/a/b", "https://github.com/a/b.git", True),
        ("https://github.com/a/b", "http://GitHub.com/A/b/blob/main/data.csv", True),
        ("https://github.com/a/b", "https://github.com/a/bc", False),
        ("hf://datasets/a/b", "https://huggingface.co/datasets/a/b/resolve/main/x.json", True),
        ("hf://datasets/a/b/train.json", "hf://datasets/a/b", False),
        ("s3://bucket/raw", "s3://bucket/raw/part-0.parquet", True),
    ],
)
def test_places(claimed: str, own: str, same: bool) -> None:
    resolved = resolve(Matcher(uris=(claimed,)), places={"raw/x": [own]})
    assert (resolved.names == ("raw/x",)) is same
    assert (resolved.unplaced == ()) is same


def test_claimants_files_are_read_like_any_foreign_file(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": LONG}], "row_id": "0" * 64}
    (tmp_path / "claim.jsonl").write_text(json.dumps(good) + "\nnot json\n")
    rows, quarantined = read_claimed_rows(tmp_path / "claim.jsonl")
    assert (rows.num_rows, quarantined.num_rows) == (1, 1)
    assert rows["row_id"][0].as_py() == row("q", LONG)["row_id"], "the id in the file is not believed"
    pq.write_table(rows.select(["messages"]), tmp_path / "claim.parquet")
    assert read_claimed_rows(tmp_path / "claim.parquet")[0]["row_id"] == rows["row_id"]


def test_an_empty_notice_is_refused() -> None:
    for nothing in ({}, {"texts": ("...",)}, {"rows": table([])}):
        with pytest.raises(InputDataError, match="names nothing"):
            Matcher(**nothing)
    with pytest.raises(InputDataError, match="is no text hash"):
        Matcher(text_hashes=("abc",))
    with pytest.raises(InputDataError, match="is no URI"):
        resolve(Matcher(uris=("https://[",)))


def test_units_leave_out_blanks_and_name_the_whole_once() -> None:
    units = unit_texts(table([row("only"), row("...", "two words")]), system=True)
    assert units.select("span", "text", "words").rows() == [("whole", "only", 1), ("whole", "two words", 2)]


def test_finders_are_called_with_distinct_texts_only() -> None:
    seen: list[list[str]] = []

    def finder(claimed: pl.Series, texts: pl.Series, threshold: float):
        seen.append(texts.to_list())
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, np.zeros(0)

    rows = [row("q", sentence(7, 30), source=f"s{k}") for k in range(9)]
    find(resolve(Matcher(texts=(LONG,))), [row_set("s", rows)], near=finder)
    assert [len(texts) for texts in seen] == [2], "the whole and the answer, once for nine rows"
