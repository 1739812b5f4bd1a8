"""An OpenAI-compatible server on this machine: the endpoints that the generator calls, scripted request by request.

`server.script` holds what happens to the next requests that ask for a row, in the order of their arrival, and
`server.default` what happens to all others. Every request is recorded. The Batch API runs the lines of an uploaded file
through the same script.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .openai_answers import Behaviour, Json, Reply, Request, answer_well


class QuietServer(ThreadingHTTPServer):
    """Clients that are killed are part of the tests; mistakes of the tests themselves are kept for the end."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.mistakes: list[BaseException] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.mistakes.append(error)


def read_upload(request: Request) -> str:
    """The file of a multipart form."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    parts: Iterator[Any] = message_from_bytes(head + request.content).walk()
    return next(part.get_payload(decode=True).decode() for part in parts if part.get_filename())


class OpenAIServer:
    """`with OpenAIServer() as server:` serves at `server.url` until the block ends."""

    def __init__(self) -> None:
        self.script: list[Behaviour] = []
        self.default: Behaviour = answer_well
        self.missing: set[str] = set()  # endpoints that are answered with 404
        self.batch_script: list[Behaviour] = []  # faults of the next requests about files and batches
        self.requests: list[Request] = []
        self.released = threading.Event()
        self.in_flight = 0
        self.most_in_flight = 0
        self.files: dict[str, str] = {}
        self.batches: dict[str, Json] = {}
        self.batch_fate: list[str] = []  # final status of the next batches; "completed" when empty
        self._lock = threading.Lock()
        self._server = QuietServer(self._build_handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "OpenAIServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        assert not self._server.mistakes, self._server.mistakes

    # -- what tests ask -----------------------------------------------------------------------------------------------

    def hold(self, request: Request) -> Reply:
        """A good answer that stays here until the test sets `released`."""
        reply = answer_well(request)
        reply.wait = self.released
        return reply

    @property
    def row_requests(self) -> list[Request]:
        """The requests that asked for a row, in the order of their arrival."""
        return [request for request in list(self.requests) if request.asks_for_row]

    def count(self, method: str, path: str) -> int:
        return sum((request.method, request.path) == (method, path) for request in list(self.requests))

    def wait_for(self, condition: Callable[[], bool], seconds: float = 240) -> None:
        """Wait until something has happened."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, [(one.method, one.path) for one in self.requests]
            time.sleep(0.01)

    # -- what it answers ----------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        if request.path in self.missing:
            return Reply("404 page not found", 404)
        if request.path.startswith(("/v1/files", "/v1/batches")):
            return self.batch_script.pop(0)(request) if self.batch_script else self._answer_batch(request)
        return self._next_behaviour(request)(request)

    def _next_behaviour(self, request: Request) -> Behaviour:
        return self.script.pop(0) if self.script and request.asks_for_row else self.default

    def _answer_batch(self, request: Request) -> Reply:
        *_, kind, last = request.path.removesuffix("/content").split("/")
        if request.path == "/v1/files":
            name = f"file-{len(self.files)}"
            self.files[name] = read_upload(request)
            return Reply({"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "purpose": "batch"})
        if request.path.startswith("/v1/batches?"):
            return Reply({"object": "list", "data": list(self.batches.values())[::-1], "has_more": False})
        if request.path == "/v1/batches":
            batch = {"id": f"batch_{len(self.batches)}", "object": "batch", "created_at": 1, "status": "validating"}
            self.batches[batch["id"]] = batch | request.body
            return Reply(self.batches[batch["id"]])
        if kind == "files":
            return Reply(self.files[last])
        batch = self.batches[last]
        if batch["status"] in ("validating", "in_progress") and self.batch_fate[:1] != ["in_progress"]:
            self._finish_batch(batch, self.batch_fate.pop(0) if self.batch_fate else "completed")
        return Reply(batch)

    def _finish_batch(self, batch: Json, fate: str) -> None:
        """Answer the lines; an expired batch answers the first half, others none."""
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        done = {"completed": len(lines), "expired": len(lines) // 2, "failed": 0, "cancelled": 0}[fate]
        good, bad = [], []
        for line in lines[:done]:
            request = Request("POST", line["url"], {}, json.dumps(line["body"]).encode(), time.monotonic())
            reply = self._next_behaviour(request)(request)
            response = {"status_code": reply.status, "request_id": "req_1", "body": reply.body}
            (good if reply.status == 200 else bad).append(
                {"custom_id": line["custom_id"], "response": response, "error": None}
            )
        error = {"code": f"batch_{fate}", "message": "This request could not be executed."}
        bad += [{"custom_id": line["custom_id"], "response": None, "error": error} for line in lines[done:]]
        for name, rows in (("output_file_id", good), ("error_file_id", bad if fate in ("completed", "expired") else [])):
            file = f"{name}-{batch['id']}"
            self.files[file] = "".join(
                json.dumps({"id": "line", **row}, ensure_ascii=False) + "\n" for row in reversed(rows)
            )
            batch[name] = file if rows else None
        batch["status"] = fate
        batch["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        if fate == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "invalid", "message": "scripted", "line": 1}]}

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, content, time.monotonic())
                with server._lock:  # in one step, so that the script meets the requests in the order of `requests`
                    server.requests.append(request)
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                    reply = server.answer(request)
                try:
                    self.send_reply(reply)
                except ConnectionError:  # the client was killed, or has given up
                    self.close_connection = True
                finally:
                    with server._lock:
                        server.in_flight -= 1

            do_GET = do_POST

            def send_reply(self, reply: Reply) -> None:
                if reply.wait is not None and not reply.wait.wait(240):
                    self.close_connection = True
                    return
                time.sleep(reply.delay)
                text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body, ensure_ascii=False)
                data = text.encode()
                self.send_response(reply.status)
                kind = "text/plain" if isinstance(reply.body, str) else "application/json"
                for name, value in {"content-type": kind, "content-length": str(len(data)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if reply.cut else data)
                self.close_connection |= reply.cut

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler
