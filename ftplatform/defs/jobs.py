"""The few jobs: everything by selection, none per asset."""

import dagster as dg

from ftplatform.defs.checks import Mode
from ftplatform.defs.run_tags import MODE_TAG

#: Materializes a selection with all its checks; sensors and people launch it.
BUILD = dg.define_asset_job(
    "build",
    selection=dg.AssetSelection.all(),
    description="Materializes the selected assets and judges their checks.",
)

#: Judges every check on what exists and materializes nothing.
REVALIDATE = dg.define_asset_job(
    "revalidate",
    selection=dg.AssetSelection.all_asset_checks(),
    tags={MODE_TAG: str(Mode.NIGHTLY)},
    description="Re-validates everything that exists; materializes nothing.",
)
