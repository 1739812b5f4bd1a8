"""The Batch API: all open items in one file, answered within a day at a lower price.

What is needed to go on is in the manifest before the next step: the id of the uploaded file, then that of the batch. A
run that was killed in between finds the batch of its file in the list of batches, so nothing is uploaded or paid twice.
"""

import asyncio
import functools
import json
import re
from collections.abc import Callable
from typing import Any

import openai
from openai.types import Batch
from tqdm.auto import tqdm
from transformers.utils import logging

from .client import REFUSED_REQUEST, AnswerClient, RequestLostError, is_final, read_wait
from .manifest import Manifest
from .plan import PlanItem
from .runner import LostRequestCounter
from .state import RunState
from .ways import WAYS, Reply, Way

logger = logging.get_logger(__name__)

MOST_REQUESTS = 50_000  # of a batch, by OpenAI's rules
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
LISTED_BATCHES = 100  # newest batches among which the one of an uploaded file is looked for


class BatchRefusedError(ValueError):
    """The server will never answer this call."""


class BatchRunner:
    """Works on the items of a run in rounds of one batch; refused answers are asked for again in the next round."""

    def __init__(self, state: RunState, client: AnswerClient, manifest: Manifest, save: Callable[[], None]):
        """Take over a run.

        Args:
            state: The items.
            client: The server.
            manifest: Where the pending batch is noted.
            save: Writes the manifest to the disk.
        """
        self._state = state
        self._client = client
        self._manifest = manifest
        self._save = save
        self._first_loss: str | None = None  # why the first request of the batch without an answer has none
        self.out_of_money = False

    async def run(self) -> None:
        """Send batches until there are as many rows as asked for, or the next request would pass `max_cost`.

        Raises:
            ConnectionError: If the server does not answer any more, or a batch brings nothing.
            ValueError: If the server refuses a batch, or too many items were rejected.
        """
        while self._manifest["pending_batch"] is not None or self._state.missing:
            if self._manifest["pending_batch"] is None:
                items = self._claim_items()
                if not items:
                    return
                await self._upload(items)
            try:
                await self._create()
                await self._read_results(await self._wait())
            except BatchRefusedError as error:
                raise BatchRefusedError(f"{error} {self._forget_batch()}") from None

    @property
    def _way(self) -> Way:
        """The way in which the pending batch was asked, or else the one for the next."""
        entry = self._manifest["pending_batch"]
        return self._client.way if entry is None else WAYS[entry["api"]](self._state.arguments)

    def _claim_items(self) -> list[PlanItem]:
        """As many open items as rows are missing and as the money allows."""
        items: list[PlanItem] = []
        self.out_of_money = False  # an earlier round may have been cut short, and its answers cheaper than expected
        try:
            while len(items) < MOST_REQUESTS and (item := self._state.claim()) is not None:
                items.append(item)
                if not self._state.can_pay(item, len(items), batch=True):
                    self.out_of_money = True
                    items.pop()
                    self._state.give_back(item)
                    break
        finally:
            for item in items:
                self._state.give_back(item)
        return items

    def _forget_batch(self) -> str:
        """Let go of a batch that the server refuses for good, or else no later start could get past it."""
        entry = self._manifest["pending_batch"]
        assert entry is not None
        self._manifest["pending_batch"] = None
        self._save()
        return f"Batch {entry['id'] or 'of file ' + entry['file']} is given up; a new start sends its requests anew."

    async def _call_once(self, call: Callable[[], Any]) -> Any:
        try:
            return await call()
        except openai.APIError as error:
            self._client.stop_for_good(error)
            words = self._client.describe_error(error)
            if is_final(error):
                raise BatchRefusedError(
                    f"Expected a server with the Batch API, found its refusal ({words}). Leave batch out."
                ) from None
            raise RequestLostError(words, read_wait(error)) from None

    async def _call(self, call: Callable[[], Any]) -> Any:
        """Call the server until it answers."""
        lost_requests = LostRequestCounter()
        while True:
            try:
                return await self._call_once(call)
            except RequestLostError as error:
                await lost_requests.count(error)

    async def _upload(self, items: list[PlanItem]) -> None:
        way = self._way
        lines = []
        for item in items:
            body = way.build_body(self._state.build_question(item))
            attempt = self._state.progress_of(item).attempts + 1
            line = {"custom_id": f"{item.index}-{attempt}", "method": "POST", "url": way.endpoint, "body": body}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        content = "".join(lines).encode()
        file = await self._call(lambda: self._client.openai.files.create(file=("requests.jsonl", content), purpose="batch"))
        self._manifest["pending_batch"] = {"file": file.id, "id": None, "api": way.name}
        self._save()
        logger.info(f"{len(items)} requests are uploaded as one batch.")

    async def _create(self) -> None:
        """Create the batch of the uploaded file, unless that was done and only the answer is lost."""
        entry = self._manifest["pending_batch"]
        assert entry is not None
        # The client must not send it again by itself: a batch whose answer was lost exists and will be paid.
        batches = self._client.openai.with_options(max_retries=0).batches
        lost_requests = LostRequestCounter()
        while entry["id"] is None:
            batch = await self._find_batch(entry["file"])
            try:
                batch = batch or await self._call_once(
                    lambda: batches.create(input_file_id=entry["file"], endpoint=self._way.endpoint, completion_window="24h")
                )
            except RequestLostError as error:
                await lost_requests.count(error)
            else:
                entry["id"] = batch.id
                self._save()

    async def _find_batch(self, file: str) -> Batch | None:
        try:
            page = await self._call(lambda: self._client.openai.batches.list(limit=LISTED_BATCHES))
        except BatchRefusedError:  # a server without a list: then the batch is created, at worst a second time
            return None
        return next((batch for batch in page.data or [] if batch.input_file_id == file), None)

    async def _wait(self) -> Batch:
        entry = self._manifest["pending_batch"]
        assert entry is not None and entry["id"] is not None
        identifier = entry["id"]
        with tqdm(unit="answer", desc="Batch", disable=None) as bar:
            while True:
                batch: Batch = await self._call(lambda: self._client.openai.batches.retrieve(identifier))
                if batch.request_counts is not None:
                    bar.total = batch.request_counts.total
                    bar.update(batch.request_counts.completed - bar.n)
                if batch.status in ENDED:
                    return batch
                await asyncio.sleep(self._state.arguments.poll_seconds)

    async def _read_results(self, batch: Batch) -> None:
        """Take what a batch brought; requests that it lost stay open."""
        answers = 0
        self._first_loss = None
        for file in (batch.output_file_id, batch.error_file_id):
            if file is not None:
                content = await self._call(functools.partial(self._client.openai.files.content, file))
                for line in filter(None, content.text.split("\n")):
                    answers += self._take_line(line)
        self._manifest["pending_batch"] = None
        self._save()
        if batch.status == "failed":
            errors = [error.message or "" for error in (batch.errors.data if batch.errors else None) or []]
            words = self._client.hide("; ".join(errors[:3]) or "no reason given")
            raise ValueError(
                f"Expected batch {batch.id} to be taken, found it failed ({words}). "
                "Mend the recipe and start again, or leave batch out."
            )
        most, spent = self._state.arguments.max_cost, self._state.spending.cost
        if most is not None and spent > most:
            logger.warning(f"The batch was dearer than estimated: {spent:.6f} USD are spent, max_cost is {most} USD.")
        if not answers:
            loss = self._first_loss
            raise ConnectionError(
                f"Expected answers from batch {batch.id}, found none (it is {batch.status}{f'; {loss}' if loss else ''}). "
                "Start the same command again, it goes on."
            )

    def _take_line(self, line: str) -> bool:
        """Take one line of a result; whether it holds an answer, taken now or before."""
        row = self._client.read_json(line)
        match = re.fullmatch(r"(\d+)-(\d+)", str(row.get("custom_id")))
        if match is None:
            logger.warning(f"A line of the batch is passed over: its custom_id {row.get('custom_id')!r} is not of this run.")
            return False
        index, attempt = int(match[1]), int(match[2])
        item = self._state.plan.item(index)
        progress = self._state.progress_of(item)
        if attempt <= progress.attempts or progress.finished:
            return True  # the run was killed while it read this file
        reply = self._read_response(row, item)
        if reply is not None:
            self._state.take_reply(item, reply, batch=True)
        return reply is not None

    def _read_response(self, row: dict[str, Any], item: PlanItem) -> Reply | None:
        response = row.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        words = self._client.hide(json.dumps(row.get("error") or body, ensure_ascii=False))
        if status == 200 and isinstance(body, dict):
            try:
                return self._way.read_body(body, self._state.build_question(item))
            except ValueError as error:
                words = self._client.hide(str(error))
        if status in REFUSED_REQUEST:
            problem = f"Expected an answer, found the request refused ({words}). Write a text that the provider allows."
            return Reply("", "refused", problem, {"input_tokens": 0, "output_tokens": 0, "estimated": False})
        self._first_loss = self._first_loss or (words if status in (None, 200) else f"status {status}: {words}")
        return None
