"""`python -m cluster` is `selftrain`, with the commands that start runs elsewhere."""

from cluster.cli import main

main()
