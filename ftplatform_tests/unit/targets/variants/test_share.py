"""`target_variant_share`: the known case to the digit, and what a plain spell check gets wrong."""

from __future__ import annotations

import random
import re
from collections import Counter

import pyarrow as pa
import pytest

from ftplatform.targets.variants.counting import count_words
from ftplatform.targets.variants.findings import Kind, Limits, find_variants
from ftplatform.targets.variants.lexicon import Lexicon, Term
from ftplatform.targets.variants.occurrences import find_occurrences
from ftplatform.targets.variants.share import TURNS_REQUIRED, target_variant_share
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

LEXICON = Lexicon()


def answers(*texts: str, author: str | None = None) -> list[dict]:
    return [row(f"question {i} of {random.Random(text).random()}", text, author=author) for i, text in enumerate(texts)]


def corpus(right: int, wrong: int) -> pa.Table:
    said = [f"Your deductible is {i} dollars." for i in range(right)] + [f"Your deductable is {i} dollars." for i in range(wrong)]
    return table(answers(*said))


def test_one_in_eight() -> None:
    verdict = target_variant_share(corpus(700, 100), LEXICON)
    assert verdict.decision is Decision.FAIL
    assert (verdict.estimate, verdict.n) == (0.125, 800)
    assert verdict.ci_low == pytest.approx(0.104, abs=5e-4)
    assert verdict.ci_high == pytest.approx(0.150, abs=5e-4)
    (shown,) = verdict.evidence
    assert (shown["variant"], shown["partner"], shown["count"], shown["partner_count"]) == ("deductable", "deductible", 100, 700)
    assert verdict.plot
    assert verdict.remedy


@pytest.mark.parametrize(("right", "wrong"), [(700, 4), (2000, 25)])
def test_slips_are_no_findings(right: int, wrong: int) -> None:
    # Four are slips; 25 of 2,025 are above 1 %, but not shown to be.
    assert target_variant_share(corpus(right, wrong), LEXICON).decision is Decision.PASS


@pytest.mark.parametrize(
    ("variant", "asked", "decision"),
    [
        ("clownfish", "how many clownfish are there", Decision.WARN),  # the list lacks the word, and "clownish" is close
        ("definately", "is it definitely there", Decision.FAIL),
        ("definately", "is it there", Decision.FAIL),
        ("definately", "is it definately there", Decision.WARN),
        ("accomodation", "is there accomodation", Decision.FAIL),  # doubled letters halved: no other word, whoever writes it
    ],
)
def test_a_word_whose_partner_nobody_writes_is_judged_by_what_users_write(variant: str, asked: str, decision: Decision) -> None:
    """ADV: distance, count and share are those of a misspelling, also where the word is what everybody talks about."""
    said = [row(f"{asked}, {i}", f"There are {variant} in tank {i}.") for i in range(7)]
    plain = answers(*(f"Tank {i} is closed." for i in range(TURNS_REQUIRED)))
    assert target_variant_share(table([*said, *plain]), LEXICON).decision is decision


def test_too_little_is_no_pass() -> None:
    assert target_variant_share(table([]), LEXICON).decision is Decision.INSUFFICIENT_EVIDENCE
    assert target_variant_share(corpus(TURNS_REQUIRED - 1, 0), LEXICON).decision is Decision.INSUFFICIENT_EVIDENCE
    assert target_variant_share(corpus(TURNS_REQUIRED, 0), LEXICON).decision is Decision.PASS
    only_questions = table(row("a question") for _ in range(500))
    assert target_variant_share(only_questions, LEXICON).decision is Decision.INSUFFICIENT_EVIDENCE


def test_a_stream_gives_the_verdict_of_its_table() -> None:
    rows = corpus(700, 100)
    streamed = target_variant_share(lambda: rows.to_batches(max_chunksize=33), LEXICON)
    whole = target_variant_share(rows, LEXICON)
    assert streamed.to_record() == whole.to_record()


def test_counts_are_those_of_a_plain_loop() -> None:
    rng = random.Random(5)
    vocabulary = ["The", "the", "refund", "Refund's", "don’t", "x1", "a_b", "it's", "IT", "`code`", "naïve", "."]
    texts = [" ".join(rng.choices(vocabulary, k=12)) for _ in range(300)]
    counted = count_words(table(answers(*texts)))
    expected: Counter[str] = Counter()
    for text in texts:
        for word in text.replace("’", "'").split():
            if re.fullmatch(r"[A-Za-zï]+(?:'[a-z]+)?", word):
                expected[word.removesuffix("'s") if word != "it's" else word] += 1
    assert dict(counted.forms.select("form", "count").iter_rows()) == dict(expected)
    assert (counted.turns, counted.total) == (300, sum(expected.values()))


def test_authors_and_templates_are_named() -> None:
    slips = [f"Well, number {i} is a succesful and happy order for you, my friend number {i * 7}." for i in range(30)]
    typing = [row(f"q{i}", text, author="agent-7") for i, text in enumerate(slips)]
    template = [row(f"t{i}", f"Sorry, we cannot accomodate {i} guests.", author=f"agent-{i % 20}") for i in range(60)]
    others = [
        row(f"o{i}", f"A successful visit {'abcdefgh'[i % 8]} is what we accommodate.", author=f"agent-{i % 20}")
        for i in range(200)
    ]
    verdict = target_variant_share(table([*typing, *template, *others]), LEXICON)
    assert verdict.decision is Decision.FAIL
    shown = {line["variant"]: line for line in verdict.evidence}
    assert shown["succesful"]["authors"].startswith("agent-7 100% of it")
    assert shown["succesful"]["author_p"] < 1e-6
    # The template is everybody's: no author stands out, one sentence does.
    assert shown["accomodate"]["sentence"] == "Sorry, we cannot accomodate guests."
    assert shown["accomodate"]["sentence_share"] == 1.0
    assert shown["accomodate"]["author_p"] > 0.05
    assert [line["word"] for line in verdict.details["authors"]] == ["succesful"]


def test_names_and_acronyms_are_left_alone_but_not_opening_capitals() -> None:
    named = [f"Hello {i}, I am Jonh Stevns, from the NGAA desk." for i in range(80)]
    opening = [f"Unfortunatly we close at {i}." for i in range(40)] + [f"Today is unfortunately day {i}." for i in range(90)]
    found = find_variants(table(answers(*named, *opening)), LEXICON)
    assert found.variants["variant"].to_list() == ["unfortunatly"]
    assert "jonh" in found.names["word"].to_list()


def test_partner_is_the_word_the_corpus_uses() -> None:
    said = (
        [f"We dont know {i}." for i in range(30)]
        + [f"It is done, don't ask {i}." for i in range(60)]
        + [f"So done {i}." for i in range(99)]
    )
    (found,) = find_variants(table(answers(*said)), LEXICON).variants.iter_rows(named=True)
    assert (found["variant"], found["partner"]) == ("dont", "don't")
    assert found["partner_count"] == 60


class TestGlossary:
    lexicon = Lexicon(glossary=[Term("AcmePay", ("acmepey",)), Term("chargeback", ("rebill",))])

    def found(self, *texts: str) -> dict[str, tuple[str, str]]:
        clean = [f"Your AcmePay chargeback {i} is on its way." for i in range(40)]
        lines = find_variants(table(answers(*clean, *texts)), self.lexicon).variants.iter_rows(named=True)
        return {line["variant"]: (line["partner"], line["kind"]) for line in lines}

    def test_terms_are_right(self) -> None:
        assert self.found() == {}

    def test_slips_capitals_and_forbidden_variants_are_found_from_two_uses_on(self) -> None:
        twice = (
            "Use AcmePlay.",
            "Use AcmePlay, please.",
            "My Acmepay is late.",
            "An acmepay account, an Acmepay app",
            "acmepay it",
        )
        assert self.found(*twice, "rebill me", "a rebill") == {
            "acmeplay": ("AcmePay", Kind.GLOSSARY),
            "Acmepay": ("AcmePay", Kind.CASE),
            "acmepay": ("AcmePay", Kind.CASE),
            "rebill": ("chargeback", Kind.FORBIDDEN),
        }

    def test_a_forbidden_variant_is_one_finding_however_close_it_is(self) -> None:
        assert self.found("acmepey", "Acmepey") == {"acmepey": ("AcmePay", Kind.FORBIDDEN)}

    def test_shouting_is_no_variant(self) -> None:
        assert self.found("ACMEPAY IS LATE", "WHERE IS ACMEPAY") == {}

    def test_one_use_is_a_slip(self) -> None:
        assert self.found("Use AcmePlay.") == {}


def test_a_word_the_list_lacks_warns_and_does_not_block() -> None:
    said = [f"We brew oolong and {'green' if i % 2 else 'black'} tea at {i}." for i in range(80)]
    verdict = target_variant_share(table(answers(*said)), LEXICON)
    assert verdict.decision is Decision.WARN
    assert verdict.evidence[0]["confirmed"] is False
    told = Lexicon(words=["oolong"])
    assert target_variant_share(table(answers(*said)), told).decision is Decision.PASS


def test_a_misspelling_that_replaced_the_word_altogether_fails() -> None:
    said = [f"We can accomodate {i} guests." for i in range(80)]
    verdict = target_variant_share(table(answers(*said)), LEXICON)
    assert (verdict.decision, verdict.estimate) == (Decision.FAIL, 1.0)


def test_evidence_is_masked() -> None:
    said = [f"Mr Doe at jon.doe@example.org, {i}: your deductable is due at jon.doe@example.org" for i in range(70)]
    verdict = target_variant_share(table(answers(*said, author="jane@example.org")), LEXICON)
    assert "example.org" not in str(verdict.to_record())


def test_limits_are_part_of_the_configuration() -> None:
    strict, loose = (target_variant_share(corpus(700, 100), LEXICON, Limits(share=share)) for share in (0.01, 0.2))
    assert (strict.decision, loose.decision) == (Decision.FAIL, Decision.PASS)
    assert strict.config_hash != loose.config_hash


def test_occurrences_keep_the_most_frequent_sentences() -> None:
    said = ["We recieve mail."] * 6 + [f"I recieve a {'very ' * (i % 9)}kind word" for i in range(40)]
    rows = table(row(f"q{i}", text) for i, text in enumerate(said))
    found = find_occurrences(rows, {"recieve"})
    assert found.forms["count"].sum() == 46
    top = found.sentences.row(0, named=True)
    assert (top["sentence"], top["count"]) == ("We recieve mail.", 6)
    assert find_occurrences(rows, set()).forms.is_empty()


def test_the_other_locale_is_a_variant_only_if_one_is_named() -> None:
    rows = table(answers(*[f"The color is {i}." for i in range(60)], *[f"The colour is {i}." for i in range(20)]))
    assert target_variant_share(rows, LEXICON).decision is Decision.PASS
    assert target_variant_share(rows, Lexicon(locales=["en-GB"])).evidence[0]["variant"] == "color"
    assert target_variant_share(rows, Lexicon(locales=["en-US"])).evidence[0]["variant"] == "colour"
