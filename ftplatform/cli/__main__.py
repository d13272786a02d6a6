"""`python -m ftplatform.cli`: the command line without its script."""

from ftplatform.cli.main import main

main()
