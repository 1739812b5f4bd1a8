"""Rows to the Hub: private unless the user says otherwise, one commit, four files and no other."""

from pathlib import Path

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled
from transformers.utils import logging

from . import manifest, pool
from .secrets import HUB_VARIABLE, read_variable

logger = logging.get_logger(__name__)

ROWS_FILE, CARD_FILE = "train.jsonl", "README.md"
FILES = (ROWS_FILE, CARD_FILE, manifest.FILE, pool.FILE)


def push_rows(folder: Path, repo_id: str, *, public: bool) -> str:
    """Push the rows of a folder.

    Args:
        folder: Output of a finished run.
        repo_id: `user/name` of the data set; made where there is none.
        public: Whether it may be public.

    Returns:
        The address of the data set.

    Raises:
        ValueError: If the data set is public and `public` is not said, or the Hub refuses.
    """
    api = HfApi(token=read_variable(HUB_VARIABLE))
    try:
        api.create_repo(repo_id, private=not public, repo_type="dataset", exist_ok=True)
        private = bool(api.dataset_info(repo_id).private)
        if not private and not public:
            raise ValueError(
                f"Expected a private data set {repo_id!r}, found a public one. Add --public if the rows may be public, or "
                "push to another name."
            )
        if private and public:
            logger.warning(f"{repo_id} was there before and stays private; its settings on the Hub make it public.")
        commit = api.upload_folder(
            folder_path=folder,
            repo_id=repo_id,
            repo_type="dataset",
            allow_patterns=list(FILES),
            commit_message="Add rows written by generate_data.py",
        )
    except (httpx2.HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled) as error:
        raise ValueError(
            f"Expected the Hub to take {repo_id!r}, found: {error}. "
            f"Check {HUB_VARIABLE}, its right to write, the name and the network; the rows are in {folder}."
        ) from error
    return str(commit.repo_url)
