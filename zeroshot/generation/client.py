"""The provider's client: bounded waits, a way of asking that the server knows, and errors that say what to mend."""

import asyncio
import re
from typing import Any

import openai
from openai import AsyncOpenAI
from transformers.utils import logging

from .arguments import ApiName, GenerationArguments
from .secrets import HIDDEN, KEY_VARIABLE, SHORT, hide_key, hide_user, read_key
from .ways import Question, Reply, Way, list_ways, parse_body

logger = logging.get_logger(__name__)

UNKNOWN_WAY = frozenset({400, 404, 405, 415, 422, 501})  # how servers say that they do not know a way of asking
REFUSED_REQUEST = frozenset({400, 413, 422})  # from a server that has answered before: this one request
# Codes by which providers refuse a prompt, even the first one, for what it says.
FILTERED = frozenset({"content_filter", "content_policy_violation", "invalid_prompt"})
LONGEST_WAIT = 3600.0  # seconds


class RequestLostError(Exception):
    """A request without an answer: the item stays open, and asking again may work after `wait` seconds."""

    def __init__(self, words: str, wait: float = 0.0):
        super().__init__(words)
        self.wait = wait


class _UnknownWayError(Exception):
    """The server does not know this way of asking."""


def _get_status(error: openai.APIError) -> int | None:
    return error.status_code if isinstance(error, openai.APIStatusError) else None


def read_wait(error: openai.APIError) -> float:
    """Seconds that a server asks to wait; the client itself waits up to two minutes and gives up on more."""
    header = error.response.headers.get("retry-after", "") if isinstance(error, openai.APIStatusError) else ""
    return min(float(header), LONGEST_WAIT) if header.isdigit() else 0.0


def is_final(error: openai.APIError) -> bool:
    """Whether the same request would meet the same error again."""
    status = _get_status(error)
    return status is not None and status < 500 and status not in (408, 409, 429)


def _is_unknown_model(error: openai.APIError) -> bool:
    if _get_status(error) not in (400, 404):
        return False
    words = str(error).casefold()
    named = "model" in words and any(sign in words for sign in ("not found", "does not exist", "unknown model"))
    return error.code == "model_not_found" or named


class AnswerClient:
    """Asks questions of one server.

    Args:
        arguments: Model, address, limits.
        known_way: The way of asking that an earlier part of the run ended up with.

    Raises:
        ValueError: If there is no key.
    """

    def __init__(self, arguments: GenerationArguments, known_way: ApiName | None = None):
        self._arguments = arguments
        self._key = read_key()
        self.openai = AsyncOpenAI(
            api_key=self._key,
            base_url=arguments.base_url,
            timeout=arguments.timeout,
            max_retries=arguments.max_retries,
        )
        self._ways = list_ways(arguments, known_way)
        self._answered = known_way == self._ways[0].name
        self._first = asyncio.Lock()

    @property
    def way(self) -> Way:
        """The way of asking in use."""
        return self._ways[0]

    @property
    def address(self) -> str:
        """Where the server is."""
        return hide_user(str(self.openai.base_url).rstrip("/"))

    @property
    def answered(self) -> bool:
        """Whether the server has answered a question, so that the way is known to work."""
        return self._answered

    async def ask(self, question: Question) -> Reply:
        """Ask one question; until one was answered, one at a time, so that a wrong way or key costs one request.

        Raises:
            RequestLostError: If no answer came after all retries.
            ValueError: If the server refuses the model, the settings or the money.
            PermissionError: If it refuses the key.
        """
        if not self._answered:
            async with self._first:
                if not self._answered:
                    return await self._ask_first(question)
        return await self._ask_once(question)

    async def _ask_first(self, question: Question) -> Reply:
        while True:
            try:
                reply = await self._ask_once(question)
            except _UnknownWayError as error:
                if len(self._ways) == 1:
                    raise ValueError(
                        f"Expected the server to answer by api {self.way.name!r}, found: {error}. "
                        f"Check base_url ({self.address}), api, temperature and max_output_tokens."
                    ) from None
                logger.warning(f"The server does not take api {self.way.name!r} ({error}); trying {self._ways[1].name!r}.")
                del self._ways[0]
            else:
                self._answered = True
                return reply

    async def _ask_once(self, question: Question) -> Reply:
        way = self.way
        try:
            body = await way.send(self.openai, question)
        except openai.APIError as error:
            return self.judge_error(error)
        try:
            return way.read_body(self.read_json(body), question)
        except ValueError as error:
            raise RequestLostError(self.hide(str(error))) from None

    def judge_error(self, error: openai.APIError) -> Reply:
        """Turn an error of the client into the refusal of one request, or raise what it means for the run.

        Raised `from None`, because the provider's own error may quote the key.
        """
        status = _get_status(error)
        words = self.describe_error(error)
        self.stop_for_good(error)
        if not self._answered and status in UNKNOWN_WAY and error.code not in FILTERED:
            raise _UnknownWayError(words) from None
        if status in REFUSED_REQUEST or error.code in FILTERED:
            problem = f"Expected an answer, found the request refused ({words}). Write a text that the provider allows."
            return Reply("", "refused", problem, {"input_tokens": 0, "output_tokens": 0, "estimated": False})
        raise RequestLostError(words, read_wait(error)) from None

    def stop_for_good(self, error: openai.APIError) -> None:
        """Raise if no further request can succeed.

        Raises:
            ValueError: If the model is unknown or the money is spent.
            PermissionError: If the key is refused.
        """
        words = self.describe_error(error)
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            raise PermissionError(
                f"Expected a key that may use {self._arguments.model!r}, found it refused ({words}). "
                f"Check {KEY_VARIABLE} and base_url; what was answered so far is kept."
            ) from None
        if _is_unknown_model(error):
            raise ValueError(
                f"Expected a model that {self.address} has, found {self._arguments.model!r} ({words}). "
                "Check model and base_url."
            ) from None
        if error.code == "insufficient_quota" or error.type == "insufficient_quota":
            raise ValueError(
                f"Expected credit with the provider, found none left ({words}). "
                "Add credit and start the same command again, it goes on."
            ) from None

    def read_json(self, body: str) -> dict[str, Any]:
        """The JSON object of a response, from which a key that a server sent back is removed.

        Raises:
            ValueError: If it is something else.
        """
        return parse_body(body.replace(self._key, HIDDEN) if len(self._key) >= SHORT else body)

    def describe_error(self, error: openai.APIError) -> str:
        """An error's status and words in one line, without the key."""
        status = _get_status(error)
        words = self.hide(error.message)
        if status is None:
            return words
        words = re.sub(r"^Error code: \d+( - )?", "", words)  # the client says the status so
        return f"status {status}: {words}" if words else f"status {status}"

    def hide(self, words: str) -> str:
        """Words of the server in one line, without the key."""
        return " ".join(hide_key(words, self._key).split())[:300]

    async def close(self) -> None:
        """Close the connections."""
        await self.openai.close()
