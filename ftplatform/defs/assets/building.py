"""How a step makes a snapshot: one recipe, one fill function, and no work at all when nothing changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import dagster as dg

from ftplatform import progress
from ftplatform.canonical import digest
from ftplatform.defs.metadata import Metadata, snapshot_metadata
from ftplatform.defs.run_tags import REBUILD_TAG
from ftplatform.errors import CorruptArtifact
from ftplatform.store import InputRef, Snapshot, SnapshotDraft, Store

#: Packages whose version can change the bytes of a data asset.
DATA_PACKAGES = ("pyarrow", "polars", "numpy", "datasketch")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a snapshot contains.

    Attributes:
        asset: which asset.
        code_version: version of the family's meaning; raise it when the same inputs should give something else.
        config: parameters, content digests of files read included.
        inputs: (role, upstream snapshot), in order.
        packages: distributions whose version is part of the environment.
        environment: further facts of the environment, e.g. the hardware class of a training run.
    """

    asset: str
    code_version: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[tuple[str, Snapshot]] = ()
    packages: Sequence[str] = DATA_PACKAGES
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_refs(self) -> tuple[InputRef, ...]:
        """The inputs as the manifest names them."""
        return tuple(InputRef(role=role, asset=snapshot.asset, snapshot=snapshot.digest) for role, snapshot in self.inputs)

    @property
    def config_hash(self) -> str:
        """Digest of the parameters."""
        return digest(dict(self.config))

    @property
    def environment_digest(self) -> str:
        """Digest of package versions and further facts."""
        return digest({"packages": {name: _version(name) for name in self.packages}, **self.environment})

    def made(self, snapshot: Snapshot) -> bool:
        """Whether `snapshot` was made by this very recipe."""
        manifest = snapshot.manifest
        return (
            manifest["code_version"] == self.code_version
            and manifest["config_hash"] == self.config_hash
            and manifest["environment"] == self.environment_digest
            and set(snapshot.inputs) == set(self.input_refs)
        )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


#: Fills a draft with files and returns its facts (JSON-able, no times or host names: they are part of the snapshot's identity).
Fill = Callable[[SnapshotDraft], Mapping[str, Any]]


def build(
    context: dg.AssetExecutionContext,
    store: Store,
    recipe: Recipe,
    fill: Fill,
    describe: Callable[[Snapshot], Metadata] | None = None,
) -> dg.MaterializeResult:
    """Make the recipe's snapshot, or confirm the current one if this recipe made it and its bytes still hash to their names.

    The IO manager moves the head afterwards.

    Args:
        fill: writes the files; only called when there is something to make.
        describe: metadata for the UI, computed from the snapshot.
    """
    current = _confirmed(context, store, recipe)
    reused = current is not None
    snapshot = current or _make(store, recipe, fill)
    metadata = snapshot_metadata(snapshot, reused=reused)
    if describe is not None:
        metadata |= describe(snapshot)
    progress.advance(f"asset {recipe.asset}", 1, 1)
    return dg.MaterializeResult(value=snapshot, data_version=dg.DataVersion(snapshot.digest), metadata=metadata)


def _confirmed(context: dg.AssetExecutionContext, store: Store, recipe: Recipe) -> Snapshot | None:
    head = store.head(recipe.asset)
    if head is None or context.run.tags.get(REBUILD_TAG) == "true":
        return None
    snapshot = store.snapshot(head.snapshot)
    if not recipe.made(snapshot):
        return None
    try:
        for entry in snapshot.files:
            snapshot.local_path(entry.path)  # re-hashes the bytes
    except CorruptArtifact as damage:
        context.log.warning("rebuilding %s: %s", recipe.asset, damage)
        return None
    return snapshot


def _make(store: Store, recipe: Recipe, fill: Fill) -> Snapshot:
    with SnapshotDraft(
        recipe.asset,
        code_version=recipe.code_version,
        config_hash=recipe.config_hash,
        environment=recipe.environment_digest,
        inputs=recipe.input_refs,
    ) as draft:
        draft.facts = dict(fill(draft))
        return store.write(draft)
