"""Where a run stands: which items have a row, are open, or were rejected; the same after a replay of the journal."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from transformers.utils import logging

from ..data.duplicates import NearDuplicateIndex
from .arguments import GenerationArguments
from .costs import Usage, compute_cost, estimate_answer_tokens, estimate_tokens
from .journal import Journal, Outcome, Record, read_cost
from .plan import Plan, PlanItem
from .prompts import build_instructions, build_item_prompt, build_retry_prompt
from .schema import build_answer_type, parse_answer
from .validation import GeneratedRow, build_row, check_answer, format_id
from .ways import Question, Reply

logger = logging.get_logger(__name__)

ITEMS_PER_ROW = 3  # plan items that may be tried for each row asked for


@dataclass
class ItemProgress:
    """The attempts at one item so far."""

    attempts: int = 0
    answer: str = ""  # the last one
    problem: str | None = None  # why the last one is no row
    row: GeneratedRow | None = None
    rejected: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing more is asked for it."""
        return self.rejected or self.row is not None


@dataclass
class Spending:
    """Tokens and money of the answers so far."""

    requests: int = 0
    estimated: int = 0  # requests whose tokens the server did not count
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def add(self, usage: Usage, cost: float) -> None:
        """Add one answer."""
        self.requests += 1
        self.estimated += usage["estimated"]
        self.input_tokens += usage["input_tokens"]
        self.output_tokens += usage["output_tokens"]
        self.cost += cost


@dataclass
class RunState:
    """The items of a run.

    Near copies are looked for when an answer arrives, among the texts accepted until then. So of two near copies the one
    that arrives first stays; which one that is, and only that, may depend on timing. A replay takes the outcomes that the
    journal holds and judges nothing anew.

    Args:
        arguments: The recipe.
        plan: What is asked for.
        journal: What was answered.
        descriptions: One line by label name, for the prompts.
        on_answer: Called after each new answer.
    """

    arguments: GenerationArguments
    plan: Plan
    journal: Journal
    descriptions: dict[str, str]
    on_answer: Callable[[], None] = lambda: None
    items: dict[int, ItemProgress] = field(default_factory=dict)
    rows: int = 0
    spending: Spending = field(default_factory=Spending)

    def __post_init__(self) -> None:
        self._accepted = NearDuplicateIndex(self.arguments.duplicate_threshold)
        self._instructions = build_instructions(self.arguments)
        self._claimed: set[int] = set()
        self._lowest = 0  # all items below are finished or claimed, but for those given back
        self._item_requests = 0
        self._item_cost = 0.0
        for record in self.journal.records:
            if isinstance(record["item"], int):
                self._apply(record, record["item"])
            else:
                self.spending.add(record["usage"], read_cost(record, self.arguments))

    @property
    def missing(self) -> int:
        """Rows still to be written."""
        return max(0, self.arguments.num_samples - self.rows)

    def can_pay(self, item: PlanItem, requests: int, *, batch: bool = False) -> bool:
        """Whether so many requests, each as dear as the next one for this item, stay within `max_cost`."""
        most = self.arguments.max_cost
        return most is None or self.spending.cost + requests * self.estimate_request_cost(item, batch=batch) <= most

    def claim(self) -> PlanItem | None:
        """Take the next item to work on; None while the rows and the items in work make up what was asked for.

        Raises:
            ValueError: If three times as many items as rows were tried, and none of them is still in work.
        """
        if len(self._claimed) >= self.missing:
            return None
        while self._lowest in self._claimed or self.items.get(self._lowest, ItemProgress()).finished:
            self._lowest += 1
        if self._lowest >= ITEMS_PER_ROW * self.arguments.num_samples:
            if self._claimed:
                return None
            raise ValueError(self._explain_rejections())
        self._claimed.add(self._lowest)
        return self.plan.item(self._lowest)

    def give_back(self, item: PlanItem) -> None:
        """Leave an item, finished or not."""
        self._claimed.discard(item.index)
        self._lowest = min(self._lowest, item.index)

    def _explain_rejections(self) -> str:
        reasons = Counter(one.problem for one in self.items.values() if one.rejected).most_common(3)
        shown = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        return (
            f"Expected {self.arguments.num_samples} rows from {ITEMS_PER_ROW * self.arguments.num_samples} items, found "
            f"{self.rows}, because answers were refused: {shown}. Mend the recipe, choose another model, or raise "
            "num_samples to go on."
        )

    def progress_of(self, item: PlanItem) -> ItemProgress:
        """The attempts at an item."""
        return self.items.setdefault(item.index, ItemProgress())

    def build_question(self, item: PlanItem) -> Question:
        """The next question for an item: the first one, or the one that carries the reason of the last refusal."""
        prompt = build_item_prompt(item, self.descriptions)
        progress = self.progress_of(item)
        if progress.attempts:
            prompt = build_retry_prompt(prompt, progress.answer, progress.problem or "")
        return Question(self._instructions, prompt, build_answer_type(item.candidates))

    def take_reply(self, item: PlanItem, reply: Reply, *, batch: bool = False) -> None:
        """Judge a reply, write it to the journal, and let it count."""
        outcome, problem = self._judge(item, reply)
        record: Record = {
            "item": item.index,
            "attempt": self.progress_of(item).attempts + 1,
            "outcome": outcome,
            "answer": reply.text,
            "problem": problem,
            "usage": reply.usage,
            "cost": compute_cost(reply.usage, self.arguments, batch=batch),
            "batch": batch,
        }
        self.journal.append(record)
        self._apply(record, item.index)
        self.on_answer()

    def _judge(self, item: PlanItem, reply: Reply) -> tuple[Outcome, str | None]:
        if reply.outcome != "answered":
            return reply.outcome, reply.problem
        try:
            answer = parse_answer(reply.text, build_answer_type(item.candidates))
            if answer.impossible and answer.impossible.strip() and not answer.text.strip():
                return "impossible", f"The model says that no text can carry all labels: {answer.impossible.strip()}"
            check_answer(item, answer, self._word_request(item), self.arguments, self._accepted)
        except ValueError as error:
            return "invalid", str(error)
        return "row", None

    def _word_request(self, item: PlanItem) -> str:
        """What the model was told, without the answer that was refused."""
        problem = self.progress_of(item).problem
        prompt = build_item_prompt(item, self.descriptions)
        return f"{self._instructions}\n{build_retry_prompt(prompt, '', problem) if problem else prompt}"

    def _apply(self, record: Record, index: int) -> None:
        item = self.plan.item(index)
        progress = self.progress_of(item)
        progress.attempts = record["attempt"]
        progress.answer, progress.problem = record["answer"], record["problem"]
        cost = read_cost(record, self.arguments)
        self.spending.add(record["usage"], cost)
        if record["usage"]["input_tokens"] or record["usage"]["output_tokens"]:  # a filtered request says nothing of prices
            self._item_requests += 1
            self._item_cost += cost
        if record["outcome"] == "row":
            answer = parse_answer(record["answer"], build_answer_type(item.candidates))
            progress.row = build_row(item, answer)
            self._accepted.add(format_id(index), progress.row["text"])
            self.rows += 1
        else:
            progress.rejected = record["outcome"] == "impossible" or progress.attempts >= self.arguments.max_attempts

    def estimate_request_cost(self, item: PlanItem, *, batch: bool = False) -> float:
        """What the next request for an item is expected to cost: the mean so far, or else by its characters.

        The requests of a batch cannot be stopped one by one, so there `max_output_tokens` counts as if it were used up.
        """
        mean = self._item_cost / self._item_requests if self._item_requests else None
        longest = self.arguments.max_output_tokens if batch else None
        if mean is not None and longest is None:
            return mean
        question = self.build_question(item)
        usage: Usage = {
            "input_tokens": estimate_tokens(question.instructions + question.prompt),
            "output_tokens": longest or estimate_answer_tokens(item.length),
            "estimated": True,
        }
        return max(mean or 0.0, compute_cost(usage, self.arguments, batch=batch))

    def list_rows(self) -> list[GeneratedRow]:
        """The rows in the order of the plan, never more than asked for."""
        ordered = [self.items[index].row for index in sorted(self.items)]
        return [row for row in ordered if row is not None][: self.arguments.num_samples]

    def list_rejected(self) -> list[tuple[PlanItem, ItemProgress]]:
        """The rejected items in the order of the plan."""
        return [(self.plan.item(index), one) for index, one in sorted(self.items.items()) if one.rejected]
