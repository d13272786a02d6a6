"""What the remedies do to rows."""

from __future__ import annotations

import json
import random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ftplatform.errors import InputDataError
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.rows.validation import row_schema
from ftplatform.synthesis.remedies.resample import mix, real_seeds, resample
from ftplatform.synthesis.remedies.slips import misspell
from ftplatform.synthesis.remedies.style import condition_style
from ftplatform.synthesis.surface_features import surface_features
from ftplatform.synthesis.teachers.grammar import Grammar, GrammarTeacher
from ftplatform_tests.tables import asked, row, table
from ftplatform_tests.unit.synthesis.toy import TOPICS, clean, sample


def answered(seed: int, n: int) -> pa.Table:
    rng = random.Random(seed)
    return table(
        row(("system", "Be Kind."), ("user", clean(rng, rng.choice(list(TOPICS)))), ("assistant", "Certainly. Please wait."))
        for _ in range(n)
    )


def contents(rows: pa.Table, role: Role) -> list[str]:
    return turns(rows, role)["content"].to_pylist()


def test_only_user_turns_change_and_lineage_follows() -> None:
    before, reference = answered(1, 400), sample(2, 600)
    after = condition_style(before, reference, seed=3)
    assert row_schema(after).passed
    assert after.num_rows == before.num_rows
    for role in (Role.SYSTEM, Role.ASSISTANT):
        assert contents(after, role) == contents(before, role)
    changed = [(b, a) for b, a in zip(before.to_pylist(), after.to_pylist(), strict=True) if a["messages"] != b["messages"]]
    assert len(changed) > 300
    for b, a in changed:
        assert a["row_id"] != b["row_id"]
        assert b["row_id"] in a["parents"]
        assert json.loads(a["meta"])["style_seed"] == 3
    untouched = [(b, a) for b, a in zip(before.to_pylist(), after.to_pylist(), strict=True) if a["messages"] == b["messages"]]
    assert all(a == b for b, a in untouched)


def test_equal_seeds_give_equal_rows() -> None:
    before, reference = answered(1, 200), sample(2, 600)
    assert condition_style(before, reference, 3).equals(condition_style(before, reference, 3))
    assert not condition_style(before, reference, 3).equals(condition_style(before, reference, 4))


def test_rates_move_to_those_of_real_users() -> None:
    before, reference = answered(4, 1500), sample(5, 1500)
    after = condition_style(before, reference, 6)
    means = [
        surface_features(pl.Series(contents(rows, Role.USER))).mean().row(0, named=True) for rows in (before, after, reference)
    ]
    for name in ("initial_capital", "end_punctuation", "politeness", "question_mark", "capital_share"):
        was, became, wanted = (mean[name] for mean in means)
        assert abs(became - wanted) < 0.5 * abs(was - wanted), name
    assert abs(means[1]["initial_capital"] - means[2]["initial_capital"]) < 0.03


def test_it_works_towards_clean_text_as_well() -> None:
    rng = random.Random(7)
    formal = asked([f"Where is my {rng.choice(TOPICS['refund'])}?" for _ in range(800)])
    sloppy = asked([f"where is my {rng.choice(TOPICS['refund'])}" for _ in range(800)])
    after = surface_features(pl.Series(contents(condition_style(sloppy, formal, 1), Role.USER)))
    assert after["initial_capital"].mean() == pytest.approx(1, abs=0.01)
    assert after["question_mark"].mean() == pytest.approx(1, abs=0.01)


def test_sentences_that_ask_for_something_stay() -> None:
    story = "My order came late. The box was open. It rained all day. What can I do about it?"
    after = contents(condition_style(asked([story] * 300), asked(["help w my order"] * 300), 1), Role.USER)
    # A slip may have touched one of its words.
    assert all(sum(word in text.lower() for word in ("what", "can", "do", "about")) >= 3 for text in after)
    assert np.mean([len(text) for text in after]) < 0.6 * len(story)


def test_numbers_and_spaces_are_no_sentences() -> None:
    texts = ["  i paid 3.50 at shop.example at 10.15 am  ", "fee of 1.5 percent"] * 50
    assert contents(condition_style(asked(texts), asked(texts), 1), Role.USER) == texts


def test_nothing_to_learn_from_changes_nothing() -> None:
    before = answered(1, 10)
    assert condition_style(before, table([]), 1).equals(before)
    assert condition_style(table([]), before, 1).num_rows == 0


def test_slips() -> None:
    texts = pl.Series(
        ["please cancel my subscription", "ÄÖ größe übersicht straße", "a b c", "call (now) [x] $1 \\1 subscription"] * 100
    )
    slipped = misspell(texts, pl.Series([True] * 400), np.random.default_rng(0)).to_list()
    for before, after in zip(texts.to_list(), slipped, strict=True):
        assert len(before.split()) == len(after.split())
        assert sum(b != a for b, a in zip(before.split(), after.split(), strict=True)) <= 1
        assert [w[0] for w in before.split() if w[0].isascii()] == [w[0] for w in after.split() if w[0].isascii()]
        assert abs(len(before) - len(after)) <= 1
    assert slipped[2] == "a b c"
    assert len(set(slipped[::4])) > 30
    unchosen = misspell(texts, pl.Series([False] * 400), np.random.default_rng(0))
    assert unchosen.equals(texts)


def test_seeds_come_from_many_users() -> None:
    """ADV: the first rows, or random ones, are mostly of the user who wrote most."""
    loud = [row(f"again {i}", group="loud") for i in range(900)]
    rows = table([*loud, *(row(f"once {i}", group=f"c{i}") for i in range(100)), row(("assistant", "no user turn"))])
    naive = [r["group"] for r in rows.take(np.random.default_rng(0).permutation(rows.num_rows)[:100]).to_pylist()]
    assert naive.count("loud") > 70
    chosen = real_seeds(rows, 100, seed=0)
    assert [r["group"] for r in chosen.to_pylist()].count("loud") <= 1
    assert real_seeds(rows, 5000).num_rows == 1000


def test_resample_writes_from_real_seeds() -> None:
    teacher = GrammarTeacher("t", Grammar({"user": ["{seed}", "so {seed}"]}))
    rows = resample(teacher, sample(8, 100), 60, seed=1)
    assert rows.num_rows == 60
    ids = set(sample(8, 100)["row_id"].to_pylist())
    assert all(ids & set(parents) for parents in rows["parents"].to_pylist())
    with pytest.raises(InputDataError, match="no user turn"):
        resample(teacher, table([]), 5)


def test_mix_keeps_the_size_and_repeats_nobody() -> None:
    candidate, reference = sample(9, 200, clean), sample(10, 80)
    mixed = mix(candidate, reference, 0.3, seed=1)
    real_ids = set(reference["row_id"].to_pylist()) - set(candidate["row_id"].to_pylist())
    assert mixed.num_rows == 200
    assert sum(i in real_ids for i in mixed["row_id"].to_pylist()) == 60
    assert mixed.equals(mix(candidate, reference, 0.3, seed=1))
    with pytest.raises(InputDataError, match="there are 80"):
        mix(candidate, reference, 0.5)
    for share in (0, -1, 1.5):
        with pytest.raises(ValueError, match="share"):
            mix(candidate, reference, share)
