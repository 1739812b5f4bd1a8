"""`push.py`: what its command line says, and what follows."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..console import CommandParser
from .publishing import Order, publish_model, publish_rows, publish_space

HAND_OVER = "tokens do not belong on a command line, where others see them: set HF_TOKEN, or log in with 'hf auth login'"


class _TokenAction(argparse.Action):
    """Say why there is no such option."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Refuse it, without repeating its value."""
        raise ValueError(f"Expected no token among the arguments, found {option_string}. In short: {HAND_OVER}.")


def build_parser() -> argparse.ArgumentParser:
    """The parser of push.py."""
    parser = CommandParser("push.py", description="Publish a checkpoint, rows or a Space on the Hub: private, checked.")
    parser.add_argument("checkpoint", nargs="?", help="output folder of a finished run")
    parser.add_argument("--repo_id", required=True, help="user/name; made where there is none")
    parser.add_argument("--public", action="store_true", help="let everybody see it (default: private)")
    parser.add_argument("--dataset", metavar="DIR", help="publish this folder of rows instead of a checkpoint")
    parser.add_argument("--space", action="store_true", help="also publish a Space of this name that shows the model")
    parser.add_argument("--handler", action="store_true", help="add handler.py, for Inference Endpoints")
    parser.add_argument("--revision", help="branch to push to; made where there is none (default: main)")
    parser.add_argument("--tag", help="tag to put on the commit, such as v1.0")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument(
        "--force",
        action="store_true",
        help="publish a model that is worse than the published one or cannot be compared with it; rows with addresses",
    )
    parser.add_argument("--dry_run", action="store_true", help="do all the checks, list the files, send nothing")
    parser.add_argument("--token", "--hub_token", "--hf_token", action=_TokenAction, help=argparse.SUPPRESS)
    return parser


def push(arguments: Sequence[str]) -> str:
    """Do what a command line asks for.

    Returns:
        What was done, in words.

    Raises:
        FileNotFoundError: If there is no checkpoint, or there are no rows.
        ValueError: If the arguments do not fit together, a check fails, or the Hub refuses.
    """
    parsed = build_parser().parse_args(arguments)
    order = Order(
        repo_id=parsed.repo_id,
        public=parsed.public,
        revision=parsed.revision,
        tag=parsed.tag,
        message=parsed.message,
        force=parsed.force,
        handler=parsed.handler,
        dry_run=parsed.dry_run,
    )
    if (parsed.checkpoint is None) == (parsed.dataset is None):
        raise ValueError(
            f"Expected a checkpoint or --dataset, found {'neither' if parsed.dataset is None else 'both'}. Push one at a "
            "time; they may have the same name on the Hub."
        )
    if parsed.dataset is not None:
        given = [name for name in ("space", "handler") if getattr(parsed, name)]
        if given:
            raise ValueError(f"Expected a checkpoint with --{given[0]}, found --dataset. Leave one of them out.")
        told = publish_rows(Path(parsed.dataset), order)
        return told if order.dry_run else f"Published {told}"
    told = publish_model(Path(parsed.checkpoint), order)
    if parsed.space and not order.dry_run:
        told += f"\n{publish_space(order)}"
    return told
