"""Many requests at a time, never more than asked for, and not beyond the money."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from tqdm.auto import tqdm
from transformers.utils import logging

from .client import AnswerClient, RequestLostError
from .plan import PlanItem
from .state import RunState

logger = logging.get_logger(__name__)

MOST_LOST = 5  # requests lost one after another, over all workers, until the run stops


class ProgressBar:
    """Rows, tokens and cost on the terminal; a line in the log for each tenth where there is no terminal."""

    def __init__(self, state: RunState):
        self._state = state
        self._bar = tqdm(
            total=state.arguments.num_samples,
            initial=min(state.rows, state.arguments.num_samples),
            unit="row",
            desc="Writing",
            disable=None,
        )
        self._tenth = 10 * state.rows // state.arguments.num_samples
        state.on_answer = self.update

    def update(self) -> None:
        """Show where the run stands."""
        state = self._state
        spent = state.spending
        status = f"{spent.input_tokens + spent.output_tokens:,} tokens, ${spent.cost:.4f}"
        self._bar.set_postfix_str(status, refresh=False)
        self._bar.update(state.rows - self._bar.n)
        tenth = 10 * state.rows // state.arguments.num_samples
        if self._bar.disable and tenth > self._tenth:
            logger.info(f"{state.rows} of {state.arguments.num_samples} rows, {status}")
        self._tenth = tenth

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class LossCounter:
    """Stops a run whose server is gone."""

    def __init__(self) -> None:
        self._lost = 0

    def count_answer(self) -> None:
        """Start from none: the server is there."""
        self._lost = 0

    async def count_loss(self, error: RequestLostError) -> None:
        """Count a request without an answer, and wait as long as the server asked for.

        Raises:
            ConnectionError: If they become too many.
        """
        self._lost += 1
        logger.warning(f"A request got no answer ({error}); its item stays open.")
        if self._lost >= MOST_LOST:
            raise ConnectionError(
                f"Expected answers from the server, found {MOST_LOST} requests without one in a row (last: {error}). "
                "Start the same command again when it is back, it goes on."
            )
        await asyncio.sleep(error.wait)


class ItemRunner:
    """Works on the items of a run with `concurrency` workers."""

    def __init__(self, state: RunState, client: AnswerClient):
        self._state = state
        self._client = client
        self._losses = LossCounter()
        self._in_flight = 0
        self._freed = asyncio.Event()
        self.out_of_money = False

    async def run(self) -> None:
        """Ask until there are as many rows as asked for, or the next request would pass `max_cost`.

        Raises:
            ConnectionError: If the server does not answer any more.
            ValueError: If too many items were rejected, or the server refuses to go on.
        """
        bar = ProgressBar(self._state)
        try:
            await run_together([self._work() for _ in range(self._state.arguments.concurrency)])
        finally:
            bar.close()

    async def _work(self) -> None:
        while not self.out_of_money and (item := self._state.claim()) is not None:
            try:
                await self._finish(item)
            except RequestLostError as error:
                await self._losses.count_loss(error)
            finally:
                self._state.give_back(item)

    async def _finish(self, item: PlanItem) -> None:
        """Ask for an item until it has a row or is rejected."""
        while not self._state.progress_of(item).finished:
            if not await self._reserve_money(item):
                self.out_of_money = True
                return
            try:
                reply = await self._client.ask(self._state.build_question(item))
            finally:
                self._in_flight -= 1
                self._freed.set()
            self._losses.count_answer()
            self._state.take_reply(item, reply)

    async def _reserve_money(self, item: PlanItem) -> bool:
        """Count a request in if the money reaches for it and for all in flight; these may prove cheaper than expected."""
        while not self._state.can_pay(item, self._in_flight + 1):
            if not self._in_flight:
                return False
            self._freed.clear()
            await self._freed.wait()
        self._in_flight += 1
        return True


async def run_together(workers: list[Coroutine[Any, Any, None]]) -> None:
    """Run workers until all have ended; the first error ends the others."""
    tasks = [asyncio.create_task(worker) for worker in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
