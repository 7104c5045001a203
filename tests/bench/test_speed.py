"""The table of speed: turns alternate, rows measure what they say, and both sides compute the same."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lssvwm_bench.speed import accuracy, agents, dreams, limits, peers, trainings
from lssvwm_bench.speed.rows import HEAD, ROWS, Line, Settings, lines_of, table
from lssvwm_bench.stopwatch import interleaved, speedup
from lssvwm_bench.workload import awaken, random_batch, untrained_model
from lssvwm_rl.model.native_engine import bf16_products
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import small_model

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"
TABLE = SPEED / "table.py"
SMALL = {"repeats": 1, "batches": (1, 2), "small_batches": (), "frame": 16, "clips": (1, 2), "prefill": 3}


def settings(checkpoint: str = "minigrid-memory", **changes) -> Settings:
    return Settings(checkpoint=checkpoint, **{**SMALL, **changes})


def test_turns_alternate_and_of_each_the_first_call_does_not_count():
    calls: list[str] = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert "".join(calls) == "aabbaabb" and [len(seconds) for seconds in times.values()] == [2, 2]
    # The machine was slow in the last turn, for both.
    assert speedup([2.0, 2.0, 20.0], [1.0, 1.0, 10.0]) == 2.0


def test_lines_compare_every_way_with_the_first():
    lines = list(lines_of("x", {"old": [0.2, 0.4], "new": [0.1, 0.1]}, 5, "frames", {"new": "exact"}))
    (line,) = lines
    assert (line.before, line.now, line.ratio) == (pytest.approx(0.3), 0.1, pytest.approx(3.0))
    assert line.cells() == ["x", "new", "300.00", "100.00", "3.00x", "50.0 frames", "exact"]
    text = table([*lines, Line("y", "alone")]).splitlines()
    assert text[0] == "| " + " | ".join(HEAD) + " |" and text[-1] == "| y | alone | – | – | – | – | – |"


def test_all_rows_are_there_and_bad_settings_are_named():
    assert set(ROWS) == {"dream", "train", "scan", "prefill", "env", "cem", "ppo", "roofs", "accuracy", "peers"}
    with pytest.raises(ValueError, match="must be at least 1"):
        settings(repeats=0)


def test_dreams_are_compared_with_the_model_itself(checkpoint):
    model = WorldModel.from_pretrained(checkpoint, backend="torch")
    chosen, engines = settings(checkpoint), dreams.engines_of(model, ("torch", "native"))
    for batch in chosen.batches:
        lines = list(dreams.dreams_of("dream", model, engines, batch, chosen))
        assert [line.way for line in lines] == list(engines)
        assert all(int(line.besides.split()[0]) <= 1 and line.ratio and line.ratio > 0 for line in lines)
    assert dreams.engine_named(model, "none of them") is None
    assert dreams.grey_levels(torch.tensor([3, 9], dtype=torch.uint8), torch.tensor([5, 2], dtype=torch.uint8)) == 7


def test_the_context_of_dreams_is_real_where_it_fits(checkpoint):
    model = WorldModel.from_pretrained(checkpoint)
    real, other = dreams.seen(model, 2, checkpoint), dreams.seen(model, 2)
    assert real.frames.tolist() == [dreams.CONTEXT] * 2
    assert not torch.equal(real.features, other.features)


def test_an_update_is_timed_against_the_machine():
    first, native, *bf16 = ROWS["train"](settings())
    assert (first.way, native.way) == ("reference", "native") and first.ratio is None and native.ratio
    assert native.besides.endswith("% of fp32 GEMM") and len(bf16) in (0, 2)


def test_scans_and_mixers_run_backward():
    ways = {**trainings.scans(1, 64), **{f"mixer {name}": run for name, run in trainings.mixers(1, 64).items()}}
    for run in ways.values():
        trainings.backward(run)()
    assert {"transformers", "torch", "mixer transformers", "mixer torch", "mixer native"} <= set(ways)


def test_prefill_ends_with_the_same_memory():
    lines = list(ROWS["prefill"](settings()))
    assert [line.way for line in lines] == ["frame by frame", "one call, torch", "one call, native"]
    model = small_model().double()
    batch = random_batch(model, 1, 3)
    torch.testing.assert_close(
        trainings.by_frame(model, batch).features, trainings.at_once(model, batch).features, rtol=1e-10, atol=1e-10
    )


def test_limits_are_of_the_work_that_is_needed():
    model = untrained_model("tiny", 16, backend="torch").eval()
    memory = model.initial_memory(1)
    with FlopCounterMode(display=False) as counter:
        model.imagine(memory, torch.tensor([0]), dreams.noise(1))
    counted = counter.get_total_flops()
    assert 0.7 * counted < limits.frame_flops(model) < counted
    assert (
        4 * sum(m.weight.numel() for m in model.backbone.layers[0].mlp if hasattr(m, "weight"))
        < (limits.weight_bytes(model))
        < 4 * sum(p.numel() for p in model.parameters())
    )
    assert 1e7 < limits.bandwidth(0.1, 1) < 1e14


def test_the_limit_of_a_dream_is_the_larger_of_two(checkpoint):
    model = WorldModel.from_pretrained(checkpoint, backend="torch")
    widths = dict.fromkeys(limits.SIZES, 1e15)
    chosen = settings(checkpoint, engines=())
    (by_gemm,) = limits.shares(model, 1, 1e6, widths, chosen)
    (by_bytes,) = limits.shares(model, 1, 1e15, dict.fromkeys(widths, 1e6), chosen)
    assert by_gemm.besides.endswith("by GEMM") and by_bytes.besides.endswith("by bandwidth of L2")


def test_children_take_turns_and_say_when_they_cannot(checkpoint, monkeypatch):
    monkeypatch.setattr(agents, "REFERENCE", {})
    monkeypatch.setattr(agents, "FASTEST", {})
    chosen = settings(checkpoint, env_steps=2, baseline=agents.TREE)
    job = {"checkpoint": checkpoint, "num_envs": 2, "steps": 2}
    against, seconds, answers = agents.alternating("env", job, chosen, 1)
    ways = {"reference": 1, "now": 1, **({"native-bf16": 1} if bf16_products() else {})}
    assert against == "the older version" and {way: len(turns) for way, turns in seconds.items()} == ways
    for turns in answers.values():
        assert 0 < turns[0]["inside"] < turns[0]["seconds"]
    child = agents.Child(agents.TREE, "cem", {"checkpoint": "no such checkpoint"})
    with pytest.raises(RuntimeError, match="ended with status 1"):
        child.turn()
    child.close()


def test_accuracy_is_exact_for_the_same_and_not_for_other_noise(checkpoint):
    model = WorldModel.from_pretrained(checkpoint, backend="torch")
    memory = dreams.seen(model, 2, checkpoint)
    steps, again, other = (accuracy.rollout(model.imagine, memory, seed) for seed in (0, 0, 7))
    said = accuracy.differences(steps, again)
    assert "all steps at most 0, mean 0.000; reward 0.0e+00; 0 of 64 decisions" in said
    assert "mean 0.000" not in accuracy.differences(steps, other)
    assert accuracy.relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0])) == pytest.approx(4 / 3)
    exact, mixed = accuracy.gradient("torch", 1, 2, 16), accuracy.gradient("torch", 1, 2, 16, bf16=True)
    assert 1e-4 < accuracy.relative_error(mixed, exact) < 0.2
    assert accuracy.relative_error(accuracy.gradient("native", 1, 2, 16), exact) < 1e-3
    before, after = untrained_model("tiny", 16), awaken(untrained_model("tiny", 16))
    assert not any(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_another_model_is_timed_only_where_its_sources_are(tmp_path):
    (line,) = ROWS["peers"](settings())
    assert line.now is None and "not at hand" in line.besides
    with pytest.raises(ValueError, match="has no sources of DIAMOND"):
        peers.denoiser(tmp_path, 1)
    folder = tmp_path / "src" / "models" / "diffusion"
    folder.mkdir(parents=True)
    (folder.parent / "blocks.py").write_text("from torch.nn import Conv2d\n")
    (folder / "inner_model.py").write_text(
        "from dataclasses import dataclass\nimport torch\nfrom ..blocks import Conv2d\n"
        "@dataclass\nclass InnerModelConfig:\n    img_channels: int\n    num_actions: int\n"
        "class InnerModel(torch.nn.Module):\n"
        "    def __init__(self, config):\n        super().__init__()\n        self.conv = Conv2d(15, 3, 1)\n"
        "    def forward(self, noisy_next_obs, c_noise, obs, act):\n"
        "        return self.conv(torch.cat([noisy_next_obs, obs], 1))\n"
    )
    lines = list(ROWS["peers"](settings(peers=tmp_path, small_batches=(1, 2))))
    assert len(lines) == 2 and all(line.now and line.rate.endswith("frames") for line in lines)


def test_the_script_prints_and_writes_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TABLE), "--rows", "peers", "--out", str(tmp_path / "t.md"), "--threads", "1"])
    runpy.run_path(str(TABLE), run_name="__main__")
    text = (tmp_path / "t.md").read_text()
    assert "| what | way |" in text and text.strip() in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [str(TABLE), "--rows", "nothing"])
    with pytest.raises(ValueError, match="'nothing'.* do not exist; use some of dream"):
        runpy.run_path(str(TABLE), run_name="__main__")


@pytest.mark.slow
def test_onnx_runtime_is_timed_beside_the_engines(onnx_folder, monkeypatch, capsys):
    words = ["--checkpoint", "maze-memory", "--folder", str(onnx_folder), "--turns", "1"]
    monkeypatch.setattr(sys, "argv", ["onnx_graphs.py", *words])
    runpy.run_path(str(SPEED / "onnx_graphs.py"), run_name="__main__")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["| torch", "| native", "| onnxruntime"]
    assert all(float(row[1]) > 0 and int(row[3].rstrip(" |")) <= 1 for row in rows)
