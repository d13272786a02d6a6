"""Where store, ledger, dedup and evaluation meet the removal rules: the closure of an adapter, the ban of a notice, the certificate.

A notice is kept with the snapshots it was matched against, so that its ban can be worked out again when the rows are long gone.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.defs.assets.adapter_shards import SHARDS_FOLDER
from ftplatform.defs.assets.base_models import FOLDER as MODEL_FOLDER
from ftplatform.defs.assets.eval_results import ADAPTER_FOLDER
from ftplatform.defs.costs import training_cost
from ftplatform.defs.keys import Family, asset_name, family_of
from ftplatform.defs.ledger import REMOVAL_REASON, open_ledger
from ftplatform.defs.plan import Plan
from ftplatform.defs.terms import license_blocks
from ftplatform.errors import InputDataError
from ftplatform.licensing.registry import Ledger, LegalNotice, LicenseDecision, NoticeKind
from ftplatform.licensing.registry import Matcher as RecordedMatcher
from ftplatform.licensing.removal.ban import Ban, Reach
from ftplatform.licensing.removal.certificate import Certificate, Replay, certify, render
from ftplatform.licensing.removal.check import influence_removed
from ftplatform.licensing.removal.claim import Claimed, Matcher, resolve
from ftplatform.licensing.removal.closure import Ancestor, Closure, RowSet
from ftplatform.licensing.removal.examination import examine
from ftplatform.licensing.removal.matching import CANDIDATE, Matches, find
from ftplatform.licensing.removal.plan import Asset, removal_plan
from ftplatform.licensing.removal.plan import Plan as RemovalPlan
from ftplatform.licensing.removal.probe import ProbeItem, regurgitation
from ftplatform.licensing.removal.runs import longest_common_runs
from ftplatform.licensing.removal.taint import taint
from ftplatform.licensing.rights import EdgeRole, Level, Use
from ftplatform.licensing.states import REVOKED, to_text
from ftplatform.licensing.watchers.manual import NoticeForm
from ftplatform.rows.masking import excerpt
from ftplatform.rows.normalize import normalize_text
from ftplatform.rows.schema import Role
from ftplatform.store import Snapshot, Store
from ftplatform.store.names import check_name
from ftplatform.verdict import Decision, Verdict

#: Tables with the rows of each family that a notice can be about.
ROW_TABLES: Mapping[Family, str] = {
    Family.RAW: "rows.parquet",
    Family.SYNTHETIC: "rows.parquet",
    Family.FEEDBACK: "rows.parquet",
    Family.EVAL_SETS: "rows.parquet",
    Family.CORPORA: "rows.parquet",
    Family.SPLITS: "train.parquet",
    Family.ADAPTERS: "rows.parquet",
}
_PLANNED = {*ROW_TABLES, Family.BASE_MODELS, Family.EVAL_RESULTS, Family.RELEASES, Family.RUBRICS}
_ENTERING = (Family.RAW, Family.SYNTHETIC, Family.FEEDBACK, Family.EVAL_SETS)

#: The trainer's own record of a run, in an adapter's snapshot.
MANIFEST_FILE = "training_manifest.json"

#: Kind of notice to how far it reaches. A claim on words takes every copy; the end of a grant takes only what rested on it.
_REACH = {NoticeKind.TAKEDOWN: Reach.CONTENT, NoticeKind.WITHDRAWAL: Reach.GRANT, NoticeKind.RELICENSE: Reach.GRANT}

#: Words of a common run that count as recited, tried in this order: short answers cannot be recited for forty words.
RUN_LENGTHS = (40, 24, 16, 12, 8)
#: Prompts that show a share below 1 % at 95 % confidence if none recites.
_ENOUGH = 299
_PERMUTATIONS = 128
#: Tokens generated for each word looked for; a byte-pair vocabulary of 2,048 needs about two.
_TOKENS_PER_WORD = 3


@dataclass(frozen=True)
class Received:
    """What a notice turned out to mean.

    Attributes:
        matches: where claimed rows were found; None for a notice that claims no words.
        banned: rows that fall, by asset.
        exposed: adapters whose current snapshot is under the influence.
        unplaced: claimed addresses at which the project knows no source.
    """

    form: NoticeForm
    matches: Matches | None
    banned: Mapping[str, int]
    exposed: tuple[str, ...]
    unplaced: tuple[str, ...]


# ---- closures ------------------------------------------------------------------------------------------------------------------


def row_set(snapshot: Snapshot) -> RowSet:
    """The rows of a snapshot as the removal rules read them."""
    path = ROW_TABLES[family_of(snapshot.asset)]
    return RowSet(name=snapshot.asset, snapshot=snapshot.digest, read=lambda: snapshot.iter_batches(path))


def closure_of(store: Store, adapter: Snapshot) -> Closure:
    """Everything an adapter was made from, by the manifests in the store."""
    upstream = [s for s in store.lineage(adapter.digest) if s.digest != adapter.digest]
    base = [s for s in upstream if family_of(s.asset) is Family.BASE_MODELS]
    return Closure(
        artifact=adapter.asset,
        snapshot=adapter.digest,
        weights=adapter.facts["adapter"],
        row_sets=(row_set(adapter),),
        lineage=tuple(
            row_set(s) for s in upstream if family_of(s.asset) in ROW_TABLES and family_of(s.asset) is not Family.ADAPTERS
        ),
        ancestors=tuple(Ancestor(s.asset, EdgeRole.BASE_MODEL, s.digest) for s in base),
    )


def clean_models(plan: Plan, store: Store, closure: Closure) -> list[str]:
    """Snapshots of base models whose terms stand: nobody claims anything against them."""
    found = []
    for ancestor in closure.ancestors:
        terms = plan.terms.get(ancestor.name)
        if terms is not None and (terms.standing is None or terms.standing.state not in REVOKED):
            found.append(ancestor.snapshot)
    return found


# ---- notices -------------------------------------------------------------------------------------------------------------------


def receive(plan: Plan, store: Store, form: NoticeForm, now: datetime | None = None) -> Received:
    """Match a notice against everything that entered the platform, record it, and find the adapters it reaches.

    Raises:
        InputDataError: if it names sources the project does not have, or nothing that could be looked for.
    """
    now = now or datetime.now(UTC)
    kind = NoticeKind(form.kind)
    if unknown := sorted(set(form.sources) - set(plan.terms)):
        raise InputDataError(
            f"notice {form.id} names {', '.join(unknown)}, which the project does not have.",
            remedy=f"Names are: {', '.join(sorted(plan.terms))}.",
        )
    with open_ledger(plan.root, store) as ledger:
        if kind not in _REACH:
            return _answer(ledger, form, kind, now)
        held = [store.current(asset) for asset in plan.lineage.assets if family_of(asset) in _ENTERING and store.head(asset)]
        document = {
            "reach": str(_REACH[kind]),
            "sources": list(form.sources),
            "uris": list(form.uris),
            "row_ids": [*form.row_ids, *form.near_duplicate_of],
            "text_sha256": list(form.text_sha256),
            "places": places(plan),
            "snapshots": sorted([s.asset, s.digest] for s in held),
        }
        _keep(store, form, document)
        ban, claimed, matches = ban_of(store, form.id)
        rows = {} if matches is None else _rows_by_asset(matches, ban, whole=frozenset(ban.names))
        observations = form.observations(now, rows | ({} if kind is NoticeKind.WITHDRAWAL else dict.fromkeys(ban.names, ())))
        exposed = _exposed(plan, store, ban)
        decisions = [
            LicenseDecision(
                asset=adapter.asset,
                snapshot=adapter.digest,
                use=Use.COMMERCIAL_MODEL,
                verdict=Level.DENY,
                policy_sha256=plan.policy.digest,
                as_of_valid=form.valid_from,
                as_of_known=now,
                decided_at=now,
                reasons=(f"{REMOVAL_REASON}{form.id}",),
            )
            for adapter in exposed
        ]
        notice = LegalNotice(
            id=form.id,
            kind=kind,
            received_at=form.received,
            deadline=form.deadline,
            letter_sha256=form.letter.sha256,
            matcher=RecordedMatcher(
                uris=form.uris,
                row_ids=tuple(ban.row_ids.to_list()),
                text_sha256=form.text_sha256,
                near_duplicate_of=form.near_duplicate_of,
            ),
        )
        ledger.append_many([notice, *observations, *decisions])
    counts = {asset: len(ids) for asset, ids in rows.items()}
    return Received(form, matches, counts, tuple(a.asset for a in exposed), claimed.unplaced if claimed else ())


def places(plan: Plan) -> dict[str, list[str]]:
    """Where the data of each source comes from, as far as the project says: addresses it is read from, and those it is watched at."""
    found: dict[str, list[str]] = {}
    for name, block in license_blocks(plan.project).items():
        watched = [place.removeprefix("git+").removeprefix("rows+") for place in block.watch]
        # The hub is one place under two spellings.
        found[name] = [place.replace("hf://", "https://huggingface.co/", 1) for place in watched]
    for name, source in plan.project.sources.items():
        found[asset_name(Family.RAW, name)] += [path for path in source.path if "://" in path]
    return found


def _keep(store: Store, form: NoticeForm, document: Mapping[str, Any]) -> None:
    """Keep what a notice is matched against. An id is given once: the same form may be recorded again, another one may not.

    Raises:
        InputDataError: if another form has this id.
    """
    if store.backend.put_if_absent(_notice_key(form.id), canonical_json({**document, "form": form.sha256})):
        return
    stored = store.backend.get(_notice_key(form.id))
    if stored is None or json.loads(stored.data)["form"] != form.sha256:
        raise InputDataError(f"another form was recorded as notice {form.id}.", remedy="Give this one an id of its own.")


def _answer(ledger: Ledger, form: NoticeForm, kind: NoticeKind, now: datetime) -> Received:
    """A retraction or counter-notice lifts the notice it answers, in every source."""
    if form.refers_to is None:
        raise InputDataError(f"the {form.kind} {form.id} answers no notice.", remedy="Give 'refers_to'.")
    answer = LegalNotice(
        id=form.id,
        kind=kind,
        received_at=form.received,
        refers_to=form.refers_to,
        letter_sha256=form.letter.sha256,
        matcher=RecordedMatcher(),
    )
    ledger.append_many([answer, *form.observations(now)])
    return Received(form, None, {}, (), ())


def ban_of(store: Store, notice: str) -> tuple[Ban, Claimed | None, Matches | None]:
    """The ban a recorded notice amounts to, worked out from the snapshots it was matched against.

    Raises:
        InputDataError: if there is no such notice.
    """
    stored = store.backend.get(_notice_key(notice))
    if stored is None:
        raise InputDataError(f"there is no notice {notice!r}.", remedy="Record it: ftplatform license notice FORM.yaml")
    document = json.loads(stored.data)
    sets = [row_set(store.snapshot(digest)) for _, digest in document["snapshots"]]
    if Reach(document["reach"]) is Reach.GRANT:
        rows = pl.Series(document["row_ids"], dtype=pl.String)
        return Ban(notice=notice, reach=Reach.GRANT, names=frozenset(document["sources"]), row_ids=rows), None, None
    matcher = Matcher(
        uris=tuple(document["uris"]),
        sources=tuple(document["sources"]),
        row_ids=tuple(document["row_ids"]),
        text_hashes=tuple(document["text_sha256"]),
    )
    claimed = resolve(matcher, sets, document["places"])
    matches = find(claimed, sets, near=near_texts)
    return matches.ban(notice, claimed, cleared=_cleared(store, notice)), claimed, matches


def candidates(store: Store, notice: str, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows that resemble claimed ones and nobody has cleared, most similar first, with the words of both (masked and cut).

    Raises:
        InputDataError: if there is no such notice.
    """
    _, _, matches = ban_of(store, notice)
    if matches is None:
        return []
    waiting = matches.table.filter((pl.col("decision") == CANDIDATE) & ~pl.col("row_id").is_in(list(_cleared(store, notice))))
    found = waiting.sort(["similarity", "row_id"], descending=[True, False]).head(waiting.height if limit is None else limit)
    texts = _texts(store, notice, {*found["row_id"].to_list(), *found["claimed"].to_list()})
    return [
        {
            "asset": row["asset"],
            "row_id": row["row_id"],
            "similarity": row["similarity"],
            "text": texts.get(row["row_id"], ""),
            "claimed": texts.get(row["claimed"], row["claimed"]),
        }
        for row in found.iter_rows(named=True)
    ]


def _texts(store: Store, notice: str, wanted: set[str]) -> dict[str, str]:
    """Last message of rows of the snapshots a notice was matched against, by row id, as it may be shown."""
    stored = store.backend.get(_notice_key(notice))
    document = json.loads(stored.data) if stored else {"snapshots": []}
    ids = pl.Series(sorted(wanted), dtype=pl.String)
    found: dict[str, str] = {}
    for _, digest in document["snapshots"]:
        for table in row_set(store.snapshot(digest)).tables(["row_id", "messages"]):
            frame = pl.DataFrame(pl.from_arrow(table)).filter(pl.col("row_id").is_in(ids.implode()))
            found |= {row_id: excerpt(messages[-1]["content"], 120) for row_id, messages in frame.iter_rows()}
    return found


def clear_rows(store: Store, notice: str, row_ids: Sequence[str], by: str, now: datetime | None = None) -> None:
    """Record that a person looked at rows resembling claimed ones, and keeps them. Appended; nothing recorded is changed.

    Raises:
        InputDataError: if there is no such notice, or no row is given.
    """
    if store.backend.get(_notice_key(notice)) is None or not row_ids:
        raise InputDataError(f"nothing to clear for notice {notice!r}.", remedy="Give the id of a recorded notice, and row ids.")
    document = canonical_json({"rows": sorted(set(row_ids)), "by": by, "at": to_text(now or datetime.now(UTC))})
    store.backend.ensure(f"{_cleared_prefix(notice)}{sha256_hex(document)}.json", document, sha256_hex(document))


def _cleared(store: Store, notice: str) -> frozenset[str]:
    found: set[str] = set()
    for entry in store.backend.list(_cleared_prefix(notice)):
        if (stored := store.backend.get(entry.key)) is not None:
            found.update(json.loads(stored.data)["rows"])
    return frozenset(found)


def _cleared_prefix(notice: str) -> str:
    return f"notices/{check_name(notice)}-cleared/"


def near_texts(
    claimed: pl.Series, texts: pl.Series, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Near duplicates by MinHash with exact verification, as the removal rules ask for them."""
    from ftplatform.dedup.lsh import nearest_above
    from ftplatform.kernels.minhash import minhash
    from ftplatform.kernels.shingles import shingle_sets

    ours, theirs = shingle_sets(texts), shingle_sets(claimed)
    best, similarity = nearest_above(ours, minhash(ours, _PERMUTATIONS), theirs, minhash(theirs, _PERMUTATIONS), threshold)
    found = np.flatnonzero(best >= 0)
    return best[found], found, similarity[found]


def _notice_key(notice: str) -> str:
    return f"notices/{check_name(notice)}.json"


def _rows_by_asset(matches: Matches, ban: Ban, whole: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Rows that fall in assets that are not claimed as a whole: mirrors."""
    found: dict[str, tuple[str, ...]] = {}
    fallen = matches.table.filter(pl.col("row_id").is_in(ban.row_ids.implode()) & ~pl.col("asset").is_in(list(whole)))
    for (asset,), rows in fallen.group_by(["asset"], maintain_order=True):
        found[str(asset)] = tuple(rows["row_id"].unique().sort().to_list())
    return found


def _exposed(plan: Plan, store: Store, ban: Ban) -> list[Snapshot]:
    found = []
    for name in plan.project.adapters:
        asset = f"{Family.ADAPTERS}/{name}"
        if store.head(asset) is not None:
            adapter = store.current(asset)
            closure = closure_of(store, adapter)
            if examine(closure, ban, clean_models(plan, store, closure)).findings:
                found.append(adapter)
    return found


def rehearse(plan: Plan, store: Store, source: str) -> tuple[RemovalPlan, tuple[str, ...]]:
    """What a takedown of `source` would ask for today: what to rebuild in which order, and the adapters that hold it. Records nothing."""
    ban = Ban(notice="drill", reach=Reach.CONTENT, names=frozenset({source}))
    assets = []
    for name in plan.lineage.assets:
        if family_of(name) not in _PLANNED or store.head(name) is None:
            continue
        snapshot = store.current(name)
        rows = fallen = 0
        if family_of(name) in ROW_TABLES:
            spread = taint([row_set(s) for s in store.lineage(snapshot.digest) if family_of(s.asset) in ROW_TABLES], ban)
            ids = pl.Series(
                snapshot.read_table(ROW_TABLES[family_of(name)], columns=["row_id"])["row_id"].to_pylist(), dtype=pl.String
            )
            rows, fallen = len(ids), int(ids.is_in(spread.rows["row_id"].implode()).sum())
        assets.append(
            Asset(
                name=name,
                parents=tuple((p, _edge_role(name, p)) for p in plan.lineage.parents[name] if family_of(p) in _PLANNED),
                rows=rows,
                banned_rows=fallen,
                banned=name == source,
                endpoints=tuple(e for e, block in plan.project.endpoints.items() if name == f"{Family.RELEASES}/{block.adapter}"),
                gpu_hours=_hours(store, snapshot),
            )
        )
    exposed = tuple(a.name for a in assets if a.name.startswith(f"{Family.ADAPTERS}/") and a.banned_rows)
    return removal_plan(assets), exposed


def _edge_role(child: str, parent: str) -> EdgeRole:
    match family_of(child), family_of(parent):
        case Family.ADAPTERS, Family.BASE_MODELS:
            return EdgeRole.BASE_MODEL
        case Family.ADAPTERS, Family.ADAPTERS:
            return EdgeRole.CONTINUED_ADAPTER
        case Family.CORPORA, Family.BASE_MODELS:
            return EdgeRole.SELECTION
        case Family.RUBRICS, _:
            return EdgeRole.EVALUATES
        case _, Family.RUBRICS:
            return EdgeRole.REWARD_MODEL
        case (_, Family.BASE_MODELS) | (_, Family.EVAL_SETS):
            return EdgeRole.EVALUATES
        case Family.SYNTHETIC, _:
            return EdgeRole.PROMPT_SEED
        case (Family.EVAL_RESULTS, _) | (_, Family.EVAL_RESULTS):
            return EdgeRole.EVALUATES
        case _:
            return EdgeRole.ROWS


def _hours(store: Store, snapshot: Snapshot) -> float | None:
    cost = training_cost(store, snapshot) if family_of(snapshot.asset) is Family.ADAPTERS else None
    return None if cost is None else cost.seconds / 3600


# ---- the check and the certificate ---------------------------------------------------------------------------------------------


def judge_removal(plan: Plan, store: Store, adapter: Snapshot, notice: str) -> tuple[Verdict, Closure, Ban]:
    """`influence_removed` of one notice on an adapter, with the probe (kept, since neither weights nor ban can change)."""
    ban, claimed, _ = ban_of(store, notice)
    closure = closure_of(store, adapter)
    clean = clean_models(plan, store, closure)
    exact = influence_removed(closure, ban, clean=clean, claimed=claimed, near=near_texts)
    if exact.decision is Decision.FAIL:
        return exact, closure, ban  # no use asking the model while its rows are there
    probe = _probe(store, adapter, closure, ban, notice)
    return influence_removed(closure, ban, clean=clean, probe=probe, claimed=claimed, near=near_texts), closure, ban


def certificate(plan: Plan, store: Store, asset: str, notice: str, *, replayed: bool, now: datetime | None = None) -> Certificate:
    """Issue the certificate that an adapter is free of the influence of a notice, and keep it in the store.

    Args:
        replayed: train again from the adapter's own manifest and rows (level L2).

    Raises:
        CertificateRefused: unless `influence_removed` passes on the current snapshot.
    """
    adapter = store.current(asset)
    verdict, closure, ban = judge_removal(plan, store, adapter, notice)
    evidence = replay(store, adapter, closure) if replayed and verdict.passed else None
    issued = certify(verdict, closure, ban, policy=plan.policy.digest, at=now or datetime.now(UTC), replay=evidence)
    for suffix, data in (("json", issued.to_bytes()), ("md", render(issued).encode())):
        store.backend.ensure(f"certificates/{issued.digest}.{suffix}", data, sha256_hex(data))
    return issued


def replay(store: Store, adapter: Snapshot, closure: Closure) -> Replay:
    """Train again what the adapter's snapshot describes, in a process of its own."""
    from ftplatform.training.base_model import file_sha256
    from ftplatform.training.launchers import launch
    from ftplatform.training.lora import WEIGHTS_FILE
    from ftplatform.training.manifest import TrainingManifest
    from ftplatform.training.shards import train_shards

    base = next(s for s in store.lineage(adapter.digest) if family_of(s.asset) is Family.BASE_MODELS)

    def recorded(manifest: str, rows: str) -> TrainingManifest:
        locations = {"base_folder": str(base.local_folder(MODEL_FOLDER)), "rows_path": str(adapter.local_path(rows))}
        return TrainingManifest.from_record({**adapter.read_json(manifest), **locations})

    with tempfile.TemporaryDirectory(prefix="ftplatform-replay-") as folder:
        out = Path(folder) / "out"
        if shards := adapter.facts.get("shards"):
            places = {shard: f"{SHARDS_FOLDER}/{shard}" for shard in shards["manifests"]}
            manifests = {shard: recorded(f"{place}/{MANIFEST_FILE}", f"{place}/rows.parquet") for shard, place in places.items()}
            merged = train_shards(manifests, out, launcher="subprocess")
            manifest, weights = merged.manifest_sha256, file_sha256(merged.merged / WEIGHTS_FILE)
        else:
            result = launch(recorded(f"training/{MANIFEST_FILE}", "rows.parquet"), out, launcher="subprocess")
            manifest, weights = result.manifest_sha256, result.adapter_sha256
    outcome = {"manifest": manifest, "adapter": weights}
    return Replay(closure=closure.digest, weights=weights, record=sha256_hex(canonical_json(outcome)))


def _probe(store: Store, adapter: Snapshot, closure: Closure, ban: Ban, notice: str) -> Verdict:
    key = f"probes/{adapter.digest}-{ban.digest}.json"
    if (stored := store.backend.get(key)) is not None:
        return Verdict.from_record(json.loads(stored.data)["verdict"])
    verdict = _probed(store, adapter, closure, ban, notice)
    store.backend.put_if_absent(key, canonical_json({"verdict": verdict.to_record(), "notice": notice}))
    return verdict


def _probed(store: Store, adapter: Snapshot, closure: Closure, ban: Ban, notice: str) -> Verdict:
    """Does the model answer the revoked conversations with their own words, beyond what its base model and its other rows teach?"""
    from ftplatform.evaluation.generation import Decoding, Generator

    base = store.snapshot(closure.ancestors[0].snapshot)
    document = json.loads(stored.data) if (stored := store.backend.get(_notice_key(notice))) else {"snapshots": []}
    conversations = _revoked_conversations(store, ban, [digest for _, digest in document["snapshots"]])
    kept = [
        message["content"]
        for row in adapter.read_table("rows.parquet", columns=["messages"]).to_pylist()
        for message in row["messages"]
    ]
    items, run_length = _probe_items(conversations, kept)
    left_out = len(conversations) - len(items)
    generator = Generator.load(base.local_folder(MODEL_FOLDER), adapter.local_folder(ADAPTER_FOLDER))

    def generate(prompts: Sequence[str], max_words: int, *, tuned: bool) -> list[str]:
        decoding = Decoding(max_new_tokens=_TOKENS_PER_WORD * max_words)
        return generator.generate([json.loads(prompt) for prompt in prompts], decoding, adapter=tuned)

    tuned: Callable[[Sequence[str], int], list[str]] = partial(generate, tuned=True)
    untouched: Callable[[Sequence[str], int], list[str]] = partial(generate, tuned=False)
    return regurgitation(
        items,
        tuned,
        untouched,
        artifact=adapter.digest,
        base=base.digest,
        ban=ban.digest,
        population=len(items),
        left_out=left_out,
        run_length=run_length,
    )


def _revoked_conversations(store: Store, ban: Ban, snapshots: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Distinct conversations that fall under the ban, from the snapshots it was matched against."""
    found: dict[str, list[dict[str, Any]]] = {}
    banned = ban.row_ids.implode()
    for digest in snapshots:
        for batch in row_set(store.snapshot(digest)).tables(["row_id", "origins", "messages"]):
            frame = pl.DataFrame(pl.from_arrow(batch))
            listed = pl.col("row_id").is_in(banned)
            named = pl.col("origins").list.eval(pl.element().is_in(list(ban.names))).list.any()
            # With a ban by grant, rows are the only ones of the names that lose it; else both are meant.
            hit = (listed & named if len(ban.row_ids) else named) if ban.reach is Reach.GRANT else listed | named
            for row_id, messages in frame.filter(hit).select("row_id", "messages").iter_rows():
                found[row_id] = messages
    return [found[row_id] for row_id in sorted(found)]


def _probe_items(conversations: Sequence[Sequence[Mapping[str, Any]]], kept: Sequence[str]) -> tuple[list[ProbeItem], int]:
    """Revoked answers behind the conversations they answer, and the longest run for which there are enough of them.

    Left out are answers whose run also stands in rows the adapter may be trained on: saying it proves nothing.
    """
    items: list[ProbeItem] = []
    run_length = RUN_LENGTHS[0]
    for run_length in RUN_LENGTHS:
        items = []
        for messages in conversations:
            answer = messages[-1]
            if answer["role"] == Role.ASSISTANT and len(normalize_text(answer["content"]).split()) >= run_length:
                prompt = [{"role": str(m["role"]), "content": m["content"]} for m in messages[:-1]]
                items.append(ProbeItem(json.dumps(prompt), answer["content"]))
        targets = pl.Series([normalize_text(item.target) for item in items], dtype=pl.String)
        shared, _ = longest_common_runs(targets, pl.Series([normalize_text(text) for text in kept], dtype=pl.String))
        items = [item for item, run in zip(items, shared.tolist(), strict=True) if run < run_length]
        if len(items) >= min(_ENOUGH, len(conversations)):
            break
    return items, run_length
