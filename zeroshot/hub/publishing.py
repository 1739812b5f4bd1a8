"""Checkpoints, rows and Spaces: staged, checked, compared, sent in one commit."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitInfo
from transformers.utils import logging

from . import gate
from .checks import (
    check_card,
    check_config,
    check_files,
    check_tokenizer,
    find_personal_rows,
    list_staged,
    raise_problems,
    read_text,
)
from .client import HubClient, Place, check_repo_id
from .handler_files import build_handler_files
from .rehearsal import check_loading
from .rows import stage_rows
from .staging import CARD, REPLACED, check_checkpoint, copy_view, matches, stage_model

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Order:
    """What a user asked for.

    Args:
        repo_id: `user/name`.
        public: Whether everybody may see it.
        revision: Branch to push to; `main` when None.
        tag: Tag to put on the commit.
        message: Of the commit.
        force: Whether to publish a model that is worse than the published one or cannot be compared with it, or rows with
            e-mail addresses.
        handler: Whether to add the files of an Inference Endpoint.
        dry_run: Whether to do all but send.
    """

    repo_id: str
    public: bool = False
    revision: str | None = None
    tag: str | None = None
    message: str | None = None
    force: bool = False
    handler: bool = False
    dry_run: bool = False


@contextlib.contextmanager
def _open_workshop() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="zeroshot-push-") as name:
        folders = (Path(name) / "view", Path(name) / "staged")
        for folder in folders:
            folder.mkdir()
        yield folders


def _write_card(folder: Path, repo_id: str) -> str:
    """The card that lies beside the weights, written by hand, or else one written by machine."""
    if (folder / CARD).is_file():
        text, wanted = read_text(CARD, folder / CARD)
        if wanted is not None:
            raise ValueError(
                f"Expected text in {CARD}, found something else. Write it anew, or remove it to have one written."
            )
        return text
    from .card import build_model_card  # what it needs is not needed for a push of rows

    return build_model_card(folder, repo_id)


def prepare_model(folder: Path, view: Path, staged: Path, order: Order, token: str | None) -> tuple[gate.Summary, list[str]]:
    """Stage a checkpoint and look for everything that forbids to publish it, but for the published model.

    Returns:
        Its measurements, and the problems.
    """
    copy_view(folder, view)
    card = _write_card(view, order.repo_id)
    stage_model(view, staged)
    (staged / CARD).write_text(card, encoding="utf-8")
    if order.handler:
        for name, content in build_handler_files().items():
            (staged / name).write_text(content, encoding="utf-8")
    summary, problems = gate.summarise(sorted((staged / "evaluation").glob("*.json")))
    if summary:
        gate.write_summary(staged, summary)
    problems += [*check_files(staged, token), *check_config(staged), *check_tokenizer(staged), *check_card(card, staged)]
    problems += check_loading(folder, staged)
    return summary, problems


def read_published(client: HubClient, place: Place, folder: Path) -> gate.Summary | None:
    """The measurements of the model that a branch holds; None where it holds no model."""
    head = client.find_head(place)
    if head is None or not client.has_weights(place, head):
        return None
    return gate.read_published(*(client.fetch(place, head, name, folder) for name in (gate.SUMMARY_FILE, CARD)))


def _compare(summary: gate.Summary, published: gate.Summary | None, *, force: bool) -> None:
    verdict = gate.compare(summary, published)
    if verdict.kind in ("worse", "incomparable") and not force:
        raise ValueError(verdict.text)
    if verdict.text:
        (logger.warning if verdict.kind != "not worse" else logger.info)(f"{verdict.text.rstrip('.')}.")


def send(
    client: HubClient,
    place: Place,
    staged: Path,
    order: Order,
    *,
    kept: str,
    space_sdk: str | None = None,
    opens: bool = True,
) -> tuple[CommitInfo, bool]:
    """Send what is staged in one commit, tag it, and open the repository if it may be public.

    Args:
        client: Who sends.
        place: Where to.
        staged: Every file of it.
        order: Message, tag, whether it may be public.
        kept: Where the files still are, for the errors.
        space_sdk: Of a Space.
        opens: Whether a private repository is made public if the order says public.

    Returns:
        The commit, and whether the repository is private.
    """
    files = list_staged(staged)
    with client.explain(place, kept):
        private = client.open_repository(place, public=order.public, space_sdk=space_sdk)
        removed: list[str] = []
        if place.repo_type == "model":
            there = client.api.list_repo_files(place.repo_id, revision=place.revision)
            removed = [name for name in there if name not in files and matches(name, REPLACED)]
        what = {"model": "model", "dataset": "rows", "space": "Space"}[place.repo_type]
        commit = client.commit(place, files, order.message or f"Publish {what}", removed)
        if order.tag is not None:
            client.api.create_tag(place.repo_id, tag=order.tag, revision=commit.oid, repo_type=place.repo_type)
        if private and order.public and opens:
            client.api.update_repo_settings(place.repo_id, private=False, repo_type=place.repo_type)
            private = False
    return commit, private


def describe_files(staged: Path) -> str:
    """Names and sizes of what is published."""
    files = list_staged(staged)
    sizes = [file.stat().st_size for file in files.values()]
    lines = [f"  {size:>12,}  {name}" for name, size in zip(files, sizes, strict=True)]
    return "\n".join([f"{len(files)} files, {sum(sizes):,} bytes:", *lines])


def describe_model(order: Order, url: str, oid: str, *, private: bool) -> str:
    """The link and the lines that load exactly this commit."""
    login = "# it is private: set HF_TOKEN, or log in with 'hf auth login'\n" if private else ""
    where = f"{order.repo_id!r}, revision={oid!r}, trust_remote_code=True"
    return (
        f"Published {url} ({'private' if private else 'public'}), commit {oid}"
        + (f", tag {order.tag}" if order.tag else "")
        + ". Load this commit, after a look at the .py files in it:\n\n"
        + login
        + "from transformers import AutoModel, pipeline\n\n"
        + f'classifier = pipeline("zero-shot-classification", model={where})\n'
        + f"model = AutoModel.from_pretrained({where})\n"
    )


def publish_model(folder: Path, order: Order) -> str:
    """Publish a checkpoint.

    Args:
        folder: The output folder of a run; nothing in it is changed.
        order: Where to and how.

    Returns:
        What was done, with the link and the lines that load it.

    Raises:
        FileNotFoundError: If the folder is no checkpoint.
        ValueError: If it is not fit to be published, is worse than the published one, or the Hub refuses.
    """
    check_checkpoint(folder)
    place = Place(check_repo_id(order.repo_id), "model", order.revision)
    client = None if order.dry_run else HubClient()
    if client is not None:
        client.check_login(place)
        with client.explain(place):
            client.find_head(place)
            if order.tag is not None:
                client.check_tag(place, order.tag)
    with _open_workshop() as (view, staged):
        summary, problems = prepare_model(folder, view, staged, order, client.token if client else None)
        raise_problems(problems, "a model")
        if client is None:
            return f"Would publish to {order.repo_id} ({'public' if order.public else 'private'}), {describe_files(staged)}"
        with client.explain(place):
            published = read_published(client, place, view)
        _compare(summary, published, force=order.force)
        commit, private = send(client, place, staged, order, kept=f" The checkpoint in {folder} is as it was.")
    return describe_model(order, str(commit.repo_url), commit.oid, private=private)


def publish_rows(folder: Path, order: Order, token: str | None = None, *, opens: bool = True) -> str:
    """Publish a folder of rows.

    Args:
        folder: With train.jsonl, validation.jsonl or test.jsonl, in it or in folders of their own, and maybe a README.md.
        order: Where to and how.
        token: Where it does not come from the environment or from `hf auth login`.
        opens: Whether `order.public` makes a private data set public that was there before.

    Returns:
        What was done, or would be.

    Raises:
        FileNotFoundError: If there are no rows.
        ValueError: If they are not fit to be published, or the Hub refuses.
    """
    place = Place(check_repo_id(order.repo_id), "dataset", order.revision)
    client = None if order.dry_run else HubClient(token)
    if client is not None:
        client.check_login(place)
        if order.tag is not None:
            client.check_tag(place, order.tag)
    with _open_workshop() as (_, staged):
        problems = stage_rows(folder, staged)
        problems += check_files(staged, client.token if client else token, rows=True)
        problems += check_card((staged / CARD).read_text(encoding="utf-8"), staged, required=("license", "configs"))
        if not problems and not order.force and (personal := find_personal_rows(staged)):
            problems.append(
                f"Expected rows without addresses of people, found {'; '.join(personal)}. Remove them, or publish them all "
                f"the same, if nobody lives there: python push.py --dataset {folder} --repo_id {order.repo_id} --force"
            )
        raise_problems(problems, "rows")
        if client is None:
            return f"Would publish to {order.repo_id} ({'public' if order.public else 'private'}), {describe_files(staged)}"
        commit, private = send(client, place, staged, order, kept=f" The rows are in {folder}.", opens=opens)
    if private and order.public:
        logger.warning(f"{order.repo_id} was there before and stays private; its settings on the Hub make it public.")
    return str(commit.repo_url)


def publish_space(order: Order) -> str:
    """Publish a Space that shows the model of the same name, with the same visibility.

    Returns:
        Its address, and what is left to do.

    Raises:
        ValueError: If the Hub refuses.
    """
    from .space import build_space_files

    place = Place(order.repo_id, "space")
    title = order.repo_id.split("/")[-1]
    client = HubClient()
    with _open_workshop() as (_, staged):
        for name, content in build_space_files(order.repo_id, title).items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        card = (staged / CARD).read_text(encoding="utf-8")
        raise_problems([*check_files(staged, client.token), *check_card(card, staged, required=("title", "sdk"))], "a Space")
        sent = replace(order, tag=None, message=None)
        commit, private = send(client, place, staged, sent, kept=" The model is published already.", space_sdk="gradio")
    if private:
        return (
            f"Published {commit.repo_url} (private). Give it a secret HF_TOKEN with the right to read {order.repo_id} in "
            "its settings; none was sent."
        )
    return f"Published {commit.repo_url} (public)."
