"""What the index is told: versions of assets, edges between them, and which sources' rows are in which version.

And how influence travels. Four kinds, strongest first: *content* (the source's rows, or text made from them, are in it), *behavior*
(shaped by a model that saw them), *selection* (the rows only decided which other rows stayed) and *claim* (weights untouched, but what
was measured about them rests on the source, or is about a model that does). Content and behavior need retraining; a claim needs a new
evaluation; selection is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np


class Influence(IntEnum):
    """What kind of trace a source leaves; a smaller number is a stronger one."""

    CONTENT = 0
    BEHAVIOR = 1
    SELECTION = 2
    CLAIM = 3

    @property
    def label(self) -> str:
        """Lower-case name."""
        return self.name.lower()


class LineageRole(StrEnum):
    """In what capacity a parent entered its child: all of `rights.EdgeRole`, and the two that carry no license terms."""

    ROWS = "rows"
    PROMPT_SEED = "prompt_seed"
    TEACHER = "teacher"
    BASE_MODEL = "base_model"
    CONTINUED_ADAPTER = "continued_adapter"
    REWARD_MODEL = "reward_model"
    SELECTION = "selection"
    EVALUATES = "evaluates"
    MEASURED = "measured"
    """The parent is the model an evaluation is about."""
    SERVES = "serves"
    """The child ships or serves the parent as it is: a release, an endpoint, a quantized or merged copy."""


#: How roles are stored. Part of the format of the index: append, never renumber.
ROLE_CODES: Mapping[LineageRole, int] = {
    LineageRole.ROWS: 0,
    LineageRole.PROMPT_SEED: 1,
    LineageRole.TEACHER: 2,
    LineageRole.BASE_MODEL: 3,
    LineageRole.CONTINUED_ADAPTER: 4,
    LineageRole.REWARD_MODEL: 5,
    LineageRole.SELECTION: 6,
    LineageRole.EVALUATES: 7,
    LineageRole.MEASURED: 8,
    LineageRole.SERVES: 9,
}
ROLES: tuple[LineageRole, ...] = tuple(sorted(ROLE_CODES, key=lambda role: ROLE_CODES[role]))


def carried(influence: Influence, role: LineageRole) -> Influence:
    """The influence on a child, from that on a parent which enters it as `role`."""
    match role:
        case LineageRole.ROWS | LineageRole.PROMPT_SEED:
            # Rows of an evaluation hold the texts of its items: failed items that return as training rows bring the content along.
            return Influence.CONTENT if influence is Influence.CLAIM else influence
        case LineageRole.TEACHER | LineageRole.BASE_MODEL | LineageRole.CONTINUED_ADAPTER | LineageRole.REWARD_MODEL:
            return Influence.BEHAVIOR if influence is Influence.CONTENT else influence
        case LineageRole.SELECTION:
            return Influence.SELECTION
        case LineageRole.EVALUATES | LineageRole.MEASURED:
            return Influence.CLAIM
        case LineageRole.SERVES:
            return influence


#: `carried` as a table: [influence, role code] -> influence.
CARRIED = np.array([[carried(influence, role) for role in ROLES] for influence in Influence], dtype=np.int64)

#: Roles along which what a model learned reaches another version; for "what would have to be retrained".
TRAINING_ROLES = frozenset(LineageRole) - {LineageRole.SELECTION, LineageRole.EVALUATES, LineageRole.MEASURED}

#: Families the answer treats in a special way. An endpoint is a version like any other, with the release it serves as parent.
ENDPOINTS, RELEASES, ADAPTERS = "endpoints", "releases", "adapters"
EVALUATIONS = ("eval_results", "eval_sets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an asset.

    Attributes:
        snapshot: its name in the index, unique: the digest of its manifest; for an endpoint, of its deployment record.
        asset: such as ``adapters/support``; the part before the slash is its family.
        created_at: RFC 3339, in UTC; None if nobody recorded it.
        live: in use now. For an endpoint: it takes traffic.
        provenance_complete: every source of its rows is told to the index, so a source that is not mentioned has no row in it.
        n_rows, tokens: of its rows, or of the rows it was trained on.
        steps, gpu_seconds: of the training run. None if nobody measured it; never 0 for that.
        owner: whom to ask.
    """

    snapshot: str
    asset: str
    created_at: str | None = None
    live: bool = False
    provenance_complete: bool = False
    n_rows: int | None = None
    tokens: int | None = None
    steps: int | None = None
    gpu_seconds: float | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """`child` was made from `parent` (both name snapshots)."""

    parent: str
    child: str
    role: LineageRole | str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRows:
    """What of one source is in one version.

    Attributes:
        source: name as rows carry it in `origins` and `parents`.
        version: snapshot.
        role: how it got in: ``rows`` (or ``prompt_seed``) for text, ``teacher`` if a teacher only wrote it.
        n_rows: rows with this source among their origins; None if not counted.
        shared_rows: of those, rows that another source offers as well, so that they may be usable without this one.
        derived_rows: rows that are not of this source but were made from such rows.
        tokens: of `n_rows` and `derived_rows` together.
        step_share: share of optimizer steps that saw any of those rows, 0 to 1.
    """

    source: str
    version: str
    role: LineageRole | str = LineageRole.ROWS
    n_rows: int | None = None
    shared_rows: int | None = None
    derived_rows: int | None = None
    tokens: int | None = None
    step_share: float | None = None
