"""Publish a checkpoint, rows or a Space on the Hub: python push.py CHECKPOINT --repo_id USER/NAME [--public] ..."""

import sys
from collections.abc import Sequence

from zeroshot.console import run_command
from zeroshot.hub.commands import push


def main(arguments: Sequence[str]) -> None:
    """Parse, check, publish, say how to load it."""
    sys.stdout.write(push(arguments).rstrip() + "\n")


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
