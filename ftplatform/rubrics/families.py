"""Whose judgment is it? Names of judges reduced to their maker, so that a new version of a model is no second opinion."""

from __future__ import annotations

import re
from itertools import pairwise

#: Family of the judge that is a program. Two programs share no taste; what they look for is compared criterion by criterion.
RULES = "rules"

#: Lines of models by maker, as publicly known.
_MAKERS: dict[str, tuple[str, ...]] = {
    "openai": ("openai", "gpt", "chatgpt", "davinci", "o1", "o3", "o4"),
    "anthropic": ("anthropic", "claude"),
    "google": ("google", "gemini", "gemma", "palm", "deepmind", "bard"),
    "meta": ("meta", "llama"),
    "mistral": ("mistral", "mistralai", "mixtral", "ministral", "magistral"),
    "alibaba": ("alibaba", "qwen", "qwq"),
    "deepseek": ("deepseek",),
    "cohere": ("cohere", "command-r", "aya"),
    "microsoft": ("microsoft", "phi"),
    "xai": ("xai", "grok"),
    "nvidia": ("nvidia", "nemotron"),
    "ai2": ("ai2", "allenai", "olmo", "tulu"),
    "01-ai": ("01-ai", "yi"),
    "zhipu": ("zhipu", "glm", "chatglm"),
}
_MAKER_OF = {line: maker for maker, lines in _MAKERS.items() for line in lines}
#: Words that tell versions and sizes of one line apart.
_VARIANT = re.compile(
    r"v?\d+(?:\.\d+)*[a-z]?|\d+[bmk]|\d+x\d+b|mini|nano|small|medium|large|turbo|pro|flash|opus|sonnet|haiku|instruct|chat|preview|latest"
    r"|judge|model|base|it"
)


def judge_family(name: str) -> str:
    """The maker behind a judge's family or name; an unknown name without version and size.

    ``OpenAI GPT-4o``, ``gpt-4.1-mini`` and ``openai/o3`` are all ``openai``. Of several known lines in a name the first counts. A model
    tuned from another line under a name of its own is not recognized: declare the line it was tuned from as its family.
    """
    words = [word for word in re.split(r"[^a-z0-9.]+", name.casefold()) if word]
    pairs = ["-".join(two) for two in pairwise(words)]
    for word in (*pairs, *words):
        line = word if word in _MAKER_OF else re.sub(r"[\d.].*$", "", word)
        if line in _MAKER_OF:
            return _MAKER_OF[line]
    kept = [word for word in words if not _VARIANT.fullmatch(word)]
    return "-".join(kept or words)
