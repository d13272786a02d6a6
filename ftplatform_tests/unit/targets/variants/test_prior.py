"""`prior_inversion` with a real language model (the bundled base model) and with scorers whose answers are known."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.errors import InputDataError
from ftplatform.evaluation.generation import Generator
from ftplatform.targets.variants.confusions import find_confusions
from ftplatform.targets.variants.lexicon import Lexicon, Term
from ftplatform.targets.variants.prior import PriorLimits, model_scorer, prior_inversion
from ftplatform.targets.variants.share import target_variant_share
from ftplatform.targets.variants.uses import find_uses
from ftplatform.verdict import Decision
from ftplatform_tests.projects import BASE_MODEL, REPOSITORY
from ftplatform_tests.tables import row, table

LEXICON = Lexicon()


def spoken() -> list[str]:
    """Answers of the bundled example, on whose kind of text the bundled base model was trained."""
    found = []
    for name in ("transcripts.jsonl", "help_center.jsonl"):
        for line in (REPOSITORY / "examples" / "support" / "data" / name).read_text().splitlines():
            record = json.loads(line)
            found += [m["content"] for m in record.get("messages", ()) if m["role"] == "assistant"]
            found += [record["output"]] if "output" in record else []
    return found


def rows_of(texts: Sequence[str]) -> pa.Table:
    return table(row(f"q{i}", text) for i, text in enumerate(texts))


def expecting(word: str, partner: str, odds: float = math.log(1000)):
    """A scorer that finds `partner` likelier than `word` in texts with "!", and the other way round elsewhere."""

    def score(pairs):
        texts = [text.strip().lower() for _, text in pairs]
        return np.array([(odds if "!" in text else -odds) if text.startswith(partner) else 0.0 for text in texts])

    return score


@pytest.fixture(scope="module")
def scorer():
    return model_scorer(Generator.load(BASE_MODEL, device="cpu"))


class TestTheBundledModel:
    def test_form_for_from_is_seen_by_the_prior_and_by_no_dictionary(self, scorer) -> None:
        rng = random.Random(0)
        slipped = [re.sub(r"\bfrom\b", "form", text, count=1) if rng.random() < 0.12 else text for text in spoken()]
        rows = rows_of(slipped)
        dictionary = target_variant_share(rows, Lexicon(words=["megabits", "repot"]))
        assert dictionary.decision is Decision.PASS, "the naive check: every word is in the dictionary"
        verdict = prior_inversion(rows, LEXICON, scorer, PriorLimits(pairs=40))
        assert verdict.decision is Decision.WARN, verdict.summary
        found = {(line["word"], line["partner"]): line for line in verdict.evidence}
        assert found["form", "from"]["inverted_share"] > 0.8
        assert verdict.tier == "base_model_prior"

    def test_a_brand_variant_fails(self, scorer) -> None:
        # The model knows "Tarnwell"; another word in its place is unlikely to it wherever it stands.
        texts = spoken()
        slipped = [text.replace("Tarnwell", "Farnwell") if i % 3 == 0 else text for i, text in enumerate(texts)]
        verdict = prior_inversion(rows_of(slipped), Lexicon(glossary=[Term("Tarnwell")]), scorer, PriorLimits(pairs=10))
        assert verdict.decision is Decision.FAIL, verdict.summary
        assert (verdict.evidence[0]["word"], verdict.evidence[0]["partner"]) == ("farnwell", "Tarnwell")

    def test_what_the_model_expects_is_no_finding(self, scorer) -> None:
        verdict = prior_inversion(rows_of(spoken()), LEXICON, scorer, PriorLimits(pairs=25))
        assert verdict.decision in (Decision.PASS, Decision.WARN)
        assert len(verdict.evidence) <= 1, "of 25 words at most one false alarm"


class TestTheRule:
    def rows(self, right: int, wrong: int) -> pa.Table:
        used = [f"Take it from shelf {'abcdefghij'[i % 10] * (1 + i // 10)} now." for i in range(right + wrong + 200)]
        forms = [f"Fill the form of page {'klmnopqrst'[i % 10] * (1 + i // 10)} in." for i in range(right)]
        slips = [f"It came form shop {'klmnopqrst'[i % 10] * (1 + i // 10)} today!" for i in range(wrong)]
        return rows_of([*used, *forms, *slips])

    def test_a_word_that_is_mostly_right_is_found_where_its_mean_is_far_from_inverted(self) -> None:
        verdict = prior_inversion(self.rows(60, 40), LEXICON, expecting("form", "from"), PriorLimits(asked=100))
        assert verdict.decision is Decision.WARN
        line = next(line for line in verdict.evidence if line["word"] == "form")
        assert line["mean_log_ratio"] < 0 < math.log(20), "the naive rule, mean above log 20, passes it"
        assert line["inverted_share"] == pytest.approx(0.4, abs=0.01)

    def test_evidence_is_masked(self) -> None:
        slips = [
            f"Ask jo{'abcdefghij'[i % 10]}@example.org or card 4111 1111 1111 1111, form shop {'x' * (i + 1)} today!"
            for i in range(40)
        ]
        used = [f"Take it from shelf {'y' * (i + 1)}." for i in range(90)]
        verdict = prior_inversion(rows_of([*used, *slips]), LEXICON, expecting("form", "from"))
        assert verdict.evidence
        assert "example.org" not in str(verdict.to_record())
        assert "4111" not in str(verdict.to_record())

    def test_inversions_that_chance_explains_are_no_finding(self) -> None:
        verdict = prior_inversion(self.rows(97, 3), LEXICON, expecting("form", "from"), PriorLimits(asked=100))
        assert verdict.decision is Decision.PASS
        assert verdict.estimate == pytest.approx(0.03)

    def test_copies_of_one_sentence_are_one_observation(self) -> None:
        rows = table(row(f"q{i}", "It came form the shop today!") for i in range(400))
        more = table(row(f"r{i}", f"It came from shop number {i}.") for i in range(900))
        verdict = prior_inversion(pa.concat_tables([rows, more]), LEXICON, expecting("form", "from"))
        assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE

    def test_nothing_to_ask_is_no_pass(self) -> None:
        assert prior_inversion(self.rows(60, 40), LEXICON, None).decision is Decision.INSUFFICIENT_EVIDENCE
        empty = prior_inversion(table([]), LEXICON, expecting("form", "from"))
        assert (empty.decision, empty.n) == (Decision.INSUFFICIENT_EVIDENCE, 0)

    @pytest.mark.parametrize("values", [np.zeros(1), np.array([])])
    def test_a_scorer_that_answers_something_else_is_refused(self, values) -> None:
        with pytest.raises(InputDataError, match="scorer"):
            prior_inversion(self.rows(60, 40), LEXICON, lambda pairs: values)

    def test_not_a_number_is_refused(self) -> None:
        with pytest.raises(InputDataError, match="finite"):
            prior_inversion(self.rows(60, 40), LEXICON, lambda pairs: np.full(len(pairs), np.nan))


def test_candidates_are_close_words_and_no_inflections() -> None:
    texts = [*["The claims from the form"] * 20, *["A claim from there, claimed from here"] * 60]
    pairs = find_confusions(rows_of(texts), LEXICON, least=10, glossary_least=2, most=50)
    words = {(pair.word, pair.partner) for pair in pairs}
    assert ("form", "from") in words
    assert not {("claims", "claim"), ("claimed", "claim"), ("from", "form")} & words


def test_a_use_is_split_where_the_word_stands() -> None:
    pairs = find_confusions(
        rows_of([*[f"No. {i}: Form this shop! {i}" for i in range(12)], *["from"] * 40]),
        LEXICON,
        least=10,
        glossary_least=2,
        most=5,
    )
    form = next(pair for pair in pairs if (pair.word, pair.partner) == ("form", "from"))
    ((_, uses),) = find_uses(rows_of(["No. 1: Form this shop!"]), [form], 5)
    assert [(use.before, use.text(use.word), use.text(form.written(use.word))) for use in uses] == [
        ("No. 1:", " Form this shop!", " From this shop!")
    ]
