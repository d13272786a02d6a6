"""What a site reserves against machines: robots.txt, ai.txt, TDM reservation, Content-Usage, X-Robots-Tag.

Sources: RFC 9309 (robots.txt), the TDM Reservation Protocol of the W3C community group, and the drafts of the IETF working group AIPREF
(`Content-Usage`). Each reader returns reservations as short sentences, so that two looks can be compared as sets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

#: RFC 9309 section 2.5 asks crawlers to read at least 500 KiB; the rest is ignored.
MAX_ROBOTS_BYTES = 500 * 1024
_MAX_RULES = 5_000
_MAX_ENTRIES = 1_000
# Keys of usage preferences that concern training; "n" forbids.
_USAGE = re.compile(r"(?<![\w-])(train-ai|train-genai|genai|ai|bots|tdm)\s*=\s*\"?(n|no|0)\b", re.IGNORECASE)
_NO_AI = re.compile(r"(?<![\w-])(noai|noimageai|noml)(?![\w-])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RobotsRules:
    """Rules of a robots.txt or ai.txt for one crawler: (allowed, pattern), as its most specific group has them."""

    rules: tuple[tuple[bool, str], ...]
    usage: tuple[str, ...] = ()

    def allows(self, path: str) -> bool:
        """Whether a path may be fetched: the longest matching pattern decides, allow wins a tie (RFC 9309 section 2.2.2)."""
        matching = [(len(pattern), allowed) for allowed, pattern in self.rules if _matches(pattern, path)]
        return max(matching)[1] if matching else True


def read_robots(text: str, agent: str) -> RobotsRules:
    """Rules for `agent` (product token, case ignored); those for ``*`` if no group names it."""
    groups: dict[str, list[tuple[bool, str]]] = {}
    usage: dict[str, list[str]] = {}
    agents: list[str] = []
    in_rules = True
    count = 0
    for line in text[:MAX_ROBOTS_BYTES].splitlines():
        name, separator, value = line.partition("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if not separator:
            continue
        if name == "user-agent":
            agents = [value.lower()] if in_rules else [*agents, value.lower()]
            in_rules = False
            for token in agents:
                groups.setdefault(token, [])
            continue
        if name in ("allow", "disallow") and agents and count < _MAX_RULES:
            in_rules = True
            count += 1
            for token in agents if value else ():
                groups[token].append((name == "allow", value))
        elif name == "content-usage":
            in_rules = True
            for token in agents or ["*"]:
                usage.setdefault(token, []).append(value)
    chosen = agent.lower() if agent.lower() in groups else "*"
    said = [*usage.get(chosen, []), *(usage.get("*", []) if chosen != "*" else [])]
    return RobotsRules(tuple(groups.get(chosen, [])), tuple(usage_reservations(said)))


def _matches(pattern: str, path: str) -> bool:
    """Prefix match; ``*`` stands for anything and a final ``$`` for the end. Time grows with the path times the parts of the pattern."""
    anchored = pattern.endswith("$")
    pieces = pattern.removesuffix("$").split("*")
    if not path.startswith(pieces[0]):
        return False
    position = len(pieces[0])
    for piece in pieces[1:-1]:
        found = path.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    if len(pieces) == 1:
        return not anchored or position == len(path)
    last = pieces[-1]
    return len(path) - len(last) >= position and path.endswith(last) if anchored else path.find(last, position) >= 0


def robots_reservations(file: str, text: str, agent: str, paths: Iterable[str]) -> set[str]:
    """Paths a robots.txt or ai.txt closes to `agent`, and the uses its Content-Usage lines forbid."""
    rules = read_robots(text, agent)
    return {f"{file} disallows {path}" for path in paths if not rules.allows(path)} | {f"{file}: {use}" for use in rules.usage}


def usage_reservations(values: Iterable[str]) -> Iterator[str]:
    """Uses that Content-Usage values forbid, e.g. ``train-ai=n``."""
    for value in values:
        yield from (f"Content-Usage {match[1].lower()}=n" for match in _USAGE.finditer(value))


def header_reservations(headers: Mapping[str, str], where: str = "") -> set[str]:
    """Reservations in the headers of a response, or in a page's `<meta>`; names in lower case."""
    prefix = f"{where}: " if where else ""
    found = {f"{prefix}{use}" for use in usage_reservations([headers.get("content-usage", "")])}
    if headers.get("tdm-reservation", "").strip() == "1":
        found.add(f"{prefix}tdm-reservation 1")
    tags = f"{headers.get('x-robots-tag', '')}, {headers.get('robots', '')}"
    return found | {f"{prefix}robots {match[1].lower()}" for match in _NO_AI.finditer(tags)}


def tdmrep_reservations(text: str, paths: Iterable[str]) -> set[str]:
    """Paths a /.well-known/tdmrep.json reserves: the first entry whose `location` matches decides.

    Raises:
        ValueError: if the text is no list of entries.
    """
    try:
        entries = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("not a list of entries")
    found = set()
    for path in paths:
        for entry in entries[:_MAX_ENTRIES]:
            if _matches(str(entry.get("location", ""))[:500], path):
                if str(entry.get("tdm-reservation")) == "1":
                    found.add(f"tdmrep.json reserves {path}")
                break
    return found
