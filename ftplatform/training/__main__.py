"""`python -m ftplatform.training MANIFEST OUT`: one training run in this process.

Prints one JSON object a line: ``{"step", "loss"}`` after every step, at the end ``{"result"}`` or ``{"error"}``. Exit code
0, or 2 for an error the input caused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ftplatform.errors import FtplatformError
from ftplatform.training.manifest import TrainingManifest
from ftplatform.training.train import train


def _say(event: dict[str, object]) -> None:
    print(json.dumps(event), flush=True)


def main(arguments: list[str]) -> int:
    """Runs the manifest in file `arguments[0]` into folder `arguments[1]`."""
    if len(arguments) != 2:
        print("usage: python -m ftplatform.training MANIFEST OUT", file=sys.stderr)
        return 2
    try:
        manifest = TrainingManifest.from_record(json.loads(Path(arguments[0]).read_bytes()))
        result = train(manifest, Path(arguments[1]), progress=lambda step, loss: _say({"step": step, "loss": loss}))
    except FtplatformError as error:
        _say({"error": {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}})
        return 2
    _say({"result": result.to_record()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
