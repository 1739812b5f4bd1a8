"""Many requests at a time, never more than asked for, and not beyond the money."""

import asyncio

from tqdm.auto import tqdm
from transformers.utils import logging

from .client import AnswerClient, RequestLostError
from .plan import PlanItem
from .state import RunState

logger = logging.get_logger(__name__)

MOST_LOST = 5  # requests lost one after another, over all workers, until the run stops
LONGEST_SILENCE = 3600.0  # seconds that a server may ask to wait, in sum, from one answer to the next


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


class LostRequestCounter:
    """Waits as long as a server asks for, and stops a run whose server is gone."""

    def __init__(self) -> None:
        self._lost = 0
        self._waited = 0.0
        self._resume_at = 0.0  # in time of the event loop

    def count_answer(self) -> None:
        """Start from none: the server is there."""
        self._lost = 0
        self._waited = 0.0

    async def count(self, error: RequestLostError) -> None:
        """Count a request without an answer, or wait as long as the server asked for, which is no sign that it is gone.

        Raises:
            ConnectionError: If the lost requests become too many, or the waits too long.
        """
        logger.warning(f"A request got no answer ({error}); its item stays open.")
        if error.wait:
            self._waited += self._postpone(error.wait)
        else:
            self._lost += 1
        if self._lost >= MOST_LOST:
            raise ConnectionError(
                f"Expected answers from the server, found {MOST_LOST} requests without one in a row (last: {error}). "
                "Start the same command again when it is back, it goes on."
            )
        if self._waited > LONGEST_SILENCE:
            raise ConnectionError(
                f"Expected an answer within {LONGEST_SILENCE:.0f} seconds of waiting, found none (last: {error}). "
                "Start the same command again later, with a lower concurrency, it goes on."
            )
        await self.wait()

    def _postpone(self, seconds: float) -> float:
        """Let nobody ask before so many seconds are over; by how many that is later than it was."""
        now = asyncio.get_running_loop().time()
        earlier = max(now, self._resume_at)
        self._resume_at = max(earlier, now + seconds)
        return self._resume_at - earlier

    async def wait(self) -> None:
        """Wait until the server may be asked again; one worker's wait holds for all."""
        while (seconds := self._resume_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(seconds)


class ItemRunner:
    """Works on the items of a run with `concurrency` workers."""

    def __init__(self, state: RunState, client: AnswerClient):
        self._state = state
        self._client = client
        self._lost_requests = LostRequestCounter()
        self._asking: set[asyncio.Task[None] | None] = set()  # workers with a request in flight
        self._freed = asyncio.Event()
        self._stopping = False
        self.out_of_money = False

    async def run(self) -> None:
        """Ask until there are as many rows as asked for, or the next request would pass `max_cost`.

        Raises:
            ConnectionError: If the server does not answer any more.
            ValueError: If too many items were rejected, or the server refuses to go on.
        """
        bar = ProgressBar(self._state)
        tasks = [asyncio.create_task(self._work()) for _ in range(self._state.arguments.concurrency)]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            self._stopping = True
            await self._finish_requests(tasks)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            bar.close()

    async def _finish_requests(self, tasks: list[asyncio.Task[None]]) -> None:
        """Wait for what is in flight, which is paid for; end the other workers."""
        for task in tasks:
            # Until the server has answered, those that seem to ask wait for the one whose request failed.
            if task not in self._asking or not self._client.answered:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while not (self._stopping or self.out_of_money) and (item := self._state.claim()) is not None:
            try:
                await self._finish(item)
            except RequestLostError as error:
                if not self._stopping:
                    await self._lost_requests.count(error)
            finally:
                self._state.give_back(item)

    async def _finish(self, item: PlanItem) -> None:
        """Ask for an item until it has a row or is rejected."""
        while not (self._stopping or self._state.progress_of(item).finished):
            await self._lost_requests.wait()
            if not await self._reserve_money(item):
                self.out_of_money = True
                return
            try:
                reply = await self._client.ask(self._state.build_question(item))
            finally:
                self._asking.discard(asyncio.current_task())
                self._freed.set()
            self._lost_requests.count_answer()
            self._state.take_reply(item, reply)

    async def _reserve_money(self, item: PlanItem) -> bool:
        """Count a request in if the money reaches for it and for all in flight; these may prove cheaper than expected."""
        while not self._state.can_pay(item, len(self._asking) + 1):
            if not self._asking:
                return False
            self._freed.clear()
            await self._freed.wait()
        self._asking.add(asyncio.current_task())
        return True
