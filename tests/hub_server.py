"""A Hub on this machine with as much as a push of a data set needs: repositories, commits, one user.

huggingface_hub reads `HF_ENDPOINT` and `HF_HUB_DISABLE_XET` when it is imported, so a client of this server runs in a
process of its own, with `HubServer.environment`.
"""

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_Rw5TqLmXz8KpVb3NcYdJ"
USER = "alice"


@dataclass
class Repository:
    """A data set with the files of its last commit."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)  # summaries


class HubServer:
    """`with HubServer() as hub:` serves until the block ends; `hub.repositories` is what a visitor would find."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, token: str | None, content: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if token != TOKEN:
            return 401, {"error": "Invalid credentials in Authorization header"}
        if path == "/api/repos/create":
            return self._create(json.loads(content))
        return self._answer_repository(path, content)

    def _answer_repository(self, path: str, content: bytes) -> tuple[int, dict[str, Any]]:
        known = re.fullmatch(r"/api/datasets/([\w-]+/[\w-]+)(?:/(preupload|commit|revision)/main)?", path)
        if known is None or known[1] not in self.repositories:
            return 404, {"error": "Repository not found"}
        name, repository = known[1], self.repositories[known[1]]
        if known[2] == "preupload":
            files = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(content)["files"]]
            return 200, {"files": [{**file, "shouldIgnore": False} for file in files]}
        if known[2] == "commit":
            return self._commit(name, repository, content)
        siblings = [{"rfilename": path} for path in repository.files]
        head = str(len(repository.commits)) * 40
        return 200, {"id": name, "private": repository.private, "sha": head, "siblings": siblings, "tags": []}

    def _create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = f"{body.get('organization') or USER}/{body['name']}"
        if not name.startswith(f"{USER}/"):
            return 403, {"error": f"You don't have the rights to create the dataset {name}"}
        place = {"url": f"{self.url}/datasets/{name}", "name": name}
        if name in self.repositories:
            return 409, {"error": "You already created this dataset repo", **place}
        assert body["type"] == "dataset"
        private = body.get("private") or body.get("visibility") == "private"
        self.repositories[name] = Repository(bool(private))
        return 200, place

    def _commit(self, name: str, repository: Repository, content: bytes) -> tuple[int, dict[str, Any]]:
        lines = [json.loads(line) for line in content.splitlines()]
        for line in lines:
            if line["key"] == "file":
                repository.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        repository.commits += [line["value"] for line in lines if line["key"] == "header"]
        url = f"{self.url}/datasets/{name}/commit/{'1' * 40}"
        return 200, {"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""}

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = self.path.split("?")[0]
                hub.requests.append(f"{self.command} {path}")
                token = self.headers.get("authorization", "").removeprefix("Bearer ")
                status, body = hub.answer(path, token, content)
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in (("content-type", "application/json"), ("content-length", str(len(data)))):
                    self.send_header(name, value)
                if "error" in body:
                    self.send_header("x-error-message", body["error"])
                    if body["error"] == "Repository not found":
                        self.send_header("x-error-code", "RepoNotFound")
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler
