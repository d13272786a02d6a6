"""The license watchers of a project: which there are, when each is due, and what their looks add to the ledger.

What a watcher must remember between looks lies in the store, so that the sensor, the nightly run and the command line share it.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.defs.assets.admission import masked_spans
from ftplatform.defs.assets.raw import source_spec
from ftplatform.defs.keys import Family, family_of
from ftplatform.defs.ledger import observe_declarations, open_ledger
from ftplatform.defs.plan import Plan
from ftplatform.defs.terms import license_blocks
from ftplatform.errors import FtplatformError
from ftplatform.licensing.registry import Ledger
from ftplatform.licensing.states import to_text, to_time
from ftplatform.licensing.watchers.dead_man import SCRAPED_TTL, STATIC_TTL
from ftplatform.licensing.watchers.fetch import Fetcher, HttpFetcher
from ftplatform.licensing.watchers.git import GitWatcher
from ftplatform.licensing.watchers.hub import ENDPOINT, HubWatcher
from ftplatform.licensing.watchers.look import Archive, Cursor, Look
from ftplatform.licensing.watchers.rows import UpstreamRowsWatcher
from ftplatform.licensing.watchers.url_terms import UrlTermsWatcher
from ftplatform.project.models import License
from ftplatform.rows.reading import read_rows
from ftplatform.rows.redaction import held_ids
from ftplatform.store import Store

#: Time between two looks at one place; a look that failed is repeated sooner.
LOOK_EVERY = timedelta(hours=6)
RETRY_AFTER = timedelta(minutes=30)

#: Environment variable with trusted ``host:port`` pairs, comma-separated: mirrors in a private network that watchers may reach.
ALLOW_VARIABLE = "FTPLATFORM_WATCH_ALLOW"

_CURSORS = "watchers/cursors.json"


@dataclass(frozen=True)
class Watching:
    """One place of one source.

    Attributes:
        source: name of its terms.
        place: as the project file states it.
        watcher: name of the watcher in the ledger.
        look: looks once.
    """

    source: str
    place: str
    watcher: str
    look: Callable[[Cursor | None, datetime], Look]

    @property
    def key(self) -> str:
        """Name of its cursor."""
        return f"{self.source} {self.place}"


@dataclass(frozen=True)
class Round:
    """What one round of looks found: looks that were due, news for the ledger, and problems by source and place."""

    looked: int
    news: int
    problems: Mapping[str, str]


def time_to_live(license_: License) -> timedelta:
    """How old the last look may be."""
    if license_.fresh_days is not None:
        return timedelta(days=license_.fresh_days)
    return SCRAPED_TTL if license_.watch else STATIC_TTL


def watched(plan: Plan, fetcher: Fetcher | None = None) -> list[Watching]:
    """Every place the project watches."""
    allow = {pair.strip() for pair in os.environ.get(ALLOW_VARIABLE, "").split(",") if pair.strip()}
    fetcher = fetcher or HttpFetcher(allow=allow)
    archive = _archive(plan.open_store())
    return [
        _watching(plan, source, place, bool(block.concluded), fetcher, allow, archive)
        for source, block in license_blocks(plan.project).items()
        for place in block.watch
    ]


def _archive(store: Store) -> Archive:
    """Documents of earlier looks, from which changes are shown word by word."""

    def read(sha256: str) -> bytes | None:
        stored = store.backend.get(f"evidence/{sha256}")
        return stored.data if stored else None

    return read


def _watching(
    plan: Plan, source: str, place: str, concluded: bool, fetcher: Fetcher, allow: set[str], archive: Archive
) -> Watching:
    if place.startswith("hf://"):
        kind, repository = place.removeprefix("hf://").split("/", 1)
        hub = HubWatcher(
            source,
            repository,
            fetcher,
            kind="models" if kind == "models" else "datasets",
            endpoint=os.environ.get("HF_ENDPOINT", ENDPOINT),
        )
        return Watching(source, place, "hub", lambda cursor, now: hub.look(cursor, now, concluded=concluded))
    if place.startswith("git+"):
        git = GitWatcher(source, place.removeprefix("git+"), policy=plan.policy, allow=allow)
        return Watching(source, place, "git", lambda cursor, now: git.look(cursor, now, archive, concluded=concluded))
    if place.startswith("rows+"):
        rows, files = UpstreamRowsWatcher(source), place.removeprefix("rows+")
        return Watching(source, place, "rows", lambda cursor, now: _look_at_rows(plan, rows, files, cursor, now))
    parts = urlsplit(place)
    page = UrlTermsWatcher(source, [place], fetcher, site=f"{parts.scheme}://{parts.netloc}")
    return Watching(source, place, "url_terms", lambda cursor, now: page.look(cursor, now, archive))


def _look_at_rows(plan: Plan, watcher: UpstreamRowsWatcher, files: str, cursor: Cursor | None, now: datetime) -> Look:
    """Compare the rows of the source's snapshot with what stands in `files` now, streaming both; of the rows only ids are kept."""
    store, source = plan.open_store(), watcher.source
    if family_of(source) is not Family.RAW or store.head(source) is None:
        return Look(
            source=source, cursor=cursor or {}, looked=False, problem="there are no acquired rows of a raw source to compare"
        )
    spec = replace(source_spec(plan, source), paths=(files,))
    with read_rows(spec) as upstream:
        snapshot = store.current(source)
        # We may hold a row masked, and upstream has it as it was.
        ids = held_ids(pa.chunked_array([batch["row_id"] for batch in upstream], pa.string()), masked_spans(snapshot))
        return watcher.look(snapshot.iter_batches("rows.parquet", ["row_id"]), pa.table({"row_id": ids}), cursor, now)


def look_round(
    plan: Plan, store: Store, *, now: datetime | None = None, fetcher: Fetcher | None = None, everything: bool = False
) -> Round:
    """Refresh the ledger: what the project file declares, and every watched place that is due.

    Args:
        everything: look also at places that are not due.
    """
    now = now or datetime.now(UTC)
    cursors = _load(store)
    problems: dict[str, str] = {}
    looked = 0
    with open_ledger(plan.root, store) as ledger:
        news = observe_declarations(ledger, plan.declared_terms, now)
        for watching in watched(plan, fetcher):
            state = cursors.get(watching.key, {})
            if not everything and state and to_time(state["next"]) > now:
                continue
            looked += 1
            try:
                look = watching.look(state.get("cursor"), now)
            except FtplatformError as error:
                problems[watching.key] = error.message
                cursors[watching.key] = {**state, "next": to_text(now + RETRY_AFTER)}
                continue
            news += _record(ledger, store, watching, look, now)
            if look.problem:
                problems[watching.key] = look.problem
            cursors[watching.key] = {"cursor": look.cursor, "next": to_text(now + (LOOK_EVERY if look.looked else RETRY_AFTER))}
    if looked:
        # After the ledger: a look that is repeated because this write failed is recognized as no news.
        _save(store, cursors)
    return Round(looked, news, problems)


def _record(ledger: Ledger, store: Store, watching: Watching, look: Look, now: datetime) -> int:
    for sha256, document in look.documents.items():
        store.backend.ensure(f"evidence/{sha256}", document, sha256)
    if look.observations:
        return ledger.observe_many(look.observations)
    if look.looked:
        ledger.heartbeat(watching.source, watching.watcher, now)
    return 0


def _load(store: Store) -> dict[str, Any]:
    stored = store.backend.get(_CURSORS)
    return json.loads(stored.data)["cursors"] if stored else {}


def _save(store: Store, cursors: Mapping[str, Any]) -> None:
    """Replace the cursors; if another round was faster, its looks are as good as ours and ours are recognized as no news next time."""
    stored = store.backend.get(_CURSORS)
    token = sha256_hex(os.urandom(16))
    store.backend.compare_and_swap(
        _CURSORS, canonical_json({"cursors": dict(cursors), "token": token}), stored.etag if stored else None
    )
