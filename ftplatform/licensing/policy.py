"""What each license permits, as data.

A policy is a YAML file a lawyer can read and a diff can show. It is loaded as strings only (so `deny` and `1.10` stay what they
are), without anchors or tags, under a size cap, and validated line by line. Its hash is part of every decision made with it.

Rules only ever add restrictions: the rights of a license are the AND of all rules that match it, and a license without a rule is
unknown. So the order of rules means nothing, and a pattern that matches too much can refuse too much but never allow too much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import ProjectError
from ftplatform.licensing.expressions import ParsedLicense, known_license_keys
from ftplatform.licensing.rights import ALL_UNKNOWN, USES, Permission, Rights, all_of, allow, deny, rights_of_tree, unknown

if TYPE_CHECKING:
    import yaml

SCHEMA = "ftplatform.license-policy/1"
MAX_BYTES = 256 * 1024
_MAX_OBLIGATIONS = 64
_MAX_RULES = 500
_MAX_DEPTH = 8
_WORDS: dict[str, Permission] = {"allow": allow(), "deny": deny(), "unknown": unknown()}


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Rights of every license whose key matches one of `licenses` (shell patterns, case ignored)."""

    name: str
    licenses: tuple[str, ...]
    rights: Rights
    why: str

    def matches(self, key: str) -> bool:
        folded = key.casefold()
        return any(fnmatchcase(folded, pattern.casefold()) for pattern in self.licenses)


@dataclass(frozen=True)
class Policy:
    """A loaded policy.

    Attributes:
        obligations: what each obligation asks for, by name; printed in release notices.
        digest: SHA-256 of `document`; comments and layout of the file do not count.
    """

    name: str
    version: str
    obligations: Mapping[str, str]
    rules: tuple[PolicyRule, ...]

    @cached_property
    def document(self) -> bytes:
        """The policy's content as RFC 8785 JSON."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "name": self.name,
                "version": self.version,
                "obligations": dict(self.obligations),
                "rules": [
                    {"name": rule.name, "licenses": list(rule.licenses), "rights": rule.rights.to_json(), "why": rule.why}
                    for rule in self.rules
                ],
            }
        )

    @cached_property
    def digest(self) -> str:
        return sha256_hex(self.document)

    def rights_of_key(self, key: str) -> Rights:
        """Rights under one license; unknown if no rule names it."""
        matching = [rule.rights for rule in self.rules if rule.matches(key)]
        return all_of(matching) if matching else ALL_UNKNOWN

    def rights(self, license: ParsedLicense) -> Rights:
        """Rights under an expression; unknown if it is."""
        if license.tree is None:
            return ALL_UNKNOWN
        return rights_of_tree(license.tree, {key: self.rights_of_key(key) for key in license.keys})

    def explain(self, obligation: str) -> str:
        """The text of an obligation."""
        return self.obligations.get(obligation, obligation)


@lru_cache(maxsize=1)
def default_policy() -> Policy:
    """The policy that ships with the package."""
    file = resources.files("ftplatform.licensing").joinpath("default_policy.yaml")
    return load_policy(file.read_bytes(), source="default_policy.yaml")


def load_policy(data: bytes, *, source: str) -> Policy:
    """Parse and validate a policy.

    Args:
        data: the YAML file.
        source: its name, for messages.

    Raises:
        ProjectError: naming file, line and key.
    """
    return _Reader(source).policy(data)


class _Reader:
    """Validation with positions; one instance reads one file."""

    def __init__(self, source: str) -> None:
        self.source = source

    def policy(self, data: bytes) -> Policy:
        root = self.mapping(self.compose(data), "the policy", {"schema", "name", "version", "obligations", "rules"})
        if (schema := self.text(root["schema"], "schema")) != SCHEMA:
            raise self.error(root["schema"], f"unknown schema {schema!r}", f"Write {SCHEMA!r}.")
        obligations = {
            name: self.text(node, f"obligations.{name}")
            for name, node in self.mapping(root["obligations"], "obligations", None).items()
        }
        if len(obligations) > _MAX_OBLIGATIONS:
            raise self.error(root["obligations"], f"{len(obligations)} obligations", f"Keep at most {_MAX_OBLIGATIONS}.")
        for name in obligations:
            if not name.replace("_", "").isalnum() or name in _WORDS:
                raise self.error(root["obligations"], f"obligation name {name!r}", "Use letters, digits and '_'.")
        rules = tuple(self.rule(node, index, obligations) for index, node in enumerate(self.sequence(root["rules"], "rules")))
        if not 0 < len(rules) <= _MAX_RULES:
            raise self.error(root["rules"], f"{len(rules)} rules", f"Give between 1 and {_MAX_RULES}.")
        return Policy(self.text(root["name"], "name"), self.text(root["version"], "version"), obligations, rules)

    def rule(self, node: yaml.Node, index: int, obligations: Mapping[str, str]) -> PolicyRule:
        where = f"rules[{index}]"
        block = self.mapping(node, where, {"name", "licenses", "why", *USES})
        permissions = {use: self.permission(block[use], f"{where}.{use}", obligations) for use in USES}
        patterns = tuple(self.pattern(item, f"{where}.licenses") for item in self.sequence(block["licenses"], f"{where}.licenses"))
        if not patterns:
            raise self.error(block["licenses"], f"{where}.licenses is empty", "Name at least one license.")
        return PolicyRule(
            name=self.text(block["name"], f"{where}.name"),
            licenses=patterns,
            rights=Rights(tuple(permissions[use] for use in USES)),
            why=self.text(block["why"], f"{where}.why"),
        )

    def permission(self, node: yaml.Node, where: str, obligations: Mapping[str, str]) -> Permission:
        import yaml

        if isinstance(node, yaml.ScalarNode):
            word = self.text(node, where)
            if word not in _WORDS:
                raise self.error(node, f"{where}: {word!r}", "Write allow, deny, unknown, or a list of obligations.")
            return _WORDS[word]
        names = [self.text(item, where) for item in self.sequence(node, where)]
        if not names:
            raise self.error(node, f"{where} lists no obligation", "Write allow if there is none.")
        for name in names:
            if name not in obligations:
                near = get_close_matches(name, obligations, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Declared are: {', '.join(sorted(obligations))}."
                raise self.error(node, f"{where}: obligation {name!r} is not declared", hint)
        return allow(*names)

    def pattern(self, node: yaml.Node, where: str) -> str:
        """A license pattern; one that can match nothing is a spelling mistake, which would silently leave the license unknown."""
        pattern = self.text(node, where)
        folded = pattern.casefold()
        if folded.startswith("licenseref-"):
            return pattern
        known = known_license_keys()
        if not any(fnmatchcase(key.casefold(), folded) for key in known):
            near = get_close_matches(pattern, known, n=1)
            hint = (
                f"Did you mean {near[0]!r}?" if near else "Use an SPDX identifier, a pattern such as 'CC-BY-4.*', or a LicenseRef-."
            )
            raise self.error(node, f"{where}: {pattern!r} matches no known license", hint)
        return pattern

    def compose(self, data: bytes) -> yaml.Node:
        import yaml

        if len(data) > MAX_BYTES:
            raise ProjectError(f"{self.source}: {len(data)} bytes.", remedy=f"A policy may have {MAX_BYTES} bytes.")
        try:
            text = data.decode("utf-8")
            depth = 0
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if depth > _MAX_DEPTH:  # PyYAML's time grows with the square of the depth
                    raise self.at(event.start_mark, f"nested deeper than {_MAX_DEPTH} levels", "A policy needs four.")
                if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                    raise self.at(event.start_mark, "anchors and aliases are not allowed", "Write the values out.")
                if getattr(event, "tag", None) is not None:
                    raise self.at(event.start_mark, f"tag {event.tag!r} is not allowed", "All values are plain text or lists.")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except UnicodeDecodeError as error:
            raise ProjectError(f"{self.source}: byte {error.start} is not UTF-8.", remedy="Save the policy as UTF-8.") from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            raise ProjectError(f"{self.source}:{line}: not YAML: {error.problem}.", remedy="Fix the syntax.") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise ProjectError(f"{self.source}: not YAML: {str(error)[:200]}.", remedy="Fix the syntax.") from error
        if node is None:
            raise ProjectError(f"{self.source}: the policy is empty.", remedy="Start from the built-in policy.")
        return node

    def mapping(self, node: yaml.Node, where: str, keys: set[str] | None) -> dict[str, yaml.Node]:
        """Keys to value nodes; with `keys` given, exactly these."""
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{where} is not a mapping", "Write 'key: value' lines.")
        found: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = self.text(key_node, where)
            if key in found:
                raise self.error(key_node, f"{where}: {key!r} appears twice", "Keep one of them.")
            if keys is not None and key not in keys:
                near = get_close_matches(key, keys, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Allowed: {', '.join(sorted(keys))}."
                raise self.error(key_node, f"{where}: unknown key {key!r}", hint)
            found[key] = value
        if missing := sorted((keys or set()) - set(found)):
            raise self.error(node, f"{where} lacks {', '.join(missing)}", "A policy leaves nothing implicit: give every key.")
        return found

    def sequence(self, node: yaml.Node, where: str) -> list[yaml.Node]:
        import yaml

        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"{where} is not a list", "Write '[a, b]' or '- a' lines.")
        return list(node.value)

    def text(self, node: yaml.Node, where: str) -> str:
        import yaml

        if not isinstance(node, yaml.ScalarNode) or not str(node.value).strip():
            raise self.error(node, f"{where} is not text", "Write one word or a quoted sentence.")
        return " ".join(str(node.value).split())

    def error(self, node: yaml.Node, problem: str, remedy: str) -> ProjectError:
        return self.at(node.start_mark, problem, remedy)

    def at(self, mark: yaml.Mark | None, problem: str, remedy: str) -> ProjectError:
        line = mark.line + 1 if mark is not None else 0
        return ProjectError(f"{self.source}:{line}: {problem}.", remedy=remedy)
