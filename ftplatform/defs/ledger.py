"""The license ledger of a project: where it is, what the declarations add to it, and how the terms stand by it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ftplatform.licensing.evidence import Evidence
from ftplatform.licensing.registry import EventLog, Ledger, TermsState
from ftplatform.licensing.states import Exhibit, State, TermsObservation, to_text, to_time
from ftplatform.licensing.terms import SourceTerms, Standing
from ftplatform.project.loading import LoadedProject
from ftplatform.store import Store

#: Environment variable with the database URL of the ledger's index, for deployments; a URL may hold a password, so it is no key of
#: the project file.
URL_VARIABLE = "FTPLATFORM_LEDGER_URL"

#: Name of the watcher that reads the project file itself.
DECLARATION = "declaration"

#: Begins the reason of a decision that an adapter has to be rebuilt because of a notice; the notice's id follows.
REMOVAL_REASON = "notice "

# States in which what somebody else saw declared replaces the tag in the project file.
_NEW_WORDS = frozenset({State.RELICENSED, State.DISPUTED, State.PROSPECTIVE})


def ledger_url(root: Path) -> str:
    """Database of the index: the deployment's, or a file beside the project. It can be rebuilt from the store at any time."""
    if configured := os.environ.get(URL_VARIABLE):
        return configured
    folder = root / ".ftplatform"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'ledger.sqlite'}"


@contextmanager
def open_ledger(root: Path, store: Store, *, verify: bool = False) -> Iterator[Ledger]:
    """The project's ledger, up to date with the event log in the store.

    Args:
        verify: read the whole log and compare it with the index.
    """
    ledger = Ledger.open(store.backend, ledger_url(root), verify=verify)
    try:
        yield ledger
    finally:
        ledger.close()


def observe_declarations(ledger: Ledger, terms: Mapping[str, SourceTerms], now: datetime | None = None) -> int:
    """Record what the project file says about everything that carries a license; how many of them were news.

    The declaration is always `active` here: whether its words suffice is `terms.assess`'s question, and a look at the file must not
    lift what others saw unless a person's conclusion in it is new.
    """
    now = now or datetime.now(UTC)
    looks = [
        TermsObservation(
            source=item.name,
            state=State.ACTIVE,
            valid_from=now,
            observed_at=now,
            watcher=DECLARATION,
            declared=item.declared,
            concluded=item.concluded,
            concluded_by=item.concluded_by,
            exhibits=tuple(Exhibit(e.path, e.sha256, e.text_digest) for e in item.evidence if e.problem is None),
        )
        for item in terms.values()
        if item.has_own_license
    ]
    return ledger.observe_many(looks)


@dataclass(frozen=True)
class LicenseState:
    """What the ledger says now.

    Attributes:
        terms: the declared terms with how they stand, by name.
        removals: ids of the notices in force that reached an adapter, by adapter; it has to be free of them.
    """

    terms: Mapping[str, SourceTerms]
    removals: Mapping[str, tuple[str, ...]]


def license_state(loaded: LoadedProject, declared: Mapping[str, SourceTerms], store: Store) -> LicenseState:
    """The state as of now. A project without a ledger stands as declared."""
    if EventLog(store.backend).newest() is None:
        return LicenseState(dict(declared), {})
    with open_ledger(loaded.root, store) as ledger:
        states, removals = ledger.states(), _open_removals(ledger)
    terms = {name: _with_standing(item, states[name], store) if name in states else item for name, item in declared.items()}
    return LicenseState(terms, removals)


def _open_removals(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """Notices in force by the adapter whose weights they had reached when they came."""
    in_force = {notice.id for notice in ledger.notices(open_only=True)}
    found: dict[str, dict[str, None]] = {}
    for decision in ledger.decisions():
        for reason in decision.reasons:
            notice = reason.removeprefix(REMOVAL_REASON)
            if notice != reason and notice in in_force:
                found.setdefault(decision.asset, {})[notice] = None
    return {asset: tuple(notices) for asset, notices in found.items()}


def _with_standing(terms: SourceTerms, state: TermsState, store: Store) -> SourceTerms:
    held_before = state.state is State.PROSPECTIVE and _acquired_before(terms.name, state, store)
    standing = Standing(
        state=state.state,
        since=to_text(state.valid_from) if state.valid_from else "",
        watcher=state.watcher or "",
        notice=state.notice,
        held_before=held_before,
        rows=tuple(sorted(state.withdrawn_rows | state.taken_down_rows)),
    )
    if state.state in _NEW_WORDS and not held_before and state.declared is not None:
        terms = replace(terms, declared=state.declared)
    return replace(terms, standing=standing)


def terms_as_of(declared: SourceTerms, state: TermsState) -> SourceTerms:
    """The terms by what the ledger knew at some time; for questions about the past.

    What was read then is known by its hash only: whether its words contradict the conclusion was judged at the time.
    """
    return replace(
        declared,
        declared=state.declared,
        concluded=state.concluded,
        concluded_by=state.concluded_by,
        evidence=tuple(Evidence(e.uri, e.sha256, e.text_digest) for e in state.exhibits),
        standing=Standing(
            state=state.state,
            since=to_text(state.valid_from) if state.valid_from else "",
            watcher=state.watcher or "",
            notice=state.notice,
        ),
    )


def _acquired_before(asset: str, state: TermsState, store: Store) -> bool:
    """Whether the bytes we hold were published before the change; the head moves whenever they change."""
    head = store.head(asset) if "/" in asset else None
    return head is not None and state.valid_from is not None and to_time(head.published_at) < state.valid_from
