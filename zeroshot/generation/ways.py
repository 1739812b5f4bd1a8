"""Three ways of asking for the same structured answer: the Responses API, Chat Completions, and plain JSON.

Each reads the answer from the raw body, so that the tokens of an answer that does not fit its schema are known too, and so
that a batch, whose answers come as a file of bodies, is read by the same lines.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from openai import AsyncOpenAI, Omit, omit, pydantic_function_tool
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from .arguments import ApiName, GenerationArguments
from .costs import Usage, estimate_tokens
from .prompts import build_json_instructions

Endpoint = Literal["/v1/responses", "/v1/chat/completions"]


@dataclass(frozen=True)
class Question:
    """What is asked, and the type that the answer must have."""

    instructions: str
    prompt: str
    answer_type: type[BaseModel]

    @property
    def schema(self) -> dict[str, Any]:
        """The strict JSON schema of the answer."""
        # A function's parameters and a structured answer obey the same rules; only the former has a public helper.
        return dict(pydantic_function_tool(self.answer_type)["function"]["parameters"])


@dataclass(frozen=True)
class Reply:
    """What came back."""

    text: str
    outcome: Literal["answered", "refused", "truncated"]
    problem: str | None  # why it is no whole answer
    usage: Usage


class Way(Protocol):
    """One way of asking."""

    name: ApiName
    endpoint: Endpoint

    def build_body(self, question: Question) -> dict[str, Any]:
        """The body of the request, as a line of a batch holds it."""

    async def send(self, client: AsyncOpenAI, question: Question) -> str:
        """Send the request and return the body of the response."""

    def read_body(self, body: dict[str, Any], question: Question) -> Reply:
        """Read the body of a response.

        Raises:
            ValueError: If it holds an error of the server instead of an answer.
        """


def _read_usage(usage: Any, names: tuple[str, str], question: Question, text: str) -> Usage:
    incoming, outgoing = (usage.get(name) if isinstance(usage, dict) else None for name in names)
    if isinstance(incoming, int) and isinstance(outgoing, int):
        return {"input_tokens": incoming, "output_tokens": outgoing, "estimated": False}
    asked = question.instructions + question.prompt
    return {"input_tokens": estimate_tokens(asked), "output_tokens": estimate_tokens(text), "estimated": True}


def _escape_halves(text: str) -> str:
    """A text as UTF-8 can hold it: half a surrogate pair, which JSON may carry, becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _refuse(reason: str) -> str:
    shown = _escape_halves(reason.strip()[:200]) or "no reason"
    return f"Expected an answer, found a refusal ({shown}). Write a text that the provider allows."


def _truncate(reason: str) -> str:
    return f"Expected a whole answer, found one cut off ({reason}). Write less, or raise max_output_tokens."


def _read_dicts(value: Any) -> list[dict[str, Any]]:
    """The dictionaries of a list; compatible servers leave out what they do not know."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _check_error(body: dict[str, Any]) -> None:
    """A server that fails after it began to answer says so with status 200; that is no answer of the model."""
    error = body.get("error")
    if error or body.get("status") in ("failed", "cancelled"):
        words = error.get("message") or error.get("code") if isinstance(error, dict) else error
        raise ValueError(f"Expected an answer, found the server's error: {words or 'no reason given'}")


class ResponsesWay:
    """`responses.parse`: OpenAI's own, and some compatible servers."""

    name: ApiName = "responses"
    endpoint: Endpoint = "/v1/responses"

    def __init__(self, arguments: GenerationArguments):
        self._arguments = arguments

    def build_body(self, question: Question) -> dict[str, Any]:
        """The body of the request."""
        arguments = self._arguments
        name = question.answer_type.__name__
        body = {
            "model": arguments.model,
            "instructions": question.instructions,
            "input": question.prompt,
            "temperature": arguments.temperature,
            "max_output_tokens": arguments.max_output_tokens,
            "text": {"format": {"type": "json_schema", "strict": True, "name": name, "schema": question.schema}},
        }
        return {key: value for key, value in body.items() if value is not None}

    async def send(self, client: AsyncOpenAI, question: Question) -> str:
        """Ask once."""
        # The raw response: `parse` itself would raise for an answer that does not fit, and its tokens would be lost.
        raw = await client.responses.with_raw_response.parse(
            model=self._arguments.model,
            instructions=question.instructions,
            input=question.prompt,
            text_format=question.answer_type,
            temperature=_leave_out(self._arguments.temperature),
            max_output_tokens=_leave_out(self._arguments.max_output_tokens),
        )
        return raw.text

    def read_body(self, body: dict[str, Any], question: Question) -> Reply:
        """Read the answer, the refusal or the cut-off answer."""
        _check_error(body)
        messages = [one for one in _read_dicts(body.get("output")) if one.get("type") == "message"]
        parts = [part for message in messages for part in _read_dicts(message.get("content"))]
        text = "".join(_escape_halves(str(part.get("text") or "")) for part in parts if part.get("type") == "output_text")
        usage = _read_usage(body.get("usage"), ("input_tokens", "output_tokens"), question, text)
        refusals = [str(part.get("refusal") or "") for part in parts if part.get("type") == "refusal"]
        if refusals:
            return Reply(text, "refused", _refuse(refusals[0]), usage)
        if body.get("status") == "incomplete":
            details = body.get("incomplete_details")
            reason = str(details.get("reason")) if isinstance(details, dict) else "no reason given"
            if reason == "content_filter":
                return Reply(text, "refused", _refuse(reason), usage)
            return Reply(text, "truncated", _truncate(reason), usage)
        return Reply(text, "answered", None, usage)


class ChatWay:
    """`chat.completions.parse`: vLLM, llama.cpp, Ollama and most others."""

    name: ApiName = "chat"
    endpoint: Endpoint = "/v1/chat/completions"

    def __init__(self, arguments: GenerationArguments):
        self._arguments = arguments

    def build_messages(self, question: Question) -> list[ChatCompletionMessageParam]:
        """Instructions and prompt as messages."""
        return [{"role": "system", "content": question.instructions}, {"role": "user", "content": question.prompt}]

    def build_body(self, question: Question) -> dict[str, Any]:
        """The body of the request."""
        name = question.answer_type.__name__
        body = {
            "model": self._arguments.model,
            "messages": self.build_messages(question),
            "temperature": self._arguments.temperature,
            "max_completion_tokens": self._arguments.max_output_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": name, "strict": True, "schema": question.schema},
            },
        }
        return {key: value for key, value in body.items() if value is not None}

    async def send(self, client: AsyncOpenAI, question: Question) -> str:
        """Ask once."""
        raw = await client.chat.completions.with_raw_response.parse(
            model=self._arguments.model,
            messages=self.build_messages(question),
            response_format=question.answer_type,
            temperature=_leave_out(self._arguments.temperature),
            max_completion_tokens=_leave_out(self._arguments.max_output_tokens),
        )
        return raw.text

    def read_body(self, body: dict[str, Any], question: Question) -> Reply:
        """Read the answer, the refusal or the cut-off answer."""
        _check_error(body)
        choice = next(iter(_read_dicts(body.get("choices"))), {})
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        text = _escape_halves(str(message.get("content") or ""))
        usage = _read_usage(body.get("usage"), ("prompt_tokens", "completion_tokens"), question, text)
        if message.get("refusal"):
            return Reply(text, "refused", _refuse(str(message["refusal"])), usage)
        if choice.get("finish_reason") == "content_filter":
            return Reply(text, "refused", _refuse("content_filter"), usage)
        if choice.get("finish_reason") == "length":
            return Reply(text, "truncated", _truncate("length"), usage)
        return Reply(text, "answered", None, usage)


class JsonWay(ChatWay):
    """`chat.completions.create` with the schema in words, for servers without structured output."""

    name: ApiName = "json"

    def build_messages(self, question: Question) -> list[ChatCompletionMessageParam]:
        """Instructions with the schema, and the prompt."""
        instructions = build_json_instructions(question.instructions, question.schema)
        return [{"role": "system", "content": instructions}, {"role": "user", "content": question.prompt}]

    def build_body(self, question: Question) -> dict[str, Any]:
        """The body of the request; `max_tokens` is the name that such servers know."""
        body = super().build_body(question)
        limit = body.pop("max_completion_tokens", None)
        body.pop("response_format")
        return body if limit is None else {**body, "max_tokens": limit}

    async def send(self, client: AsyncOpenAI, question: Question) -> str:
        """Ask once."""
        raw = await client.chat.completions.with_raw_response.create(
            model=self._arguments.model,
            messages=self.build_messages(question),
            temperature=_leave_out(self._arguments.temperature),
            max_tokens=_leave_out(self._arguments.max_output_tokens),
        )
        return raw.text


WAYS: dict[ApiName, type[ResponsesWay] | type[ChatWay]] = {"responses": ResponsesWay, "chat": ChatWay, "json": JsonWay}


def _leave_out(value: Any) -> Any | Omit:
    return omit if value is None else value


def list_ways(arguments: GenerationArguments, known: ApiName | None) -> list[Way]:
    """The ways to try, in this order.

    Args:
        arguments: `api` names one way, or `auto` for all.
        known: The way that an earlier part of the run ended up with.
    """
    names = list(WAYS)
    if arguments.api != "auto":
        names = [arguments.api]
    elif known is not None:
        names = names[names.index(known) :]
    return [WAYS[name](arguments) for name in names]


def parse_body(text: str) -> dict[str, Any]:
    """The JSON object of a response.

    Raises:
        ValueError: If the body is something else.
    """
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ValueError(f"Expected a JSON object from the server, found {text[:80]!r}. Check base_url.")
    return body
