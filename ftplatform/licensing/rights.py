"""What may be done with a thing: one permission per use, and the algebra that combines them.

A permission is an antichain of alternatives; an alternative is the set of obligations under which the use is allowed. No
alternative means denied, the empty alternative means allowed outright, and an alternative holding `UNKNOWN_TERMS` can be relied on
by nobody. That is the free bounded distributive lattice over the obligations, so AND and OR are commutative, associative,
idempotent, absorptive and distributive *by construction*, and the verdict on an expression equals the verdict on any logically
equivalent one. (Keeping one obligation set per permission and picking a branch at every OR breaks absorption.)

The level of a permission is ALLOW < ALLOW_IF < UNKNOWN < DENY; AND takes the maximum level, OR the minimum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import reduce

from ftplatform.licensing.expressions import AllOf, LicenseKey, Tree


class Use(StrEnum):
    """What somebody wants to do."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    COMMERCIAL_MODEL = "commercial_model"
    REDISTRIBUTE_DATA = "redistribute_data"
    REDISTRIBUTE_WEIGHTS = "redistribute_weights"
    TEACHER = "teacher"


USES: tuple[Use, ...] = tuple(Use)


class Level(IntEnum):
    """How far a use is permitted; a larger number is more restrictive."""

    ALLOW = 0
    ALLOW_IF = 1
    UNKNOWN = 2
    DENY = 3

    @property
    def usable(self) -> bool:
        """Unknown is never allowed."""
        return self <= Level.ALLOW_IF


#: The obligation nobody can meet, because nobody knows it.
UNKNOWN_TERMS = "?"

# Obligations number a handful, so real antichains hold one to four sets. Dropping the least attractive alternatives beyond this cap
# can only tighten a permission.
_MAX_ALTERNATIVES = 64


@dataclass(frozen=True, slots=True)
class Permission:
    """Permission for one use; see the module docstring. Build it with `allow`, `unknown`, `deny`, `&` and `|`."""

    alternatives: frozenset[frozenset[str]]

    @property
    def level(self) -> Level:
        """ALLOW, ALLOW_IF, UNKNOWN or DENY."""
        return min((_level(alternative) for alternative in self.alternatives), default=Level.DENY)

    @property
    def usable(self) -> bool:
        """True for ALLOW and ALLOW_IF."""
        return self.level.usable

    @property
    def obligations(self) -> tuple[str, ...]:
        """Obligations of the lightest alternative (fewest, then first by name), sorted; empty if denied, or unknown."""
        if not self.usable:
            return ()
        return tuple(sorted(min(self.alternatives, key=_preference)))

    def __and__(self, other: Permission) -> Permission:
        return _permission(mine | theirs for mine in self.alternatives for theirs in other.alternatives)

    def __or__(self, other: Permission) -> Permission:
        return _permission((*self.alternatives, *other.alternatives))

    def to_json(self) -> dict[str, object]:
        """``{"level": ..., "alternatives": [[obligation, ...], ...]}``, deterministic."""
        return {"level": self.level.name.lower(), "alternatives": sorted(sorted(alternative) for alternative in self.alternatives)}


def allow(*obligations: str) -> Permission:
    """Allowed, if the obligations are met."""
    return Permission(frozenset({frozenset(obligations)}))


def unknown() -> Permission:
    """Nobody knows."""
    return Permission(frozenset({frozenset({UNKNOWN_TERMS})}))


def deny() -> Permission:
    """Not allowed, whatever is done."""
    return Permission(frozenset())


def _level(alternative: frozenset[str]) -> Level:
    if UNKNOWN_TERMS in alternative:
        return Level.UNKNOWN
    return Level.ALLOW_IF if alternative else Level.ALLOW


def _preference(alternative: frozenset[str]) -> tuple[int, int, tuple[str, ...]]:
    return (int(_level(alternative)), len(alternative), tuple(sorted(alternative)))


def _permission(alternatives: Iterable[frozenset[str]]) -> Permission:
    """Keep the minimal sets only: whoever can meet a subset does not need the superset."""
    minimal: list[frozenset[str]] = []
    for candidate in sorted(set(alternatives), key=lambda a: (len(a), tuple(sorted(a)))):
        if not any(kept <= candidate for kept in minimal):
            minimal.append(candidate)
    if len(minimal) > _MAX_ALTERNATIVES:
        minimal = sorted(minimal, key=_preference)[:_MAX_ALTERNATIVES]
    return Permission(frozenset(minimal))


@dataclass(frozen=True, slots=True)
class Rights:
    """One permission per use, in the order of `USES`."""

    permissions: tuple[Permission, ...]

    @classmethod
    def of(cls, permissions: Mapping[Use, Permission], default: Permission) -> Rights:
        """Rights from a mapping; uses that it leaves out get `default`."""
        return cls(tuple(permissions.get(use, default) for use in USES))

    @classmethod
    def all(cls, permission: Permission) -> Rights:
        """The same permission for every use."""
        return cls((permission,) * len(USES))

    def __getitem__(self, use: Use | str) -> Permission:
        return self.permissions[USES.index(Use(use))]

    def __and__(self, other: Rights) -> Rights:
        """Derivation: both bind (maximum level, union of obligations)."""
        return Rights(tuple(a & b for a, b in zip(self.permissions, other.permissions, strict=True)))

    def __or__(self, other: Rights) -> Rights:
        """Independent origins, or a choice of licenses: either suffices (minimum level)."""
        return Rights(tuple(a | b for a, b in zip(self.permissions, other.permissions, strict=True)))

    def refused(self, uses: Iterable[Use | str]) -> list[Use]:
        """Those of `uses` that are unknown or denied, in their own order."""
        return [Use(use) for use in uses if not self[use].usable]

    def at_least_as_strict_as(self, other: Rights) -> bool:
        """True if every use has at least the level it has in `other`."""
        return all(a.level >= b.level for a, b in zip(self.permissions, other.permissions, strict=True))

    def to_json(self) -> dict[str, object]:
        """Use to permission, deterministic."""
        return {str(use): permission.to_json() for use, permission in zip(USES, self.permissions, strict=True)}


ALL_ALLOWED = Rights.all(allow())
ALL_UNKNOWN = Rights.all(unknown())
ALL_DENIED = Rights.all(deny())


def all_of(rights: Iterable[Rights]) -> Rights:
    """AND over any number; nothing at all is everything allowed (the neutral element)."""
    return reduce(lambda a, b: a & b, rights, ALL_ALLOWED)


def any_of(rights: Iterable[Rights]) -> Rights:
    """OR over any number; nothing at all is everything denied (the neutral element)."""
    return reduce(lambda a, b: a | b, rights, ALL_DENIED)


def rights_of_tree(tree: Tree, rights_of_key: Mapping[str, Rights]) -> Rights:
    """Rights of a license expression; a key without an entry is unknown on every use.

    An SPDX exception (WITH) grants additional permission, so the license without it is a safe upper bound.
    """
    if isinstance(tree, LicenseKey):
        return rights_of_key.get(tree.key, ALL_UNKNOWN)
    parts = [rights_of_tree(part, rights_of_key) for part in tree.parts]
    return all_of(parts) if isinstance(tree, AllOf) else any_of(parts)


class EdgeRole(StrEnum):
    """How one thing came out of another; decides which rights travel along."""

    ROWS = "rows"
    PROMPT_SEED = "prompt_seed"
    TEACHER = "teacher"
    BASE_MODEL = "base_model"
    CONTINUED_ADAPTER = "continued_adapter"
    REWARD_MODEL = "reward_model"
    SELECTION = "selection"
    EVALUATES = "evaluates"


def transfer(role: EdgeRole, parent: Rights) -> Rights:
    """The rights a parent leaves to what was derived from it.

    Content roles (rows, prompt seed, base model, continued adapter) pass on everything. A teacher passes on its terms for outputs:
    whatever is trained, sold or distributed needs its `teacher` permission as well as the permission for that use. A reward model
    shapes behavior but leaves no content, so it restricts training and commercial use only. Selection used the parent only to drop
    other rows and restricts nothing. An eval set touches claims, not weights: only `evaluate` travels.
    """
    match role:
        case EdgeRole.ROWS | EdgeRole.PROMPT_SEED | EdgeRole.BASE_MODEL | EdgeRole.CONTINUED_ADAPTER:
            return parent
        case EdgeRole.TEACHER:
            outputs = parent[Use.TEACHER]
            return Rights(tuple(parent[use] if use is Use.EVALUATE else parent[use] & outputs for use in USES))
        case EdgeRole.REWARD_MODEL:
            return Rights.of({use: parent[use] for use in (Use.TRAIN, Use.COMMERCIAL_MODEL)}, allow())
        case EdgeRole.SELECTION:
            return ALL_ALLOWED
        case EdgeRole.EVALUATES:
            return Rights.of({Use.EVALUATE: parent[Use.EVALUATE]}, allow())
