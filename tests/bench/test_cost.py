"""The cost of kinds: constant where memory is constant, growing where it grows; figures that can be read."""

from __future__ import annotations

import json

import pytest

from lssvwm_bench.protocols.cost import CostBench, measure_costs
from lssvwm_rl.cli import main

SMALL = {"frame": 16, "spans": (2, 4), "batch": 1, "denoise_steps": 1, "repeats": 1}


def test_memory_is_constant_but_for_the_cache_of_all_frames():
    results = measure_costs(CostBench(kinds=("block_ssm", "causal"), contexts=(100, 300), **SMALL))
    ours, causal = ([d["memory_bytes"] for d in results[kind]["dream"]] for kind in ("block_ssm", "causal"))
    assert ours[0] == ours[1]
    layers, width, tokens = results["causal"]["layers"], 128, 4
    assert causal[1] - causal[0] == 200 * layers * 2 * tokens * width * 4
    for result in results.values():
        assert result["prefill_frames_per_s"] > 0
        assert [t["span"] for t in result["train"]] == [2, 4]
        assert all(0 < t["gemm_share"] < 1 for t in result["train"])


def test_the_command_writes_figures_table_and_plot_once(tmp_path, capsys):
    out = tmp_path / "cost"
    words = ["bench", "cost", "--kinds", "window", "--contexts", "100", "--frame", "16", "--spans", "2", "--batch", "1"]
    words += ["--denoise-steps", "1", "--repeats", "1", "--out", str(out)]
    main(words)
    assert json.loads((out / "cost.json").read_text())["results"]["window"]["dream"][0]["context"] == 100
    assert (out / "cost.md").read_text() in capsys.readouterr().out
    assert (out / "cost.png").stat().st_size > 5000
    with pytest.raises(SystemExit):
        main(words)
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "said"), [({"kinds": ("rnn",)}, "rnn"), ({"contexts": (150,)}, "multiples of 100")])
def test_bad_settings_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        measure_costs(CostBench(**change))
