"""The hub is asked by "hub:owner/name" alone, and only for files that hold no programs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gymnasium.error import DependencyNotInstalled

from lssvwm_rl.model import hub
from lssvwm_rl.model.checkpoint_files import CONTEXTS, resolve_checkpoint
from lssvwm_rl.model.checkpoints import fingerprint, load_contexts
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import untrained_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# Runs in a process of its own, since huggingface_hub reads its settings when it is imported.
USE = """
import sys
from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from lssvwm_rl.model.checkpoints import fingerprint, load_contexts, load_world_model
name = sys.argv[1]
print(resolve_checkpoint(name))
print(fingerprint(load_world_model(name)), len(load_contexts(name)))
"""


class Endpoint(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as a download needs; `folder` is the one model that there is."""

    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        files = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*") if p.is_file()}
        path = self.path.split("?")[0]
        if path.startswith("/api/models/owner/name/revision/"):
            model = {"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            return self._answer(json.dumps(model).encode(), "application/json")
        if path == f"/api/models/owner/name/tree/{COMMIT}":
            sizes = {name: {"type": "file", "path": name, "size": p.stat().st_size} for name, p in files.items()}
            tree = [{**about, "oid": hashlib.sha1(name.encode()).hexdigest()} for name, about in sizes.items()]
            return self._answer(json.dumps(tree).encode(), "application/json")
        file = self.folder / self.path.split(f"{COMMIT}/", 1)[-1]
        if self.path.startswith(f"/owner/name/resolve/{COMMIT}/") and file.is_file():
            return self._answer(file.read_bytes(), "application/octet-stream")
        self.send_error(404)

    do_HEAD = do_GET

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


@pytest.fixture
def served(tmp_path):
    """A checkpoint with programs among its files, the endpoint that offers it, and what that was asked for."""
    folder = tmp_path / "offered"
    untrained_checkpoint(folder)
    for name in ("run.py", "weights.bin", "weights.pkl", "contexts/setup.py", "notes.md"):
        (folder / name).write_text("raise SystemExit('code')")
    handler = type("Offered", (Endpoint,), {"folder": folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    server.server_close()
    thread.join()


def use(name: str, cache: Path, **settings: str) -> subprocess.CompletedProcess:
    own = {"HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **settings}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_PROXY": "127.0.0.1", **own}
    return subprocess.run(
        [sys.executable, "-c", USE, name], env=environment, cwd=cache.parent, capture_output=True, text=True
    )


def test_a_model_of_the_hub_is_a_checkpoint_without_programs(served, tmp_path):
    offered, address, asked = served
    done = use("hub:owner/name", tmp_path / "cache", HF_ENDPOINT=address)
    assert done.returncode == 0, done.stderr[-3000:]
    folder, *said = done.stdout.split()
    assert said == [fingerprint(WorldModel.from_pretrained(offered)), str(len(load_contexts(offered)))]
    got = {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}
    offers = {path.relative_to(offered).as_posix() for path in offered.rglob("*") if path.is_file()}
    left_out = {"run.py", "weights.bin", "weights.pkl", "contexts/setup.py", "notes.md"}
    assert offers - got - {f"{CONTEXTS}/.lock"} == left_out and got < offers
    assert not any(name in path for path in asked for name in left_out), "nor were they asked for"
    # What was downloaded is there without the network.
    again = use("hub:owner/name", tmp_path / "cache", HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert again.stdout == done.stdout
    missing = use("hub:owner/other", tmp_path / "cache", HF_ENDPOINT=address)
    assert "FileNotFoundError: The hub refused owner/other with status 404 (" in missing.stderr


def test_other_names_do_not_reach_the_network(served, tmp_path):
    _, address, asked = served
    for name in ("owner/name", "./hub:owner/name"):
        done = use(name, tmp_path / "cache", HF_ENDPOINT=address)
        assert "FileNotFoundError: There is no checkpoint" in done.stderr
        assert ("or hub:owner/name if it is a model" in done.stderr) == (name == "owner/name")
    assert asked == []


@pytest.mark.parametrize(
    "name",
    [
        "hub:",
        "hub:name",
        "hub:../name",
        "hub:a/b/c",
        "hub:a/..",
        "hub:https://x/y",
        "hub:a/b?",
        "hub:a/b@",
        "hub:a/b@../c",
    ],
)
def test_names_that_the_hub_cannot_have_are_refused(name):
    with pytest.raises(ValueError, match="names no model of the hub; write hub:owner/name"):
        resolve_checkpoint(name)


def test_a_model_that_is_no_checkpoint_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "_download", lambda model, revision: tmp_path)
    with pytest.raises(FileNotFoundError, match="hub:a/b holds no checkpoint"):
        resolve_checkpoint("hub:a/b")
    shutil.copytree(resolve_checkpoint("minigrid-memory"), tmp_path, dirs_exist_ok=True)
    assert resolve_checkpoint(Path("hub:a/b")) == tmp_path


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyNotInstalled, match=r"hub:a/b needs huggingface_hub; .*lssvwm-rl\[hub\]"):
        resolve_checkpoint("hub:a/b")
