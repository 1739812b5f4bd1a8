"""From a recipe to a folder of rows: everything that `generate_data.py` does."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from transformers.utils import logging

from ..files import write_json_lines, write_text
from .arguments import GenerationArguments
from .batch import BatchRunner
from .card import build_card, count_reasons
from .client import AnswerClient
from .costs import compute_cost, estimate_answer_tokens, estimate_tokens
from .journal import Journal
from .manifest import Manifest, hash_pool, open_manifest, write_manifest
from .plan import Plan
from .pool import (
    NOTES_PER_REQUEST,
    Pool,
    PoolBuilder,
    fill_names,
    get_descriptions,
    get_names,
    read_pool,
    start_pool,
    write_pool,
)
from .prompts import build_instructions, build_item_prompt
from .push import CARD_FILE, ROWS_FILE, push_rows
from .runner import ItemRunner
from .state import RunState
from .validation import format_id

logger = logging.get_logger(__name__)

REJECTED_FILE = "rejected_rows.jsonl"
SHOWN_ITEMS = 3
SAMPLED_ITEMS = 200  # of the plan, for the estimate


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a second run out of the folder; the system opens the lock when the process ends, however it ends.

    Raises:
        ValueError: If another run works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"Expected no other run in {str(folder)!r}, found one at work. Wait for its end, or choose another output_dir."
        ) from error
    try:
        yield
    finally:
        lock.release()


class Generation:
    """One run in its folder: pool, items, outputs."""

    def __init__(self, arguments: GenerationArguments, journal: Journal, manifest: Manifest):
        self.arguments = arguments
        self.folder = Path(arguments.output_dir)
        self.journal = journal
        self.manifest = manifest
        self.state: RunState | None = None
        self.pool: Pool = {}
        self.out_of_money = False
        self._client: AnswerClient | None = None

    def save_manifest(self) -> None:
        """Write the manifest with what is known now."""
        if self._client is not None and self._client.answered:
            self.manifest["api"] = self._client.way.name
        if self.state is not None:
            state, spent = self.state, self.state.spending
            self.manifest["finished"] = not state.missing
            self.manifest["counts"] = {
                "rows": len(state.list_rows()),
                "rejected": len(state.list_rejected()),
                "requests": spent.requests,
                "requests_with_estimated_tokens": spent.estimated,
            }
            self.manifest["tokens"] = {"input": spent.input_tokens, "output": spent.output_tokens}
            self.manifest["cost"] = None if self.arguments.input_price is None else round(spent.cost, 8)
        write_manifest(self.folder, self.manifest)

    def connect(self) -> AnswerClient:
        """The client, made when the first question is asked: a finished run needs no key."""
        if self._client is None:
            self._client = AnswerClient(self.arguments, self.manifest["api"])
        return self._client

    async def run(self) -> None:
        """Do what is left to do."""
        try:
            await self._prepare_pool()
            plan = Plan(get_names(self.pool), self.arguments)
            self.state = RunState(self.arguments, plan, self.journal, get_descriptions(self.pool))
            pending = self.manifest["pending_batch"]
            if pending is not None and pending["id"] is None and not self.arguments.batch:
                logger.warning(f"The uploaded file {pending['file']} is given up; its requests are sent one by one.")
                self.manifest["pending_batch"] = pending = None
            if pending is not None and not self.arguments.batch:
                raise ValueError(
                    f"Expected batch, as batch {pending['id']} of this run is under way, found it left out. "
                    "Start with --batch, so that its answers, which are paid for, are read."
                )
            if self.state.missing or pending is not None:
                await self._run_items(self.state)
        finally:
            if self._client is not None:
                await self._client.close()

    async def _prepare_pool(self) -> None:
        pool = read_pool(self.folder, self.manifest["pool_sha256"])
        if pool is None:
            pool = await PoolBuilder(self.arguments, self.journal, self.connect).build()
            write_pool(self.folder, pool)
        self.pool = pool
        self.manifest["pool_sha256"] = hash_pool(pool)
        self.save_manifest()

    async def _run_items(self, state: RunState) -> None:
        client = self.connect()
        if self.arguments.batch:
            batches = BatchRunner(state, client, self.manifest, self.save_manifest)
            await batches.run()
            self.out_of_money = batches.out_of_money
        else:
            runner = ItemRunner(state, client)
            await runner.run()
            self.out_of_money = runner.out_of_money

    def write_outputs(self) -> None:
        """Write rows, rejects, manifest and card; after an early stop with what there is."""
        self.save_manifest()
        if self.state is None:
            return
        write_json_lines(self.folder / ROWS_FILE, self.state.list_rows())
        rejected = [
            {
                "id": format_id(item.index),
                "labels": item.label_names,
                "problem": progress.problem,
                "attempts": progress.attempts,
                "content": progress.answer,
            }
            for item, progress in self.state.list_rejected()
        ]
        if rejected:
            write_json_lines(self.folder / REJECTED_FILE, rejected)
        write_text(self.folder / CARD_FILE, str(build_card(self.state, self.pool, self.manifest)))

    def describe_rows(self) -> str:
        """How far the run is, in one line."""
        rows = 0 if self.state is None else len(self.state.list_rows())
        return f"{rows} of {self.arguments.num_samples} rows are in {self.folder / ROWS_FILE}"


def generate(arguments: GenerationArguments) -> str:
    """Write the rows of a recipe, or go on where an interrupted run stopped.

    Returns:
        What was written, in words.

    Raises:
        ValueError: If the recipe, the server or the money does not allow to go on; the rows so far are kept.
        ConnectionError: If the server does not answer any more.
        InterruptedError: On Ctrl-C.
    """
    folder = Path(arguments.output_dir)
    with lock_folder(folder):
        manifest = open_manifest(folder, arguments)
        Plan(fill_names(start_pool(arguments), arguments), arguments)  # a recipe that cannot work is refused before it costs
        write_manifest(folder, manifest)
        with Journal(folder / "journal.jsonl") as journal:
            run = Generation(arguments, journal, manifest)
            try:
                asyncio.run(run.run())
            except KeyboardInterrupt:
                raise InterruptedError(
                    f"Expected to write on, found Ctrl-C. {run.describe_rows()}; start the same command again, it goes on."
                ) from None
            finally:
                run.write_outputs()
        if run.out_of_money:
            spent = 0.0 if run.state is None else run.state.spending.cost
            raise ValueError(
                f"Expected all rows within max_cost {arguments.max_cost} USD, found {spent:.6f} USD spent and the next "
                f"request beyond it. {run.describe_rows()} and kept; start the same command with a higher --max_cost, "
                "it goes on."
            )
        report = describe_result(run)
        if arguments.push_to_hub is not None:
            report += f"\nPushed to {push_rows(folder, arguments.push_to_hub, public=arguments.public)}"
        return report


def describe_result(run: Generation) -> str:
    """What a finished run wrote."""
    assert run.state is not None
    spent, folder = run.state.spending, run.folder
    cost = "no prices" if run.arguments.input_price is None else f"${spent.cost:.4f}"
    lines = [
        f"{run.describe_rows()}: {spent.requests:,} requests, "
        f"{spent.input_tokens:,} + {spent.output_tokens:,} tokens, {cost}."
    ]
    rejected = count_reasons(run.state)
    if rejected:
        lines.append(f"Rejected items are in {folder / REJECTED_FILE}:")
        lines += [f"  {count} x {reason}" for reason, count in rejected[:5]]
    lines += ["Look at them, then train:", f"  zeroshot data report {folder / ROWS_FILE}"]
    lines.append(f"  python train.py configs/own_data.yaml --train_files {folder / ROWS_FILE} --output_dir outputs/mine")
    return "\n".join(lines)


def describe_plan(arguments: GenerationArguments) -> str:
    """What a run would ask and cost, without a key and without a request.

    Raises:
        ValueError: If the recipe cannot be dealt from, or the folder holds a run of another one.
    """
    folder = Path(arguments.output_dir)
    pool = read_pool(folder, open_manifest(folder, arguments)["pool_sha256"]) or start_pool(arguments)
    wanted = sum(kind["size"] for kind in arguments.kinds.values())
    names = get_names(pool)
    instructions = build_instructions(arguments)
    plan = Plan(fill_names(pool, arguments), arguments)
    items = [plan.item(index) for index in range(min(arguments.num_samples, SAMPLED_ITEMS))]
    prompts = [build_item_prompt(item, get_descriptions(pool)) for item in items]
    share = arguments.num_samples / len(items)
    incoming = round(share * sum(estimate_tokens(instructions + prompt) for prompt in prompts))
    outgoing = round(share * sum(estimate_answer_tokens(item.length) for item in items))
    blocks = [f"Instructions:\n{instructions}"]
    blocks += [f"Request {number}:\n{prompt}" for number, prompt in enumerate(prompts[:SHOWN_ITEMS], start=1)]
    known = sum(map(len, names.values()))
    if known < wanted:
        blocks.append(f"The pool: {known} names stand in the recipe, the model is asked for {wanted - known} more.")
    notes = -(-wanted // NOTES_PER_REQUEST) if arguments.descriptions or arguments.paraphrases else 0
    if notes:
        blocks.append(f"Descriptions and paraphrases: about {notes} requests more.")
    cost = compute_cost(
        {"input_tokens": incoming, "output_tokens": outgoing, "estimated": True}, arguments, batch=arguments.batch
    )
    price = "the recipe names no prices" if arguments.input_price is None else f"about ${cost:.4f}"
    blocks.append(
        f"Estimate: {arguments.num_samples} requests (more where answers are refused), {incoming:,} tokens in, "
        f"{outgoing:,} tokens out, {price}. Tokens are estimated from characters. Nothing was sent."
    )
    return "\n\n".join(blocks)
