"""A server that answers huggingface_hub as the Hugging Face hub does: the same addresses, statuses, headers and fields.

The shapes are those of the hub's answers to huggingface_hub 2.4 without its Xet storage: create, validate-yaml,
preupload, LFS batch, commit, info, tree and resolve.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_" + "a" * 34
READER = "hf_" + "b" * 34  # may read, and not write

# Runs in a process of its own, since huggingface_hub reads its settings when it is imported.
PROGRAM = """
import contextlib, io, json, os, sys
from lssvwm_rl.cli import main
answers = []
for token, words in json.loads(sys.argv[1]):
    os.environ["HF_TOKEN"] = token
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as stop:
            code = stop.code
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


def run_commands(address: str, folder: Path, commands: Sequence[tuple[str, list[str]]]) -> list[tuple[int, str, str]]:
    """Run `lssvwm` with tokens and words, one after another in one process.

    Args:
        address: of the hub.
        folder: where they run, with the cache of huggingface_hub beside what they write.

    Returns:
        Exit code, stdout and stderr of each.
    """
    own = {"HF_HOME": str(folder / "cache"), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
    own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(list(commands))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **own},
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [(code, out, err) for code, out, err in json.loads(done.stdout.splitlines()[-1])]


@dataclass
class Repo:
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Commit -> files, the newest last."""

    @property
    def head(self) -> str:
        return next(reversed(self.commits))

    def commit(self, files: dict[str, bytes]) -> str:
        text = json.dumps([len(self.commits), {name: hashlib.sha1(data).hexdigest() for name, data in files.items()}])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = files
        return oid


@dataclass
class Hub:
    repos: dict[str, Repo] = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """Files that arrive with a byte changed."""
    asked: list[str] = field(default_factory=list)
    address: str = ""


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".png"))


def tree_entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data)}
    if not is_large(path):
        return {**entry, "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
    lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 132}
    return {**entry, "oid": hashlib.sha1(lfs["oid"].encode()).hexdigest(), "lfs": lfs}


class Endpoint(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._note()
        path = unquote(self.path.split("?")[0])
        if path.startswith("/api/models/"):
            self._info(path.removeprefix("/api/models/"))
        elif "/resolve/" in path:
            self._resolve(*path[1:].split("/resolve/", 1))
        else:
            self._refuse(404, "Sorry, we can't find the page you are looking for.")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._note()
        body, path = self._body(), unquote(self.path.split("?")[0])
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self._token() == READER:
            return self._refuse(403, "Forbidden: you don't have the rights to do this.")
        if self._token() != TOKEN:
            return self._refuse(401, "Invalid credentials in Authorization header")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/preupload/main"):
            files = [file["path"] for file in json.loads(body)["files"]]
            return self._json({"files": [{"path": p, "uploadMode": "lfs" if is_large(p) else "regular",
                                          "shouldIgnore": False, "oid": None} for p in files]})  # fmt: skip
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for each in objects:
                each |= {"actions": {"upload": {"href": f"{self.hub.address}/lfs/{each['oid']}"}}}
            return self._json({"transfer": "basic", "objects": objects})
        if path.startswith("/api/models/") and path.endswith("/commit/main"):
            return self._commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), body)
        self._refuse(404, "Not Found")

    def do_PUT(self) -> None:
        self._note()
        data = self._body()
        assert hashlib.sha256(data).hexdigest() == self.path.removeprefix("/lfs/")
        self.hub.uploaded[self.path.removeprefix("/lfs/")] = data
        self._json({})

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        answer = {"url": f"{self.hub.address}/{name}", "name": name, "id": "6748f1f2c3"}
        if name in self.hub.repos:
            return self._json({"error": "You already created this model repo", **answer}, 409)
        repo = self.hub.repos[name] = Repo(wanted.get("visibility") == "private" or bool(wanted.get("private")))
        repo.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self._json(answer)

    def _commit(self, name: str, body: bytes) -> None:
        repo = self.hub.repos[name]
        files = dict(repo.commits[repo.head])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(files)
        url = f"{self.hub.address}/{name}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _info(self, rest: str) -> None:
        name, _, rest = "/".join(rest.split("/")[:2]), "", "/".join(rest.split("/")[2:])
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self._token() != TOKEN):
            if self._token() is None:  # the hub gives no code, from which the client infers this one over https
                return self._refuse(401, "Invalid username or password.", "RepoNotFound")
            return self._refuse(404, "Repository not found", "RepoNotFound")
        what, _, revision = rest.partition("/")
        commit = repo.head if revision in ("", "main") else revision
        if commit not in repo.commits:
            return self._refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = repo.commits[commit]
        if what == "tree":
            return self._json([tree_entry(path, data) for path, data in files.items()])
        self._json({"_id": "6748f1f2c3", "id": name, "modelId": name, "author": name.split("/")[0], "sha": commit,
            "private": repo.private, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in files],
        })  # fmt: skip

    def _resolve(self, name: str, rest: str) -> None:
        commit, _, path = rest.partition("/")
        data = self.hub.repos[name].commits[commit].get(path)
        if data is None:
            return self._refuse(404, "Entry not found", "EntryNotFound")
        entry = tree_entry(path, data)
        if path in self.hub.changed:
            data = bytes([data[0] ^ 1]) + data[1:]
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        self._answer(data, "application/octet-stream", 200, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _note(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, answer: Any, status: int = 200) -> None:
        self._answer(json.dumps(answer).encode(), "application/json; charset=utf-8", status, {})

    def _refuse(self, status: int, message: str, code: str | None = None) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._answer(json.dumps({"error": message}).encode(), "application/json; charset=utf-8", status, headers)

    def _answer(self, body: bytes, kind: str, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub without models, at its `address`."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Offered", (Endpoint,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
