"""Refit the coefficients of the judge: `python -m ftplatform.evaluation.refusal_judge fit DATA --encoder FOLDER [--out FILE]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ftplatform.errors import FtplatformError
from ftplatform.evaluation.refusal_judge.encoder import MeanPooledEncoder
from ftplatform.evaluation.refusal_judge.fitting import fit
from ftplatform.evaluation.refusal_judge.model import SHIPPED
from ftplatform.evaluation.refusal_judge.xstest import read_xstest


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, or 2 with a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m ftplatform.evaluation.refusal_judge", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("fit", help="fit on labeled answers")
    command.add_argument("data", type=Path, help="folder of XSTest v2")
    command.add_argument("--encoder", type=Path, help="folder of all-MiniLM-L6-v2; without it there is no embedding tier")
    command.add_argument("--out", type=Path, default=SHIPPED, help="file to write; the package's own unless given")
    options = parser.parse_args(arguments)
    try:
        coefficients = fit(read_xstest(options.data), None if options.encoder is None else MeanPooledEncoder(options.encoder))
        coefficients.save(options.out)
    except FtplatformError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(dict(coefficients.facts), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
