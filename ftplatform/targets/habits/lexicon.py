"""Word classes of the commitment classifier: what a word does in a promise, so that a wording never seen still has a known shape.

"A little something will land in your wallet" shares no content word with "a credit will arrive on your account"; by classes both
are CREDIT WILL ARRIVE YOU ACCOUNT. The classes are listed in `word_classes.txt`; phrases are looked up first, the longest one that fits.
"""

from __future__ import annotations

from importlib import resources

FILE = "word_classes.txt"

#: Without one of these, or a thing and that it is done, a sentence says of nothing that it was done.
CLAIMED = frozenset(["ESCALATE", "HANDED", "TICKET", "CALLBACK", "BOOKED", "CANCELLED", "RETURN", "WAIVE", "GIVE"])
THINGS, DONE = frozenset(["THING", "MONEY", "CREDIT", "FEE", "ACCOUNT", "FIX"]), frozenset({"DONE"})


def stem(word: str) -> str:
    """The word without its ending, so that "crediting" and "credits" are found under "credit"; not a linguist's stem."""
    for ending in ("ing", "ied", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending in ("ied", "ies") else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    return word.removesuffix("e")


def _read() -> tuple[dict[str, str], dict[str, str]]:
    words: dict[str, str] = {"amount_": "AMOUNT", "number_": "NUMBER", "?": "QUESTION", '"': "QUOTE"}
    phrases: dict[str, str] = {}
    name = ""
    for line in resources.files("ftplatform.targets.habits").joinpath(FILE).read_text("utf-8").splitlines():
        if line.startswith("["):
            name = line[1:-1]
        elif line and not line.startswith("#"):
            for entry in line.split(" | "):
                (phrases if " " in entry else words).setdefault(entry, name)
    return words, phrases


#: Class by single word, and by phrase.
WORDS, PHRASES = _read()
#: Class by stem, for words that are not listed in the form that is met; the first listed class wins.
STEMS = {stem(word): name for word, name in reversed(WORDS.items()) if word.isalpha() and len(word) > 3}
