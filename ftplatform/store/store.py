"""The store: write snapshots, publish them, read them back verified, and remember what checks concluded about them.

Order of every build: blobs, then the manifest that names them, then checks on that manifest, then one compare-and-swap of the
head. A process killed anywhere leaves the old version or the new one, and orphans that garbage collection removes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from ftplatform.canonical import sha256_hex
from ftplatform.errors import CorruptArtifact, NotMaterialized, StoreError
from ftplatform.store import evaluations, garbage, heads, integrity, manifests, scratch, waivers
from ftplatform.store.backend import Backend
from ftplatform.store.blobs import BlobReader
from ftplatform.store.drafts import SnapshotDraft
from ftplatform.store.evaluations import Evaluation
from ftplatform.store.garbage import GarbageCounts, Orphans
from ftplatform.store.heads import UNSET, Head, Unset
from ftplatform.store.integrity import Problem
from ftplatform.store.local import typed_errors
from ftplatform.store.names import asset_name, blob_key, check_name, digest_name, manifest_key
from ftplatform.store.snapshots import Snapshot
from ftplatform.store.urls import default_cache, open_backend
from ftplatform.store.waivers import Waiver
from ftplatform.verdict import Verdict

#: A flipped bit on the wire is gone on the next read.
_READS = 3

#: Garbage younger than this is kept by default: no run takes longer between its first write and its publish.
DEFAULT_GRACE = timedelta(days=7)


class Store:
    """One store. Safe to use from several threads; open it anew in another process.

    Every method raises subclasses of `StoreError`: `StoreUnavailable` if the place did not answer in time, `StoreFull` if it is
    full, `CorruptArtifact` if stored bytes do not hash to their name, `NotMaterialized` and `PublishConflict` where said.
    """

    def __init__(self, backend: Backend, cache: Path | None = None) -> None:
        self._backend = backend
        self._blobs = BlobReader(backend, cache or scratch.Scratch(scratch.drafts_folder()))
        self._manifests: dict[str, manifests.Manifest] = {}

    @classmethod
    def open(cls, url: str, options: Mapping[str, str] | None = None, *, cache_dir: Path | None = None) -> Self:
        """Open the store at `url`, which need not exist yet; nothing is created before the first write.

        Args:
            url: a folder, ``s3://bucket/prefix``, or ``memory://name`` (this process only).
            options: of the place; for S3 see `s3.Options`. Credentials come from the environment.
            cache_dir: where verified copies of remote blobs go; by default inside a folder store, else the user's cache folder.

        Raises:
            StoreError: for a place that cannot swap atomically, or unknown options.
        """
        backend = open_backend(url, options or {})
        scratch.sweep(scratch.drafts_folder(), scratch.default_cutoff())
        cache = cache_dir or default_cache(backend)
        if cache is not None:
            scratch.sweep(cache / "tmp", scratch.default_cutoff())
        return cls(backend, cache)

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._backend.url

    @property
    def backend(self) -> Backend:
        """The place itself, for other records that live beside the snapshots (the license ledger's event log)."""
        return self._backend

    # ---- writing ---------------------------------------------------------------------------------------------------------

    def write(self, draft: SnapshotDraft) -> Snapshot:
        """Store the draft's blobs, then its manifest. The head is untouched. Writing the same draft again changes nothing.

        Raises:
            StoreError: if an input is not in this store (a lineage must never dangle), or a source file changed since it was added.
            StoreFull: and the store is as before, but for orphans.
        """
        for ref in draft.inputs:
            self._check_input(draft.asset, ref)
        data = manifests.build(
            draft.asset,
            files=[file.entry for file in draft.files.values()],
            inputs=draft.inputs,
            code_version=draft.code_version,
            config_hash=draft.config_hash,
            environment=draft.environment,
            facts=draft.facts,
        )
        sources = {file.entry.sha256: file.source for file in draft.files.values()}
        for digest, source in sorted(sources.items()):
            with typed_errors(f"{source if isinstance(source, Path) else 'data'} of {draft.asset}"):
                self._backend.ensure(blob_key(digest), source, digest)
        manifest = manifests.parse(data, f"Manifest of {draft.asset}")
        self._backend.ensure(manifest_key(manifest.digest), data, manifest.digest)
        return self._remember(manifest)

    def publish(self, snapshot: Snapshot, *, expected: Head | Literal[Unset.UNSET] | None = UNSET) -> Head:
        """Make `snapshot` the current version of its asset by one compare-and-swap.

        Args:
            expected: the head this was decided on (None: there was none). Left out: on top of whatever is there.

        Returns:
            The new head; the present one if the snapshot is current already.

        Raises:
            PublishConflict: if the head is not `expected`.
            StoreError: if a file of the snapshot is not in this store.
        """
        wanted = {manifest_key(snapshot.digest): None} | {blob_key(entry.sha256): entry.size for entry in snapshot.files}
        for key, size in wanted.items():
            found = self._backend.stat(key)
            if found is None or (size is not None and found.size != size):
                raise StoreError(
                    f"{snapshot} cannot be published: {self.url}/{key} is {'missing' if found is None else 'damaged'}.",
                    remedy="Write the snapshot to this store again (garbage collection removes what stays unpublished too long).",
                )
        return heads.move(self._backend, snapshot.asset, snapshot.digest, expected)

    # ---- reading ---------------------------------------------------------------------------------------------------------

    def head(self, asset: str) -> Head | None:
        """Which snapshot of the asset is current; None if none was published."""
        return heads.read(self._backend, asset_name(asset))

    def current(self, asset: str) -> Snapshot:
        """The current snapshot of the asset.

        Raises:
            NotMaterialized: if none was published.
        """
        head = self.head(asset)
        if head is None:
            raise NotMaterialized(f"{asset} has no snapshot in {self.url}.", remedy=f"Run: ftplatform run {asset}")
        try:
            return self.snapshot(head.snapshot)
        except NotMaterialized as error:
            raise CorruptArtifact(
                f"The head of {asset} names the snapshot {head.snapshot}, which is gone from {self.url}.",
                remedy="Restore it from a backup, or materialize the asset again.",
            ) from error

    def snapshot(self, digest: str) -> Snapshot:
        """The snapshot with this manifest digest, its manifest verified.

        Raises:
            NotMaterialized: if the store has no such manifest.
        """
        known = self._manifests.get(digest_name(digest))
        if known is not None:
            return Snapshot(known, self._blobs)
        return self._remember(self._read_manifest(digest))

    def assets(self) -> list[str]:
        """Names of all published assets, sorted."""
        return sorted(garbage.names_below(self._backend, "heads/"))

    def lineage(self, digest: str) -> list[Snapshot]:
        """The snapshot and everything it was built from, transitively: itself first, then breadth first, each once."""
        return list(integrity.lineage(digest, self.snapshot))

    # ---- evaluations -----------------------------------------------------------------------------------------------------

    def begin_evaluation(self, asset: str, check: str, *, judged: Mapping[str, str], run_id: str) -> None:
        """Announce an evaluation: until it is recorded the latest one is ``running``, also if this process dies."""
        evaluations.begin(self._backend, asset_name(asset), check_name(check), judged=judged, run_id=run_id)

    def record_evaluation(
        self,
        asset: str,
        check: str,
        *,
        judged: Mapping[str, str],
        verdict: Verdict,
        blocking: bool,
        severity: str,
        run_id: str,
        evaluated_at: str,
    ) -> Evaluation:
        """Append an immutable record of the outcome and make it the latest. `judged` maps assets to the digests looked at."""
        return evaluations.record(
            self._backend,
            asset_name(asset),
            check_name(check),
            judged=judged,
            verdict=verdict,
            blocking=blocking,
            severity=severity,
            run_id=run_id,
            evaluated_at=evaluated_at,
        )

    def latest_evaluation(self, asset: str, check: str) -> Evaluation | None:
        """The latest evaluation; ``running`` if one was begun and never finished; None if the check never began."""
        return evaluations.latest(self._backend, asset_name(asset), check_name(check))

    def evaluation_history(self, asset: str, check: str, limit: int | None = 20) -> list[Evaluation]:
        """Finished evaluations, newest first."""
        return list(evaluations.history(self._backend, asset_name(asset), check_name(check), limit))

    def checks(self, asset: str) -> list[str]:
        """Names of the checks that ever began on the asset, sorted."""
        names = garbage.names_below(self._backend, f"evaluations/{asset_name(asset)}/")
        return sorted(name for name in names if "/" not in name)

    # ---- waivers ---------------------------------------------------------------------------------------------------------

    def issue_waiver(
        self,
        evaluation: Evaluation,
        *,
        check: str,
        check_version: str,
        binding: str,
        by: str,
        why: str,
        lifetime: timedelta,
        now: datetime | None = None,
    ) -> Waiver:
        """Append a waiver of a finished evaluation that did not pass; the evaluation stays what it is.

        Args:
            check: name of the check; the evaluation's own name may be that of its nightly lane.
            lifetime: time until it expires, at most `waivers.MAX_LIFETIME`.

        Raises:
            WaiverError: if there is nothing to waive, `by` or `why` is empty, or the lifetime is out of range.
        """
        return waivers.issue(
            self._backend,
            evaluation,
            check=check,
            check_version=check_version,
            binding=binding,
            by=by,
            why=why,
            lifetime=lifetime,
            now=now,
        )

    def revoke_waiver(self, waiver: Waiver, *, by: str, why: str, now: datetime | None = None) -> Waiver:
        """Append the revocation of a waiver; returns it revoked.

        Raises:
            WaiverError: if it is revoked already, or `by` or `why` is empty.
        """
        return waivers.revoke(self._backend, waiver, by=by, why=why, now=now)

    def waivers(self, asset: str, check: str) -> list[Waiver]:
        """All waivers ever issued for a check on an asset, newest first, whatever became of them."""
        return waivers.of_check(self._backend, asset, check)

    def all_waivers(self) -> list[Waiver]:
        """All waivers ever issued, newest first, whatever became of them."""
        return waivers.all_waivers(self._backend)

    # ---- upkeep ----------------------------------------------------------------------------------------------------------

    def verify(self, asset_or_digest: str) -> list[Problem]:
        """Re-hash every file of a snapshot (an asset's current one, or by digest) and of all its inputs, past every cache."""
        try:
            digest = digest_name(asset_or_digest)
        except StoreError:
            head = self.head(asset_or_digest)
            if head is None:
                raise NotMaterialized(
                    f"{asset_or_digest} has no snapshot in {self.url}.", remedy=f"Run: ftplatform run {asset_or_digest}"
                ) from None
            return integrity.verify(self._backend, head.asset, head.snapshot, self._load_again)
        return integrity.verify(self._backend, self._load_again(digest).asset, digest, self._load_again)

    def orphans(self) -> Orphans:
        """Manifests and blobs that neither heads nor evaluation records reach."""
        return garbage.orphans(self._backend, self._load_again)

    def collect_garbage(self, grace: timedelta = DEFAULT_GRACE) -> GarbageCounts:
        """Delete orphans not written for `grace`, and leftovers of dead writers. Never deletes what heads or records reach.

        Raises:
            CorruptArtifact: and deletes nothing, if something live is missing or damaged.
        """
        counts = garbage.collect(self._backend, self._load_again, grace)
        self._manifests.clear()
        self._blobs.drop_folders(grace, lambda digest: self._backend.stat(manifest_key(digest)) is not None)
        return counts

    # ---- parts -----------------------------------------------------------------------------------------------------------

    def _check_input(self, asset: str, ref: manifests.InputRef) -> None:
        try:
            found = self.snapshot(ref.snapshot)
        except NotMaterialized as error:
            raise StoreError(
                f"{asset} names the input {ref.asset}@{ref.snapshot[:12]} ({ref.role}), which is not in {self.url}.",
                remedy="Write the input to this store first.",
            ) from error
        if found.asset != ref.asset:
            raise StoreError(
                f"{asset} names {ref.snapshot[:12]} as a snapshot of {ref.asset}, but it is one of {found.asset}.",
                remedy="Name the input by the asset it belongs to.",
            )

    def _remember(self, manifest: manifests.Manifest) -> Snapshot:
        self._manifests[manifest.digest] = manifest
        return Snapshot(manifest, self._blobs)

    def _load_again(self, digest: str) -> Snapshot:
        return Snapshot(self._read_manifest(digest_name(digest)), self._blobs)

    def _read_manifest(self, digest: str) -> manifests.Manifest:
        key = manifest_key(digest)
        for _ in range(_READS):
            stored = self._backend.get(key)
            if stored is None:
                raise NotMaterialized(
                    f"There is no snapshot {digest} in {self.url}.", remedy="Materialize the asset, or check the digest."
                )
            if sha256_hex(stored.data) == digest:
                return manifests.parse(stored.data, f"Manifest {digest}")
        raise CorruptArtifact(
            f"The manifest {self.url}/{key} does not hash to its name.",
            remedy="Restore it from a backup, or materialize the asset again: writing replaces a damaged object.",
        )
