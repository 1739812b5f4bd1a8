"""A Hub on this machine: users, private and public repositories, branches, tags, large files, and faults on demand.

The statuses are those to which huggingface_hub maps its errors. The library reads `HF_ENDPOINT` and
`HF_HUB_DISABLE_XET` when it is imported, so a client of this server runs in a process of its own, with
`HubServer.environment`, or in this one after `HubServer.patch`.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_Rw5TqLmXz8KpVb3NcYdJ"
USER = "alice"
BOBS_TOKEN = "hf_Bb5TqLmXz8KpVb3NcYdJ"
READ_TOKEN = "hf_Rr5TqLmXz8KpVb3NcYdJ"  # alice's too, without the right to write
USERS = {TOKEN: USER, BOBS_TOKEN: "bob", READ_TOKEN: USER}
NOBODY = "Invalid credentials in Authorization header"
Files = dict[str, bytes]


class Commit(NamedTuple):
    """One commit after the first, empty one."""

    oid: str
    summary: str
    files: Files  # all that the branch holds then
    branch: str


@dataclass
class Repository:
    """A repository with its history."""

    private: bool
    commits: list[Commit] = field(default_factory=list)
    trees: dict[str, Files] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    tags: dict[str, str] = field(default_factory=dict)
    sdk: str | None = None
    locked: set[str] = field(default_factory=set)  # branches that nobody may write to

    @property
    def files(self) -> Files:
        """What main holds."""
        return self.trees[self.branches["main"]]

    def find(self, revision: str) -> str | None:
        """The commit of a branch, a tag or a commit."""
        return self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.trees else None)

    def commit(self, branch: str, summary: str, files: Files) -> str:
        """Add a commit."""
        oid = hashlib.sha1(f"{branch}{summary}{len(self.trees)}".encode()).hexdigest()
        self.trees[oid] = files
        self.branches[branch] = oid
        self.commits.append(Commit(oid, summary, files, branch))
        return oid


class Answer(NamedTuple):
    """Of the server."""

    status: int
    body: Any
    headers: dict[str, str] = {}


@dataclass
class Fault:
    """What happens to the next requests that fit, instead of an answer."""

    pattern: str  # of "METHOD /path"
    times: int
    status: int | None = None  # None: the line is cut
    message: str = "Internal Error"


def refuse(status: int, message: str, code: str | None = None) -> Answer:
    """An error as the Hub words it."""
    return Answer(status, {"error": message}, {"x-error-message": message, **({"x-error-code": code} if code else {})})


def hash_blob(content: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer:
    """`with HubServer() as hub:` serves until the block ends; `hub.models` and its like are what a visitor would find."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Repository]] = {"models": {}, "datasets": {}, "spaces": {}}
        self.large: dict[str, bytes] = {}  # files of LFS by SHA-256
        self.requests: list[str] = []
        self.faults: list[Fault] = []
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

    @property
    def models(self) -> dict[str, Repository]:
        return self.repositories["models"]

    @property
    def datasets(self) -> dict[str, Repository]:
        return self.repositories["datasets"]

    @property
    def spaces(self) -> dict[str, Repository]:
        return self.repositories["spaces"]

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Log this process in here; the library read its environment when it was imported, which was long ago."""
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)

    def fail(self, pattern: str, times: int = 1, status: int | None = None, message: str = "Internal Error") -> None:
        """Let the next requests that fit end badly."""
        self.faults.append(Fault(pattern, times, status, message))

    def count(self, pattern: str) -> int:
        """How many requests fitted."""
        return sum(re.search(pattern, request) is not None for request in self.requests)

    def take_fault(self, request: str) -> Fault | None:
        """The fault that is due for a request."""
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, request):
                fault.times -= 1
                return fault
        return None

    # -- answers -----------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, token: str, content: bytes) -> Answer:
        """Answer a request."""
        if path.startswith("/lfs/"):
            return self._answer_large(method, path.removeprefix("/lfs/"), content)
        if path == "/api/validate-yaml":
            return self._validate(json.loads(content)["content"])
        user = USERS.get(token)
        if user is None and (token or path in ("/api/whoami-v2", "/api/repos/create")):
            answer = refuse(401, NOBODY)
        elif path == "/api/whoami-v2":
            answer = Answer(200, {"type": "user", "name": user, "orgs": []})
        elif path == "/api/repos/create":
            answer = self._create(str(user), token, json.loads(content))
        else:
            answer = self._answer_repository(path, user, token, content)
        return answer

    def _answer_repository(self, path: str, user: str | None, token: str, content: bytes) -> Answer:
        kinds, names = "(models|datasets|spaces)", r"([\w.-]+/[\w.-]+?)"
        known = re.fullmatch(rf"/api/{kinds}/{names}(?:/(.+))?", path) or re.fullmatch(
            rf"/(?:{kinds}/)?{names}(?:\.git)?/(resolve/.+|info/lfs/objects/batch)", path
        )
        if known is None:
            return refuse(404, f"No such page {path}")
        kind, name, rest = known[1] or "models", known[2], known[3] or ""
        repository = self.repositories[kind].get(name)
        owned = name.startswith(f"{user}/")
        if repository is None or (repository.private and not owned):
            return refuse(404 if user else 401, "Repository not found", "RepoNotFound")
        action, _, place = rest.partition("/")
        if action in ("preupload", "commit", "branch", "tag", "settings", "info") and (not owned or token == READ_TOKEN):
            return refuse(403, "You need a token with the right to write: this one may only read")
        at_revision = action in ("resolve", "tree", "preupload", "commit", "revision", "tag")
        revision = unquote(place.split("/")[0]) if at_revision else "main"
        oid = repository.find(revision)
        if oid is None:
            return refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        file, files = unquote(place.partition("/")[2]), repository.trees[oid]
        actions: dict[str, Callable[[], Answer]] = {
            "": lambda: self._describe(name, repository, oid),
            "revision": lambda: self._describe(name, repository, oid),
            "refs": lambda: self._list_refs(repository),
            "tree": lambda: self._list_tree(files, file),
            "resolve": lambda: self._resolve(files, file, oid),
            "settings": lambda: self._set(repository, json.loads(content)),
            "branch": lambda: self._branch(repository, unquote(place)),
            "tag": lambda: self._tag(repository, json.loads(content)["tag"], oid),
            "preupload": lambda: self._preupload(files, json.loads(content)["files"]),
            "commit": lambda: self._commit(kind, name, repository, revision, content),
            "info": lambda: self._offer_upload(json.loads(content)["objects"]),
        }
        return actions[action]() if action in actions else refuse(404, f"No such page {rest}")

    def _describe(self, name: str, repository: Repository, oid: str) -> Answer:
        siblings = [{"rfilename": path} for path in repository.trees[oid]]
        return Answer(200, {"id": name, "private": repository.private, "sha": oid, "siblings": siblings, "tags": []})

    def _set(self, repository: Repository, body: dict[str, Any]) -> Answer:
        repository.private = body["visibility"] == "private"
        return Answer(200, {})

    def _branch(self, repository: Repository, branch: str) -> Answer:
        if branch in repository.branches:
            return refuse(409, "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        return Answer(200, {})

    def _tag(self, repository: Repository, tag: str, oid: str) -> Answer:
        repository.tags[tag] = oid
        return Answer(200, {})

    def _create(self, user: str, token: str, body: dict[str, Any]) -> Answer:
        name, kind = f"{body.get('organization') or user}/{body['name']}", f"{body.get('type', 'model')}s"
        if not name.startswith(f"{user}/") or token == READ_TOKEN:
            return refuse(403, f"You don't have the rights to create a {kind[:-1]} under this namespace")
        place = {"url": f"{self.url}/{'' if kind == 'models' else kind + '/'}{name}", "name": name}
        if name in self.repositories[kind]:
            return Answer(409, {"error": f"You already created this {kind[:-1]} repo", **place})
        private = bool(body.get("private") or body.get("visibility") == "private")
        self.repositories[kind][name] = Repository(private, sdk=body.get("sdk"))
        return Answer(200, place)

    def _validate(self, card: str) -> Answer:
        front = re.match(r"---\n(.*?)\n---", card, flags=re.DOTALL)
        try:
            yaml.safe_load(front[1] if front else "")
        except yaml.YAMLError as error:
            return Answer(400, {"errors": [{"message": str(error)}], "warnings": []})
        return Answer(200, {"errors": [], "warnings": []})

    def _list_refs(self, repository: Repository) -> Answer:
        def show(kind: str, refs: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in refs.items()]

        body = {"branches": show("heads", repository.branches), "tags": show("tags", repository.tags), "converts": []}
        return Answer(200, body)

    def _list_tree(self, files: Files, folder: str) -> Answer:
        found = [path for path in files if not folder or path.startswith(f"{folder}/")]
        if folder and not found:
            return refuse(404, f"{folder} does not exist", "EntryNotFound")
        entries = [{"type": "file", "path": path, "size": len(files[path]), "oid": hash_blob(files[path])} for path in found]
        return Answer(200, entries)

    def _resolve(self, files: Files, file: str, oid: str) -> Answer:
        if file not in files:
            refused = refuse(404, "Entry not found", "EntryNotFound")
            return refused._replace(headers={**refused.headers, "x-repo-commit": oid})
        tag = f'"{hash_blob(files[file])}"'
        return Answer(200, files[file], {"x-repo-commit": oid, "etag": tag, "accept-ranges": "none"})

    def _preupload(self, files: Files, asked: list[dict[str, Any]]) -> Answer:
        answers = []
        for one in asked:
            path, large = one["path"], one["path"].endswith((".safetensors", ".png"))
            oid = None
            if path in files:
                oid = hashlib.sha256(files[path]).hexdigest() if large else hash_blob(files[path])
            answers.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
        return Answer(200, {"files": answers})

    def _offer_upload(self, objects: list[dict[str, Any]]) -> Answer:
        offers: list[dict[str, Any]] = []
        for one in objects:
            oid = one["oid"]
            actions = {"upload": {"href": f"{self.url}/lfs/{oid}"}, "verify": {"href": f"{self.url}/lfs/verify"}}
            known = oid in self.large
            offers.append({"oid": oid, "size": one["size"], **({} if known else {"actions": actions})})
        return Answer(200, {"transfer": "basic", "objects": offers})

    def _answer_large(self, method: str, oid: str, content: bytes) -> Answer:
        if method == "PUT":
            if hashlib.sha256(content).hexdigest() != oid:
                return refuse(400, "The content is not what its name says")
            self.large[oid] = content
            return Answer(200, {})
        return Answer(200, {}) if json.loads(content)["oid"] in self.large else refuse(404, "No such file")

    def _commit(self, kind: str, name: str, repository: Repository, branch: str, content: bytes) -> Answer:
        if branch not in repository.branches or branch in repository.locked:
            return refuse(403, f"{branch} cannot be written to")
        lines = [json.loads(line) for line in content.splitlines()]
        files = dict(repository.trees[repository.branches[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.large:
                    return refuse(400, f"{value['path']} was not uploaded")
                files[value["path"]] = self.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(branch, lines[0]["value"]["summary"], files)
        url = f"{self.url}/{'' if kind == 'models' else kind + '/'}{name}/commit/{oid}"
        return Answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _read(self) -> Iterator[bytes]:
                if self.headers.get("transfer-encoding", "") != "chunked":
                    yield self.rfile.read(int(self.headers.get("content-length", 0)))
                    return
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def do_POST(self) -> None:
                path = self.path.split("?")[0]
                hub.requests.append(f"{self.command} {path}")
                fault = hub.take_fault(hub.requests[-1])
                if fault is not None and fault.status is None:
                    self.rfile.read(1000)  # cut in the middle of what the client sends
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                content = b"".join(self._read())
                token = self.headers.get("authorization", "").removeprefix("Bearer ")
                if fault is not None and fault.status is not None:
                    self._send(refuse(fault.status, fault.message))
                else:
                    self._send(hub.answer(self.command, path, token, content))

            def _send(self, answer: Answer) -> None:
                binary = isinstance(answer.body, bytes)
                data = answer.body if binary else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                kind = "application/octet-stream" if binary else "application/json"
                for name, value in {"content-type": kind, "content-length": str(len(data)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_HEAD = do_PUT = do_POST

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler
