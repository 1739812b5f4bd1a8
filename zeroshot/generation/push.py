"""Rows to the Hub: private unless the user says otherwise, by the one way that everything is published."""

from pathlib import Path

from ..hub.publishing import Order, publish_rows
from .secrets import HUB_VARIABLE, read_variable

ROWS_FILE, CARD_FILE = "train.jsonl", "README.md"


def push_rows(folder: Path, repo_id: str, *, public: bool) -> str:
    """Push the rows of a folder.

    Args:
        folder: Output of a finished run.
        repo_id: `user/name` of the data set; made where there is none.
        public: Whether it may be public; a private one that was there before stays private.

    Returns:
        The address of the data set.

    Raises:
        ValueError: If the data set is public and `public` is not said, something private is in it, or the Hub refuses.
    """
    order = Order(repo_id, public=public, message="Add rows written by generate_data.py")
    return publish_rows(folder, order, read_variable(HUB_VARIABLE), opens=False)
