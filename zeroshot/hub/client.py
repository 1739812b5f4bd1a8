"""The Hub, with patience for faults that pass and words that say what to mend for those that do not."""

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import logging

from .staging import WEIGHTS, matches

logger = logging.get_logger(__name__)

TOKEN_VARIABLE = "HF_TOKEN"
MAIN = "main"
WAITS = (1.0, 4.0, 15.0)  # seconds before the second, third and fourth attempt to commit
NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", flags=re.ASCII)
KINDS = {"model": "a model", "dataset": "a data set", "space": "a Space"}
QUOTA = re.compile(r"quota|storage|limit|too large|payment", flags=re.IGNORECASE)


class Place(NamedTuple):
    """Where on the Hub."""

    repo_id: str
    repo_type: str = "model"
    revision: str | None = None


def check_repo_id(repo_id: str) -> str:
    """Refuse a name that the Hub cannot have.

    Raises:
        ValueError: If it is not `user/name`.
    """
    if NAME.fullmatch(repo_id) is None or "--" in repo_id or ".." in repo_id or len(repo_id) > 96:
        raise ValueError(
            f"Expected a name on the Hub as user/name, found {repo_id!r}. Write the user or organisation, a slash and a "
            "name of letters, digits, '-', '_' and '.' (no two '-' or '.' in a row, 96 characters at most)."
        )
    return repo_id


def _find_response(error: BaseException) -> HfHubHTTPError | None:
    """The refusal behind an error; the client wraps those of uploads once more."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, HfHubHTTPError):
            return one
        one = one.__cause__
    return None


def passes_by(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later: a lost connection, a server in trouble, too many at once."""
    refusal = _find_response(error)
    if refusal is not None:
        status = refusal.response.status_code
        return status in (408, 429) or (status >= 500 and status != 507)
    one: BaseException | None = error
    while one is not None and not isinstance(one, HTTPError):
        one = one.__cause__
    return one is not None


def describe_mend(error: BaseException, place: Place) -> str:
    """What a person can do about a refusal."""
    again = "Give the same command again: what the Hub has already is not sent twice."
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: unset it, then give the same command again."
    refusal = _find_response(error)
    if refusal is None:
        return f"Check the network. {again}"
    status, said = refusal.response.status_code, f"{refusal.server_message or ''} {refusal.args[0] if refusal.args else ''}"
    branch = place.revision or MAIN
    if status in (402, 413, 507) or (status == 403 and QUOTA.search(said)):
        mend = f"Your storage there is full, or the file too large: make room or choose another account. {again}"
    elif isinstance(error, RevisionNotFoundError):
        mend = f"Check that {branch!r} is a branch that you may write to; tags and commits stay as they are."
    elif status == 401:
        mend = f"Check {TOKEN_VARIABLE}: it is wrong or has expired. Set a new one, or log in anew with 'hf auth login'."
    elif status in (403, 404):
        mend = (
            f"Check {TOKEN_VARIABLE}, its right to write; that {place.repo_id.split('/')[0]!r} is your name or an "
            f"organisation of yours{f'; that the branch {branch!r} is not protected' if status == 403 else ''}."
        )
    else:
        mend = f"Another push may be under way. {again}" if status in (409, 412) else again
    return mend


class HubClient:
    """One logged-in user of the Hub."""

    def __init__(self, token: str | None = None):
        """Take the token of the environment or of `hf auth login`.

        Args:
            token: The token itself, where it was read from elsewhere.

        Raises:
            ValueError: If there is none.
        """
        self.token = token or get_token()
        if not self.token:
            raise ValueError(
                f"Expected a token of the Hub, found none. Set {TOKEN_VARIABLE} to one with the right to write, or log in "
                "with 'hf auth login'."
            )
        self.api = HfApi(token=self.token)

    @contextlib.contextmanager
    def explain(self, place: Place, kept: str = "") -> Iterator[None]:
        """Turn what the Hub refuses into an error that says what to mend; `kept` says where the files still are."""
        try:
            yield
        except (HTTPError, RuntimeError, LocalTokenNotFoundError, OfflineModeIsEnabled, HFValidationError) as error:
            if isinstance(error, RuntimeError) and not isinstance(error.__cause__, (HTTPError, OSError)):
                raise
            told = " ".join(str(_find_response(error) or error.__cause__ or error).split())
            said = told.replace(self.token or "\0", "[token]")
            raise ValueError(
                f"Expected the Hub to take {place.repo_id!r}, found: {said.rstrip('.')}. {describe_mend(error, place)}{kept}"
            ) from error

    def check_login(self, place: Place) -> None:
        """Ask who we are, so that a wrong token is told before minutes of work.

        Raises:
            ValueError: If the token is refused or the Hub cannot be reached.
        """
        with self.explain(place):
            self.api.whoami()

    def find_head(self, place: Place) -> str | None:
        """The commit that a branch stands at; None where there is no such repository or branch.

        Raises:
            ValueError: If the revision is a tag or a commit, which nothing can be added to.
        """
        try:
            refs = self.api.list_repo_refs(place.repo_id, repo_type=place.repo_type)
        except RepositoryNotFoundError:
            return None
        except HfHubHTTPError as error:
            if error.response.status_code != 404:
                raise
            return None
        wanted = place.revision or MAIN
        if wanted in [tag.name for tag in refs.tags] or re.fullmatch(r"[0-9a-f]{40}", wanted):
            raise ValueError(
                f"Expected a branch as --revision, found {wanted!r}, which is a tag or a commit and stays as it is. Name a "
                "branch; a new one is made."
            )
        return next((branch.target_commit for branch in refs.branches if branch.name == wanted), None)

    def check_tag(self, place: Place, tag: str) -> None:
        """Refuse a tag that is there already: a tag is a promise.

        Raises:
            ValueError: If it is.
        """
        try:
            refs = self.api.list_repo_refs(place.repo_id, repo_type=place.repo_type)
        except HfHubHTTPError:
            return
        if tag in [one.name for one in refs.tags]:
            raise ValueError(f"Expected a new --tag, found {tag!r} in {place.repo_id!r} already. Choose another.")

    def has_weights(self, place: Place, commit: str) -> bool:
        """Whether a commit holds a model."""
        files = self.api.list_repo_files(place.repo_id, repo_type=place.repo_type, revision=commit)
        return any(matches(name, (*WEIGHTS, "*.bin")) for name in files)

    def fetch(self, place: Place, commit: str, name: str, folder: Path) -> Path | None:
        """Download one file; None where there is none."""
        try:
            return Path(
                self.api.hf_hub_download(
                    place.repo_id, name, repo_type=place.repo_type, revision=commit, local_dir=folder / commit
                )
            )
        except (RemoteEntryNotFoundError, RevisionNotFoundError):
            return None

    def open_repository(self, place: Place, *, public: bool, space_sdk: str | None = None) -> bool:
        """Make a repository and a branch where there are none.

        Args:
            place: Where.
            public: Whether it may be public; a new one is private without.
            space_sdk: Of a Space.

        Returns:
            Whether the repository is private.

        Raises:
            ValueError: If it is public and `public` is not said.
        """
        api, repo_type = self.api, place.repo_type
        api.create_repo(place.repo_id, private=not public, repo_type=repo_type, exist_ok=True, space_sdk=space_sdk)
        private = bool(api.repo_info(place.repo_id, repo_type=repo_type).private)
        if not private and not public:
            raise ValueError(
                f"Expected a private repository {place.repo_id!r}, found a public one. Add --public if {KINDS[repo_type]} "
                "may be public, or push to another name."
            )
        if place.revision not in (None, MAIN):
            api.create_branch(place.repo_id, branch=str(place.revision), repo_type=repo_type, exist_ok=True)
        return private

    def commit(self, place: Place, files: dict[str, Path], message: str, removed: Sequence[str] = ()) -> CommitInfo:
        """Add and remove files in one commit; tried again a few times where the fault may pass.

        Finished files are known to the Hub by their content, so that no attempt sends them a second time.
        """
        for number, wait in enumerate((*WAITS, None), start=1):
            operations: list[Any] = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
            operations += [CommitOperationDelete(name) for name in removed]
            try:
                return self.api.create_commit(
                    place.repo_id,
                    operations,
                    commit_message=message,
                    repo_type=place.repo_type,
                    revision=place.revision,
                )
            except (HTTPError, RuntimeError) as error:
                if wait is None or not passes_by(error):
                    raise
                logger.warning(f"Attempt {number} to push to {place.repo_id} failed, the next one in {wait:g} s: {error}")
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")
