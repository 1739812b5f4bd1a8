"""What the scripted model of the tests says: answers made from the request itself, and every way of answering badly.

A `Behaviour` takes a recorded `Request` and gives the `Reply` that `openai_server` sends.
"""

import json
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
KEY = "sk-proj-Zq7VtW3xKd9PmLr2bYhN"
KEY_PARTS = (KEY[:11], KEY[-4:])  # what OpenAI's own message shows of a wrong key
USAGE = (100, 50)  # tokens in and out of every answer
WORDS = {
    "English": (
        ["the {0} {1} and the {2} {3} stayed near the {4}", "we carried a {0} {1} over to the {2} {3} that morning"],
        """river window garden teacher kitchen winter letter mountain brother station market bicycle blanket doctor island
        village ladder engine pocket candle harbour forest library mirror orchard quiet narrow golden heavy broken gentle
        distant wooden crowded hollow silver honest clumsy bitter modest humble fragile ancient rusty sleepy curious""",
    ),
    "German": (
        [
            "der {0} und die {1} standen lange neben dem {2} und der {3}",
            "wir haben gestern {0} und {1} nicht zur {2} gebracht",
        ],
        """Garten Fenster Bruder Schule Winter Brief Berg Bahnhof Markt Fahrrad Decke Arzt Insel Dorf Leiter Motor Tasche
        Kerze Hafen Wald Spiegel Wiese Straße Brücke Küche Lehrer Schwester Zeitung Wohnung Regen Schlüssel Mantel""",
    ),
}
INVENTED = [
    f"{first} {second}" for first in ("garden", "travel", "school", "river") for second in ("tools", "rules", "songs")
]


def write_text(seed: str, language: str, words: int) -> str:
    """A text of so many words, the same for the same seed, hardly a run of three words in common with any other."""
    patterns, vocabulary = WORDS[language]
    draw = random.Random(seed)
    sentences = [draw.choice(patterns).format(*draw.sample(vocabulary.split(), 5)) for _ in range(words // 8 + 1)]
    return " ".join(" and ".join(sentences).split()[:words]).capitalize() + "."


def find_enums(node: Any) -> list[list[str]]:
    """All lists of allowed values in a JSON schema."""
    if isinstance(node, list):
        return [found for one in node for found in find_enums(one)]
    if not isinstance(node, dict):
        return []
    return ([node["enum"]] if "enum" in node else []) + find_enums(list(node.values()))


@dataclass
class Reply:
    """What is sent back."""

    body: Json | str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: threading.Event | None = None  # answer only when it is set
    delay: float = 0.0  # seconds
    cut: bool = False  # end the connection in the middle of the body


@dataclass
class Request:
    """One recorded request."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes
    time: float

    @property
    def body(self) -> Json:
        return json.loads(self.content or b"{}")

    @property
    def prompt(self) -> str:
        """Everything that the model is told."""
        body = self.body
        turns = body.get("messages") or body.get("input") or ""
        told = turns if isinstance(turns, str) else "\n".join(str(turn["content"]) for turn in turns)
        return f"{body.get('instructions') or ''}\n{told}"

    @property
    def schema(self) -> Json:
        """The schema of structured output, or the one that stands in the prompt; empty where there is none."""
        body = self.body
        wire = body.get("text", {}).get("format") or body.get("response_format", {}).get("json_schema")
        if wire:
            return wire["schema"]
        start = re.search(r'\{\s*"(?:\$defs|properties|additionalProperties|type|title|description)"', self.prompt)
        return json.JSONDecoder().raw_decode(self.prompt[start.start() :])[0] if start else {}

    @property
    def asks_for_row(self) -> bool:
        return self.path.endswith(("/responses", "/chat/completions")) and "negatives" in self.schema.get("properties", {})

    @property
    def offered(self) -> list[str]:
        """The names among which the negatives are chosen."""
        return max(find_enums(self.schema), key=len)

    def write_row(self) -> Json:
        """A row that holds: as long and in the language that was asked for, with negatives that were offered."""
        [language] = [name for name in WORDS if name in self.prompt]
        bounds = re.search(r"(\d+) to (\d+) words", self.prompt)
        words = sum(map(int, bounds.groups())) // 2 if bounds else 20
        row = {"text": write_text(self.prompt, language, words), "negatives": self.offered[:3]}
        return row | dict.fromkeys(set(self.schema["properties"]) - set(row))

    def write_answer(self) -> Json:
        """A row; or new names for the pool, as many as the prompt says; or notes on the names that it lists."""
        if self.asks_for_row:
            return self.write_row()
        if "names" in self.schema["properties"]:
            [number] = re.findall(r"Write (\d+) more", self.prompt)
            return {"names": [name for name in INVENTED if name not in self.prompt][: int(number)]}
        names = re.findall(r"^- (.+)$", self.prompt, flags=re.MULTILINE)
        notes = [
            {"name": name, "description": f"It shows {name}.", "paraphrases": [f"{name} here", f"some {name}"]}
            for name in names
        ]
        return {"labels": notes}


Behaviour = Callable[[Request], Reply]


def wrap(request: Request, content: str, *, refused: bool = False, cut_off: bool = False) -> Reply:
    """The content in the envelope of the request's endpoint."""
    if request.path.endswith("/responses"):
        part: Json = {"type": "output_text", "text": content, "annotations": []}
        if refused:
            part = {"type": "refusal", "refusal": content}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        return Reply(
            {
                "id": "resp_1",
                "object": "response",
                "created_at": 1,
                "model": request.body["model"],
                "status": "incomplete" if cut_off else "completed",
                "incomplete_details": {"reason": "max_output_tokens"} if cut_off else None,
                "error": None,
                "output": [message],
                "usage": {"input_tokens": USAGE[0], "output_tokens": USAGE[1], "total_tokens": sum(USAGE)},
                "tools": [],
                "tool_choice": "auto",
                "parallel_tool_calls": True,
            }
        )
    message = {"role": "assistant", "content": None if refused else content, "refusal": content if refused else None}
    return Reply(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": request.body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "length" if cut_off else "stop"}],
            "usage": {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": sum(USAGE)},
        }
    )


def answer_well(request: Request) -> Reply:
    return wrap(request, json.dumps(request.write_answer(), ensure_ascii=False))


def answer_with(change: Callable[[Request], Json]) -> Behaviour:
    """A row with some fields changed."""
    return lambda request: wrap(request, json.dumps(request.write_row() | change(request)))


def answer_in_words(template: str) -> Behaviour:
    """A good answer as models write it without structured output, at the place of `{}`."""
    return lambda request: wrap(request, template.replace("{}", json.dumps(request.write_answer(), indent=1)))


def answer_slowly(request: Request) -> Reply:
    reply = answer_well(request)
    reply.delay = 0.3
    return reply


def answer_without_usage(request: Request) -> Reply:
    reply = answer_well(request)
    assert isinstance(reply.body, dict)
    return Reply({name: value for name, value in reply.body.items() if name != "usage"})


def refuse(request: Request) -> Reply:
    return wrap(request, "I cannot help with that.", refused=True)


def truncate(request: Request) -> Reply:
    content = json.dumps(request.write_row())
    return wrap(request, content[: len(content) // 2], cut_off=True)


def cut_connection(request: Request) -> Reply:
    reply = answer_well(request)
    reply.cut = True
    return reply


def fail(status: int, message: str = "scripted", code: str | None = None, **headers: str) -> Behaviour:
    """An error as OpenAI words it."""
    error = {"error": {"message": message, "type": "scripted_error", "param": None, "code": code}}
    return lambda _request: Reply(error, status, {name.replace("_", "-"): value for name, value in headers.items()})


def hang(_request: Request) -> Reply:
    """No answer at all; the client must give up by itself."""
    return Reply({}, wait=threading.Event())


def echo_key(request: Request) -> Reply:
    """401 with as much of the key as OpenAI shows, and all of it as a careless proxy does."""
    key = request.headers["authorization"].removeprefix("Bearer ")
    shown = f"{key[:11]}*********{key[-4:]}"
    return fail(401, f"Incorrect API key provided: {shown} (header: Bearer {key}).", "invalid_api_key")(request)
