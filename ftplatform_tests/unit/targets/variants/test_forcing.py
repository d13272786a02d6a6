"""Contexts that force a word, and how answers spell it."""

from __future__ import annotations

import polars as pl

from ftplatform.evaluation.generation import Generator
from ftplatform.evaluation.sampling import VariantContext, variant_rate
from ftplatform.targets.variants.forcing import forcing_contexts, spelled
from ftplatform_tests.projects import BASE_MODEL
from ftplatform_tests.tables import row, table

PAIRS = {"deductable": "deductible", "acmeplay": "AcmePay"}


def test_one_context_per_conversation_wherever_the_word_is_right_or_wrong() -> None:
    rows = table(
        [
            *(row(f"q{i}", f"Well, your {'Deductable' if i % 2 else 'deductible'} is {i}. The deductible.") for i in range(30)),
            *(row("same question", f"Your deductible is {i}.") for i in range(10)),
            row("who?", "AcmePay"),
            row("hi", "nothing", "deductible?", "no word"),
        ]
    )
    contexts = forcing_contexts(rows, PAIRS)
    assert len(contexts) == 32
    assert len({context.cluster for context in contexts}) == 32
    for context in contexts:
        if context.prefix == "Well, your ":
            assert (context.good, context.bad) in (
                ("Well, your deductible", "Well, your deductable"),
                ("Well, your Deductible", "Well, your Deductable"),
            )
    (brand,) = (context for context in contexts if context.right == "AcmePay")
    assert (brand.prefix, brand.wrong) == ("", "Acmeplay")
    assert contexts == forcing_contexts(lambda: rows.to_batches(max_chunksize=3), PAIRS)
    assert contexts[:5] == forcing_contexts(rows, PAIRS, most=5)
    assert forcing_contexts(table([]), PAIRS) == []


def test_a_probe_asks_the_conversation_and_names_both_words() -> None:
    (context,) = forcing_contexts(table([row("q", "The deductible")]), PAIRS)
    assert context.to_probe() == {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "deductible"}],
        "slices": ["variant:deductable"],
        "group": context.cluster,
    }


def test_answers_are_read_word_by_word() -> None:
    answers = ["A Deductable's end", "the deductible", "both: deductible, deductable", "undeductable", "", "`deductable`"]
    frame = pl.DataFrame({"answer": answers, "right": ["deductible"] * 6, "wrong": ["deductable"] * 6})
    assert spelled(frame).to_list() == [1.0, 0.0, 1.0, None, None, None]


def test_a_model_is_asked_teacher_forced() -> None:
    rows = table(row(f"is it {i}", f"The return window is {i} days.") for i in range(6))
    contexts = [
        VariantContext(context.conversation, context.good, context.bad, context.cluster)
        for context in forcing_contexts(rows, {"retrun": "return"})
    ]
    rate = variant_rate(Generator.load(BASE_MODEL, device="cpu"), contexts, adapter=False)
    assert rate is not None
    assert rate.n == 6
    assert rate.interval.estimate < 0.5
