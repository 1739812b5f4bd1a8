"""Pushes of a training run: every saved checkpoint in the background, the finished model at the end.

A push that fails costs the run nothing: it is warned of and tried again at the next save. Only the end insists.
"""

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers.utils import logging

from . import gate
from .checks import check_config, check_files, check_tokenizer, raise_problems
from .client import HubClient, Place, check_repo_id
from .publishing import Order, publish_model, send
from .staging import CARD, stage_model

logger = logging.get_logger(__name__)


class RunPublisher:
    """One run's place on the Hub."""

    def __init__(self, repo_id: str, *, public: bool = False, revision: str | None = None, waits: bool = False):
        """Find out whether the run may push there, before it has cost anything.

        Args:
            repo_id: `user/name`.
            public: Whether everybody may see it.
            revision: Branch; `main` when None.
            waits: Whether a save whose predecessor is still being sent is sent afterwards, rather than passed over.

        Raises:
            ValueError: If there is no token, the Hub refuses it, or the repository is public and `public` is not said.
        """
        self.order = Order(check_repo_id(repo_id), public=public, revision=revision)
        self.place = Place(repo_id, "model", revision)
        self.waits = waits
        self.client = HubClient()
        self.client.check_login(self.place)
        with self.client.explain(self.place):
            self.client.find_head(self.place)
            self.client.open_repository(self.place, public=public)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        self._pushes: list[Future[None]] = []

    def push_checkpoint(self, folder: Path, step: int) -> None:
        """Send a checkpoint in the background; its files are set aside at once, so that it may be removed meanwhile."""
        self._pushes = [one for one in self._pushes if not one.done()]
        if self._pushes and not self.waits:
            logger.info(f"The push before that of step {step} is still under way; this one is passed over.")
            return
        aside = tempfile.TemporaryDirectory(prefix="zeroshot-push-")
        try:
            stage_model(folder, Path(aside.name) / "staged")
        except (ValueError, OSError) as error:
            self._warn(step, error)
            aside.cleanup()
            return
        self._pushes.append(self._worker.submit(self._push, aside, step))

    def _warn(self, step: int, error: Exception) -> None:
        logger.warning(f"The checkpoint of step {step} is not on the Hub; the next save tries again. {error}")

    def _push(self, aside: "tempfile.TemporaryDirectory[str]", step: int) -> None:
        with aside:
            staged = Path(aside.name) / "staged"
            try:
                if self._holds_measured_model(Path(aside.name)):
                    logger.warning(
                        f"{self.order.repo_id} holds a measured model, which no checkpoint replaces; the finished model "
                        "will be compared with it. Another --hub_revision takes checkpoints too."
                    )
                    return
                (staged / CARD).write_text(build_checkpoint_card(self.order.repo_id, step), encoding="utf-8")
                problems = [*check_files(staged, self.client.token), *check_config(staged), *check_tokenizer(staged)]
                raise_problems(problems, "a checkpoint")
                order = replace(self.order, message=f"Training in progress, step {step}")
                send(self.client, self.place, staged, order, kept="", opens=False)
            except (ValueError, OSError) as error:
                self._warn(step, error)

    def _holds_measured_model(self, folder: Path) -> bool:
        with self.client.explain(self.place):
            head = self.client.find_head(self.place)
            return head is not None and self.client.fetch(self.place, head, gate.SUMMARY_FILE, folder) is not None

    def finish(self, folder: Path, message: str | None = None) -> str:
        """Wait for what is under way and publish the finished model, with all checks.

        Args:
            folder: Where the model is.
            message: Of the commit.

        Returns:
            What was done, with the lines that load it.

        Raises:
            ValueError: If it cannot be published; the model is in its folder and the same command tries again.
        """
        wait(self._pushes)
        try:
            return publish_model(folder, replace(self.order, message=message))
        except ValueError as error:
            raise ValueError(
                f"{error}\nThe run is finished and its model is in {folder}. The same command tries the push again, as "
                f"does: python push.py {folder} --repo_id {self.order.repo_id}"
            ) from error


def build_checkpoint_card(repo_id: str, step: int) -> str:
    """The card of a model that is still being trained."""
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="zero-shot-classification",
        tags=["zero-shot", "text-classification", "custom_code"],
    )
    title = repo_id.rsplit("/", maxsplit=1)[-1]
    text = f"# {title}\n\nStep {step} of a training run that was under way. Nothing is measured of it.\n"
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))
