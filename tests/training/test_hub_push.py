"""What is pushed is one commit of a checkpoint and its card, and it comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import pytest
import yaml

from lssvwm_rl.files import write_text
from lssvwm_rl.model.checkpoint_files import CONTEXTS, ENV_FILE
from lssvwm_rl.model.checkpoints import fingerprint, load_world_model
from lssvwm_rl.training.hub_push import shared_folder
from lssvwm_rl.training.model_card import CARD, CURVE_PICTURE, DREAM_PICTURE
from support.fake_hub import READER, TOKEN, Repo, run_commands, serving
from support.small_models import untrained_checkpoint

CURVE = (
    "step,minutes,frames_per_second,frame,total,memory_reward_accuracy\n20,0.1,90,2,2.5,nan\n40,0.2,90,1,1.25,0.75\n"
)


@pytest.fixture
def run(tmp_path) -> Path:
    """A run as `train` leaves it, with what it needs no one else to have."""
    folder = tmp_path / "run"
    untrained_checkpoint(folder)
    settings = {"data": "/home/someone/data/keys", "episodes_of_data": 1234, "steps_of_data": 56789, "weights": None}
    write_text(folder / "config.yaml", yaml.safe_dump({**settings, "train": {"batch_size": 16}}))
    write_text(folder / "learning_curve.csv", CURVE)
    write_text(folder / ENV_FILE, json.dumps({"id": "MiniGrid-MemoryS7-v0", "kwargs": {"size": 7}}))
    write_text(folder / "README.md", "# run\n\nTrained on a Tuesday.\n")
    for name in ("trainer/state.pt", "events.out.tfevents.1", "notes.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not to be shared")
    return folder


def test_the_card_says_what_the_run_says(run, tmp_path):
    names = shared_folder(run, "me/keys", tmp_path / "out", "apache-2.0")
    text = (tmp_path / "out" / CARD).read_text()
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["library_name"] == "lssvwm-rl" and about["license"] == "apache-2.0"
    assert {"gymnasium", "MiniGrid-MemoryS7-v0"} <= set(about["tags"])
    (result,) = about["model-index"][0]["results"]
    assert result["dataset"]["name"] == "MiniGrid-MemoryS7-v0"
    assert result["metrics"] == [{"type": "memory_reward_accuracy", "value": 0.75, "name": "memory reward accuracy"}]
    for line in (
        "| episodes | 1,234 |", "| steps | 56,789 |", "| memory reward accuracy | 0.75 |", "| total | 1.25 |",
        "  batch_size: 16", 'checkpoint="hub:me/keys"', "lssvwm hub pull me/keys", "Trained on a Tuesday.",
        f"({DREAM_PICTURE})", f"({CURVE_PICTURE})", "frames of 8x8x3 uint8", "`Discrete(4)`",
    ):  # fmt: skip
        assert line in body, line
    assert fingerprint(load_world_model(tmp_path / "out")) in body
    assert "someone" not in text and "someone" not in (tmp_path / "out" / "config.yaml").read_text()
    for name in (DREAM_PICTURE, CURVE_PICTURE):
        assert iio.imread(tmp_path / "out" / name).std() > 5
    there = [p.relative_to(tmp_path / "out").as_posix() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()]
    assert names == there
    assert not any("trainer" in name or name.endswith((".py", ".1", ".pt")) for name in names)


def test_what_is_not_in_a_folder_is_not_in_its_card(tmp_path):
    untrained_checkpoint(tmp_path / "bare")
    shared_folder(tmp_path / "bare", "me/bare", tmp_path / "out")
    text = (tmp_path / "out" / CARD).read_text()
    assert "model-index" not in text and CURVE_PICTURE not in text and "holds no learning curve" in text


def test_links_and_code_are_not_shared(run, tmp_path):
    write_text(run / ENV_FILE, json.dumps({"id": "os:system"}))
    with pytest.raises(ValueError, match="by the code 'os:system'"):
        shared_folder(run, "me/keys", tmp_path / "out")
    write_text(tmp_path / "secret.json", "{}")
    (run / CONTEXTS / "secret.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ValueError, match=r"secret.json is a link, .* replace it by a file"):
        shared_folder(run, "me/keys", tmp_path / "out")
    with pytest.raises(ValueError, match="names a revision"):
        shared_folder(run, "me/keys@main", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pushed_run_comes_back_as_it_was(run, tmp_path):
    with serving() as hub:
        hub.repos["me/public"] = Repo()
        hub.repos["me/public"].commit({"contexts/old.zarr/frames/c/0": b"old", "train.py": b"of its owner"})
        answers = run_commands(hub.address, tmp_path, [
            ("", ["hub", "push", "run", "me/keys"]),
            (READER, ["hub", "push", "run", "other/keys"]),
            ("hf_wrong", ["hub", "push", "run", "me/keys"]),
            (TOKEN, ["hub", "push", "run", "me/public", "--private"]),
            (TOKEN, ["hub", "push", "run", "keys"]),
            (TOKEN, ["hub", "push", "run", "me/keys", "--dry-run", "dry"]),
            (TOKEN, ["hub", "push", "run", "me/keys", "--private"]),
            (TOKEN, ["hub", "push", "run", "me/public"]),
            (TOKEN, ["hub", "pull", "me/keys", "--out", "back"]),
        ])  # fmt: skip
        sentences = (
            "does not know who pushes me/keys; log in with `hf auth login`, or set HF_TOKEN.",
            "The token may not write to other/keys; log in with one that may (`hf auth login`), or choose another",
            "does not know who asks for me/keys; log in with `hf auth login`, or set HF_TOKEN to a token that is valid",
            "me/public is there already and public; choose another name, or leave out --private.",
            "'keys' names no model of the hub",
        )
        for (code, _, error), text in zip(answers, sentences, strict=False):
            assert code == 2 and text in error and error.count("\n") == 1, error
        assert [code for code, _, _ in answers[len(sentences) :]] == [0, 0, 0, 0], answers
        keys, public = hub.repos["me/keys"], hub.repos["me/public"]
        assert keys.private and len(keys.commits) == 2, "all files are one commit"
        assert {"train.py", CARD} <= set(public.commits[public.head])
        assert "contexts/old.zarr/frames/c/0" not in public.commits[public.head]
        pushed = {name for name in keys.commits[keys.head] if name != ".gitattributes"}
    dry = {p.relative_to(tmp_path / "dry").as_posix() for p in (tmp_path / "dry").rglob("*") if p.is_file()}
    assert pushed == dry
    back, own = (fingerprint(load_world_model(folder), exported=True) for folder in (tmp_path / "back", run))
    assert back == own
