"""What counts as a right word."""

from __future__ import annotations

import polars as pl
import pytest

from ftplatform.errors import InputDataError
from ftplatform.targets.variants.lexicon import Lexicon, Term


def unknown(lexicon: Lexicon, *words: str) -> list[str]:
    return lexicon.unknown(pl.Series(list(words))).to_list()


def test_the_bundled_list_knows_english_and_no_common_misspelling() -> None:
    lexicon = Lexicon()
    assert unknown(lexicon, "deductible", "email", "don't", "it's", "london", "fiancé", "fiance", "there're") == []
    wrong = ["deductable", "accomodate", "successfuly", "teh", "adress", "recieve", "thats", "companys", "seperate"]
    assert unknown(lexicon, *wrong) == wrong


def test_each_locale_has_its_spellings() -> None:
    both, us, gb = Lexicon(), Lexicon(locales=["en-US"]), Lexicon(locales=["en-GB"])
    words = ("colour", "color", "organise", "licence", "license", "house")
    assert unknown(both, *words) == []
    assert unknown(us, *words) == ["colour", "organise"]
    assert unknown(gb, *words) == ["color"]
    assert len({both.digest, us.digest, gb.digest}) == 3


def test_the_project_adds_terms_names_and_words() -> None:
    plain = Lexicon()
    assert unknown(plain, "chargeback", "acmepay", "skoda", "oolong", "chargebacks") == [
        "chargeback",
        "acmepay",
        "skoda",
        "oolong",
        "chargebacks",
    ]
    told = Lexicon(glossary=[Term("AcmePay"), Term("chargeback")], names=["Skoda Octavia"], words=["oolong"])
    assert unknown(told, "chargeback", "acmepay", "skoda", "octavia", "oolong", "chargebacks") == []
    # A name is right, but never what somebody meant.
    assert {"acmepay", "chargeback", "oolong"} <= set(told.partners.to_list())
    assert "skoda" not in told.partners.to_list()
    assert told.digest != plain.digest


@pytest.mark.parametrize(
    "arguments",
    [
        {"locales": ["de-DE"]},
        {"locales": []},
        {"glossary": [Term("24/7")]},
        {"glossary": [Term("AcmePay", ("Acme Pay",))]},
        {"glossary": [Term("AcmePay", ("acmepay",))]},
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(arguments) -> None:
    with pytest.raises(InputDataError) as refused:
        Lexicon(**arguments)
    assert refused.value.remedy


def test_made_words() -> None:
    lexicon = Lexicon()
    assert lexicon.is_compound("helpdesk")
    assert not lexicon.is_compound("successfuly")
    assert unknown(lexicon, "influencers", "momentums") == []
    assert unknown(lexicon, "hashs", "fileds") == ["hashs", "fileds"]
