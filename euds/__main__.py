"""`python -m euds` is the command `euds`."""

from euds.cli.app import main

main()
