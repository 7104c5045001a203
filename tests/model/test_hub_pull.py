"""What is pulled is one commit, whole, checked, and without programs; else nothing is there, and one sentence says why.

All through huggingface_hub itself, which asks a server that answers as the hub does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lssvwm_rl.model.checkpoint_files import ENV_FILE, WEIGHTS
from lssvwm_rl.model.checkpoints import fingerprint, load_world_model
from lssvwm_rl.model.hub_pull import HUB_FILE
from support.fake_hub import TOKEN, Repo, run_commands, serving
from support.small_models import untrained_checkpoint

PROGRAMS = ("run.py", "weights.pkl", "pytorch_model.bin", "contexts/setup.py", "notes.md", ".gitattributes")


def files_of(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in found.items() if not name.endswith(".lock")}


@pytest.fixture(scope="module")
def pulls(tmp_path_factory):
    """A hub of models, what commands on them answered by the name of the folder that they should make, and where."""
    tmp = tmp_path_factory.mktemp("pulls")
    untrained_checkpoint(tmp / "offered")
    whole = files_of(tmp / "offered")
    with serving() as hub:
        hub.repos["me/good"] = Repo()
        first = hub.repos["me/good"].commit({**whole, "README.md": b"# First"})
        newest = {name: b"raise SystemExit('code')" for name in PROGRAMS}
        hub.repos["me/good"].commit({**whole, **newest, "README.md": b"# Second"})
        code = b'{"id": "os:system", "kwargs": {}}'
        for name, files, private in (
            ("hidden", whole, True),
            ("empty", {"README.md": b"nothing"}, False),
            ("outside", {**whole, "../outside.json": b"{}"}, False),
            ("code", {**whole, ENV_FILE: code}, False),
            ("torn", {**whole, WEIGHTS: whole[WEIGHTS][:-100]}, False),
        ):
            hub.repos[f"me/{name}"] = Repo(private)
            hub.repos[f"me/{name}"].commit(files)
        (tmp / "there").mkdir()
        wanted = {
            "good": "me/good", "pinned": f"me/good@{first}", "prefixed": "hub:me/good", "revision": "me/good@other",
            "hidden": "me/hidden", "empty": "me/empty", "outside": "me/outside", "code": "me/code", "torn": "me/torn",
            "missing": "me/missing", "word": "good", "there": "me/good",
        }  # fmt: skip
        commands = [("", ["hub", "pull", name, "--out", folder]) for folder, name in wanted.items()]
        commands.append((TOKEN, ["hub", "pull", "me/hidden", "--out", "mine"]))
        dream = ["dream", "--steps", "1", "--context-length", "1", "--out", "dream.mp4", "--checkpoint"]
        named = ("missing", "hidden", "good@other", f"good@{first}")
        commands += [("", [*dream, f"hub:me/{name}"]) for name in named]
        answers = run_commands(hub.address, tmp, commands)
        dreams = ["dream missing", "dream hidden", "dream revision", "dream"]
        yield hub, tmp, dict(zip([*wanted, "mine", *dreams], answers, strict=True)), first
        shutil.rmtree(tmp)


def test_a_pulled_folder_is_the_checkpoint_without_programs(pulls):
    hub, tmp, answers, _ = pulls
    code, said, _ = answers["good"]
    head = hub.repos["me/good"].head
    assert code == 0 and said.splitlines()[-1] == (
        f"me/good as of commit {head[:8]} ({HUB_FILE}) written to good. Next: lssvwm dream --checkpoint good"
    )
    got = files_of(tmp / "good")
    about = json.loads(got.pop(HUB_FILE))
    assert got == {**files_of(tmp / "offered"), "README.md": b"# Second"}
    assert about["model"] == "me/good" and about["commit"] == head and set(about["files"]) == set(got)
    assert fingerprint(load_world_model(tmp / "good")) == fingerprint(load_world_model(tmp / "offered"))
    assert not any(name in asked for asked in hub.asked for name in PROGRAMS), "nor were they asked for"
    assert files_of(tmp / "prefixed")["README.md"] == b"# Second"


def test_a_revision_is_pinned(pulls):
    _, tmp, answers, first = pulls
    assert answers["pinned"][0] == 0
    assert files_of(tmp / "pinned")["README.md"] == b"# First"
    about = json.loads((tmp / "pinned" / HUB_FILE).read_text())
    assert about["commit"] == about["revision"] == first
    # And by its name alone, in the cache of huggingface_hub.
    assert answers["dream"][0] == 0, answers["dream"]
    (snapshot,) = (tmp / "cache").glob(f"hub/*/snapshots/{first}")
    assert (snapshot / WEIGHTS).is_file() and not (snapshot / "README.md").exists()


def test_a_private_model_is_its_owners(pulls):
    _, tmp, answers, _ = pulls
    assert answers["mine"][0] == 0 and (tmp / "mine" / WEIGHTS).is_file()


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("revision", "me/good has no revision 'other'; name a branch, a tag or a whole commit of it."),
        ("hidden", "no model 'me/hidden' on the hub, or it is private; check its name, or log in"),
        ("missing", "no model 'me/missing' on the hub, or it is private; check its name, or log in"),
        ("empty", "me/empty holds no checkpoint (config.json or model.safetensors is missing); choose another."),
        ("outside", "A file of the model is called '../outside.json', which is no plain path; nothing was downloaded."),
        ("code", "names an environment by the code 'os:system', which is not imported"),
        ("torn", "is not whole"),
        ("word", "'good' names no model of the hub; write hub:owner/name."),
        ("there", "there exists already; choose another --out or remove it."),
        ("dream missing", "no model 'me/missing' on the hub, or it is private; check its name, or log in"),
        ("dream hidden", "no model 'me/hidden' on the hub, or it is private; check its name, or log in"),
        ("dream revision", "me/good has no revision 'other'; name a branch, a tag or a whole commit of it."),
    ],
)
def test_what_cannot_be_pulled_is_one_sentence_and_leaves_nothing(pulls, folder, text):
    _, tmp, answers, _ = pulls
    code, _, error = answers[folder]
    assert code == 2 and text in error and error.count("\n") == 1, error
    assert not (tmp / folder).exists() or not list((tmp / folder).iterdir())
    assert not list(tmp.glob(".tmp-*")) and not (tmp.parent / "outside.json").exists()


def test_a_file_that_is_not_what_the_hub_says_is_refused_and_so_is_a_hub_that_is_down(tmp_path):
    untrained_checkpoint(tmp_path / "offered")
    with serving() as hub:
        hub.repos["me/good"] = Repo()
        hub.repos["me/good"].commit(files_of(tmp_path / "offered"))
        for changed in ("config.json", WEIGHTS):  # one of git's, and a large one
            hub.changed = {changed}
            ((code, _, error),) = run_commands(hub.address, tmp_path, [("", ["hub", "pull", "me/good", "--out", "p"])])
            assert code == 2 and f"{changed} is not what the hub says that it is" in error and error.count("\n") == 1
            assert not (tmp_path / "p").exists()
        address = hub.address
    commands = [["hub", "pull", "me/good", "--out", "p"], ["dream", "--checkpoint", "hub:me/good", "--out", "p"]]
    for code, _, error in run_commands(address, tmp_path, [("", words) for words in commands]):
        assert code == 2 and f"The hub at {address} cannot be reached (" in error and error.count("\n") == 1
        assert not (tmp_path / "p").exists()
