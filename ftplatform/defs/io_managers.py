"""The one IO manager: assets hand over snapshots, never values to be pickled.

An asset body has already written its blobs and manifest when it returns a `Snapshot`; storing the output means moving the head,
the last and only mutable step. Loading an input means reading the head.
"""

import dagster as dg

from ftplatform.defs.keys import from_key
from ftplatform.defs.resources import StoreResource
from ftplatform.store import Snapshot


class SnapshotIOManager(dg.ConfigurableIOManager):
    """Publishes snapshots returned by assets and opens the current snapshot of an upstream asset."""

    store: dg.ResourceDependency[StoreResource]

    def handle_output(self, context: dg.OutputContext, obj: Snapshot) -> None:
        """Move the asset's head to `obj` by one compare-and-swap; nothing to do if it is there already.

        Raises:
            TypeError: if the asset returned anything but a snapshot of itself.
        """
        asset = from_key(context.asset_key)
        if not isinstance(obj, Snapshot) or obj.asset != asset:
            raise TypeError(f"asset {asset} must return its own Snapshot, not {type(obj).__name__}")
        store = self.store.open()
        head = store.head(asset)
        if head is None or head.snapshot != obj.digest:
            store.publish(obj)

    def load_input(self, context: dg.InputContext) -> Snapshot:
        """The current snapshot of the upstream asset.

        Raises:
            NotMaterialized: if it has none.
        """
        return self.store.open().current(from_key(context.asset_key))
