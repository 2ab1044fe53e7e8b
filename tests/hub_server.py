"""A stand-in of the hub on this machine: as much of its HTTP interface as push and pull need.

Repositories, commits, tags and large files (git LFS over HTTP; *.safetensors, as on the hub) in
memory. What a client may not do is answered with the hub's own codes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "x" * 34


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Repo:
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by their hash
    refs: dict[str, str] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)

    def commit(self, files: dict[str, bytes]) -> str:
        before = self.commits.get(self.refs.get("main", ""), {})
        name = hashlib.sha1(repr([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[name] = {**before, **files}
        self.refs["main"] = name
        return name


@dataclass
class HubServer:
    """The hub's state, and what is to go wrong with it."""

    address: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # by their SHA-256
    requests: list[str] = field(default_factory=list)
    broken: str = ""  # requests that match this pattern are refused


class Answer(Exception):  # noqa: N818 - it is one
    """Ends a request."""

    def __init__(self, code: int, body: Any = b"", **headers: str) -> None:
        self.code, self.headers = code, headers
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *arguments: object) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        request = f"{self.command} {url.path}"
        self.data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.hub.requests.append(request)
        try:
            if self.hub.broken and re.search(self.hub.broken, request):
                raise Answer(400, {"error": "out of order"})  # 500 is tried again for long
            for pattern, answer in ROUTES.items():
                if match := re.fullmatch(pattern, request):
                    answer(self, *map(unquote, match.groups()))
            raise Answer(404)
        except Answer as answer:
            self.send_response(answer.code)
            for name, value in answer.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    do_HEAD = do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the names http.server asks for

    # -- who and where ---------------------------------------------------------------------

    @property
    def knows_you(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repo(self, name: str, *, write: bool = False) -> Repo:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.knows_you):
            code = 404 if self.knows_you else 401
            raise Answer(code, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        if write:
            self.login()
        return repo

    def login(self) -> None:
        if not self.knows_you:
            raise Answer(401, {"error": "Invalid username or password."})

    def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repo = self.repo(name)
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            raise Answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return commit, repo.commits[commit]

    # -- what is asked ---------------------------------------------------------------------

    def front_page(self) -> None:
        raise Answer(200)

    def create(self) -> None:
        self.login()
        asked = json.loads(self.data)
        name = f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.address}/{name}"
        if asked["organization"] != "ann":
            raise Answer(403, {"error": "You don't have the rights to create a model here"})
        if name in self.hub.repos:
            raise Answer(409, {"url": url, "error": "You already created this model repo"})
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repos[name] = Repo(private=bool(private))
        self.hub.repos[name].commit({})
        raise Answer(200, {"url": url})

    def refs(self, name: str) -> None:
        repo = self.repo(name)

        def listed(names: set[str], kind: str) -> list[dict[str, str]]:
            return [
                {"name": ref, "ref": f"refs/{kind}/{ref}", "targetCommit": repo.refs[ref]}
                for ref in names
            ]

        branches = listed(set(repo.refs) - repo.tags, "heads")
        raise Answer(200, {"branches": branches, "tags": listed(repo.tags, "tags"), "converts": []})

    def validate(self) -> None:
        raise Answer(200, {"errors": [], "warnings": []})

    def preupload(self, name: str, _: str) -> None:
        self.repo(name, write=True)
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.data)["files"]
        ]
        raise Answer(200, {"files": modes})

    def large_files(self, name: str) -> None:
        self.repo(name, write=True)
        objects = []
        for asked in json.loads(self.data)["objects"]:
            known = {} if asked["oid"] in self.hub.large else {"actions": {"upload": {
                "href": f"{self.hub.address}/store/{asked['oid']}"}}}  # fmt: skip
            objects.append({**asked, **known})
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.data).hexdigest() != oid:
            raise Answer(400, {"error": "another hash"})
        self.hub.large[oid] = self.data
        raise Answer(200)

    def commit(self, name: str, revision: str) -> None:
        repo = self.repo(name, write=True)
        assert revision == "main"
        files = {}
        for line in map(json.loads, self.data.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        commit = repo.commit(files)
        url = f"{self.hub.address}/{name}/commit/{commit}"
        raise Answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def tag(self, name: str, revision: str) -> None:
        repo = self.repo(name, write=True)
        commit, _ = self.files(name, revision)
        tag = json.loads(self.data)["tag"]
        if tag in repo.refs:
            raise Answer(409, {"error": "Tag reference exists already"})
        repo.refs[tag] = commit
        repo.tags.add(tag)
        raise Answer(200, {})

    def info(self, name: str, revision: str = "main") -> None:
        commit, files = self.files(name, revision)
        siblings = [{"rfilename": file} for file in files]
        private = self.repo(name).private
        answer = {"id": name, "sha": commit, "private": private, "siblings": siblings, "tags": []}
        raise Answer(200, answer)

    def tree(self, name: str, revision: str) -> None:
        _, files = self.files(name, revision)
        entries = []
        for path, data in files.items():
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
            if path.endswith(".safetensors"):
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
            entries.append(entry)
        raise Answer(200, entries)

    def resolve(self, name: str, revision: str, path: str) -> None:
        commit, files = self.files(name, revision)
        if path not in files:
            raise Answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        data = files[path]
        large = path.endswith(".safetensors")
        tag = hashlib.sha256(data).hexdigest() if large else git_hash(data)
        raise Answer(200, data, X_Repo_Commit=commit, ETag=f'"{tag}"')


_REPO = r"([\w.-]+/[\w.-]+)"
ROUTES = {
    r"HEAD /?": _Handler.front_page,
    r"POST /api/repos/create": _Handler.create,
    r"POST /api/validate-yaml": _Handler.validate,
    rf"GET /api/models/{_REPO}/refs": _Handler.refs,
    rf"POST /api/models/{_REPO}/preupload/(.+)": _Handler.preupload,
    rf"POST /{_REPO}\.git/info/lfs/objects/batch": _Handler.large_files,
    r"PUT /store/(\w+)": _Handler.store,
    rf"POST /api/models/{_REPO}/commit/(.+)": _Handler.commit,
    rf"POST /api/models/{_REPO}/tag/(.+)": _Handler.tag,
    rf"GET /api/models/{_REPO}": _Handler.info,
    rf"GET /api/models/{_REPO}/revision/(.+)": _Handler.info,
    rf"GET /api/models/{_REPO}/tree/([^/]+)": _Handler.tree,
    rf"(?:HEAD|GET) /{_REPO}/resolve/([^/]+)/(.+)": _Handler.resolve,
}


@contextlib.contextmanager
def serve_hub() -> Iterator[HubServer]:
    """An empty hub that answers at its `address` until the context ends."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
