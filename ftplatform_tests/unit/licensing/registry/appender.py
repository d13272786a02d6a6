"""A process that appends to a ledger.

Started as ``python -m ... URL OPTIONS DATABASE NAME``. It says ``ready``, waits for a line, then appends: single records and groups
in turn.
"""

from __future__ import annotations

import json
import sys

from ftplatform.licensing.registry import Ledger
from ftplatform.store.urls import open_backend
from ftplatform_tests.unit.licensing.registry.factories import saw

ROUNDS, GROUP = 8, 5


def main() -> None:
    url, options, database, name = sys.argv[1:]
    ledger = Ledger.open(open_backend(url, json.loads(options)), database)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(ROUNDS):
        ledger.append(saw("active", number, source=f"{name}-{number}"))
        ledger.append_many([saw("gated", number, source=f"{name}-{number}-{i}") for i in range(GROUP)])
        while len({source.split("-")[0] for source in ledger.states()}) < 2:  # go on when the other one is at work, too
            ledger.sync()


if __name__ == "__main__":
    main()
