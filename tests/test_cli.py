"""The command line: bad input is one sentence and exit code 2; help is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lssvwm_rl.cli import main

BAD = [
    (["fly"], "no command 'fly'"),
    (["collect", "NoSuchEnv-v0", "--out", "{tmp}/s"], "NoSuchEnv"),
    (["collect", "CartPole-v1", "--out", "{tmp}/s"], "holds no image"),
    (["collect", "MiniGrid-MemoryS7-v0", "--out", "{tmp}/s", "--policy", "{tmp}/none"], "No policy at"),
    (["train", "--data", "{tmp}/none", "--out", "{tmp}/run"], "No episode store"),
    (["train", "--data", "{checkpoint}/contexts", "--out", "{tmp}/run", "--backend", "mamba"], "use a CUDA"),
    (["train", "--data", "{checkpoint}/contexts", "--out", "{tmp}/run", "--stream", "--curriculum", "9", "9"], "leave"),
    (["bench", "cost", "--contexts", "150", "--out", "{tmp}/cost"], "multiples of 100"),
    (["dream", "--checkpoint", "{tmp}/none"], "no checkpoint"),
    (["plan", "--checkpoint", "{tmp}/none", "--env", "MiniGrid-MemoryS7-v0"], "no checkpoint"),
    (["plan", "--checkpoint", "{checkpoint}", "--env", "MiniGrid-DoesNotExist-v0"], "DoesNotExist"),
    (["agent", "train", "--checkpoint", "{tmp}/none", "--out", "{tmp}/agent"], "no checkpoint"),
    (["agent", "train", "--checkpoint", "{checkpoint}", "--out", "{tmp}/agent", "--num-envs", "0"], "at least 1"),
    (["agent", "train", "--checkpoint", "{checkpoint}", "--out", "{checkpoint}"], "exists already"),
    (["quickstart", "--checkpoint", "{tmp}/none", "--out", "{tmp}/q"], "no checkpoint"),
]


@pytest.mark.parametrize(("words", "text"), BAD, ids=lambda v: v if isinstance(v, str) else " ".join(v[:2]))
def test_bad_input_is_one_sentence(words, text, tmp_path, checkpoint, capsys):
    with pytest.raises(SystemExit) as stop:
        main([w.format(tmp=tmp_path, checkpoint=checkpoint) for w in words])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert text in error and "Traceback" not in error
    assert words == ["fly"] or error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_help_and_import_stay_light():
    code = "import sys, lssvwm_rl, lssvwm_rl.cli; assert 'torch' not in sys.modules and 'zarr' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    shown = subprocess.run([sys.executable, "-m", "lssvwm_rl", "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "quickstart" in shown.stdout + shown.stderr


def test_dream_writes_a_video_once(checkpoint, tmp_path):
    words = ["dream", "--checkpoint", checkpoint, "--steps", "3", "--out", str(tmp_path / "d.mp4")]
    main([*words, "--context-length", "2"])
    assert (tmp_path / "d.mp4").stat().st_size > 500
    with pytest.raises(SystemExit):
        main(words)
