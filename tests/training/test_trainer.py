"""Training: resuming changes nothing, failures lose nothing."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
import torch
import yaml

from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.data.clips import ClipSampler, StreamSampler, hold_out
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.model.checkpoint_files import CONTEXTS, DOUBT, resolve_checkpoint
from lssvwm_rl.model.checkpoints import check_fits
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.doubt import load_scale, measure_scale
from lssvwm_rl.model.reservoir import ReservoirConfig
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.fit import fit_fixed
from lssvwm_rl.training.objective import ObjectiveConfig
from lssvwm_rl.training.optimizer import load_optimizer
from lssvwm_rl.training.run_folder import CONFIG_FILE, export, steps_of_data
from lssvwm_rl.training.trainer import train
from support.small_models import BACKBONE, DISCRETE, SMALL_RESERVOIR, awake

MODEL = WorldModelConfig(
    frame_shape=(16, 16, 3),
    action_space=DISCRETE,
    grid=(4, 4),
    backbone=BACKBONE,
    feature_size=12,
    head_width=32,
)
CONFIG = TrainConfig(batch_size=2, span=6, steps=6, log_every=1, warmup=2, preview_every=0, decay=0.0, device="cpu")


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    rng = np.random.default_rng(0)
    with EpisodeWriter(tmp_path / "data", StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for length in (4, 9, 6, 3, 7, 5):
            frames = rng.integers(0, 256, (length + 1, 16, 16, 3), np.uint8)
            rewards = rng.random(length, np.float32)
            writer.add(Episode(frames, rng.integers(0, 4, length), rewards, terminated=True, truncated=False))
    return EpisodeStore(tmp_path / "data")


def losses(run) -> list[str]:
    with (run / "learning_curve.csv").open(newline="") as file:
        return [row["total"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("reservoir", [ReservoirConfig(), SMALL_RESERVOIR])
def test_a_resumed_run_equals_one_without_a_break(store, tmp_path, reservoir):
    model = dataclasses.replace(MODEL, reservoir=reservoir)
    whole = train(store, tmp_path / "whole", model, None, CONFIG)
    part = train(store, tmp_path / "part", model, None, dataclasses.replace(CONFIG, steps=3))
    assert len(losses(part)) == 3
    resumed = train(store, tmp_path / "part", model, None, CONFIG)
    assert losses(resumed) == losses(whole) and len(set(losses(whole))) == 6
    for a, b in zip(*(WorldModel.from_pretrained(r).parameters() for r in (whole, resumed)), strict=True):
        assert torch.equal(a, b)


def test_clips_are_drawn_by_episodes_or_by_their_frames(store, tmp_path):
    """A row of the curve per update, so the draws are in the losses: those of a run of the other way differ."""
    runs = {by: train(store, tmp_path / str(by), MODEL, None, _by_length(by)) for by in (False, True)}
    draws = {by: ClipSampler(store, 6, 2, 0, hold_out(store)[0], by_length=by).batch(0) for by in runs}
    assert not torch.equal(draws[False].actions, draws[True].actions)
    assert losses(runs[False]) == losses(train(store, tmp_path / "default", MODEL, None, _by_length(False)))
    assert losses(runs[True])[0] != losses(runs[False])[0]
    with pytest.raises(ValueError, match="leave out either by_length or stream"):
        dataclasses.replace(CONFIG, stream=True, by_length=True)


def _by_length(by: bool) -> TrainConfig:
    return dataclasses.replace(CONFIG, steps=1, by_length=by)


def test_a_run_ends_with_the_scale_of_its_doubt_which_exports_keep(store, tmp_path):
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=2))
    scale = load_scale(run, WorldModel.from_pretrained(run))
    expected = measure_scale(WorldModel.from_pretrained(run), EpisodeStore(run / CONTEXTS))
    assert (run / DOUBT).is_file() and scale is not None
    torch.testing.assert_close(scale.quantiles, expected.quantiles, rtol=1e-3, atol=0)
    export(run, tmp_path / "shared")
    kept = (run / DOUBT).read_text()
    assert (tmp_path / "shared" / DOUBT).read_text() == kept
    train(store, run, MODEL, None, CONFIG)
    assert (run / DOUBT).read_text() != kept, "the weights are others now"


def test_a_reservoir_is_fitted_to_the_data_once_and_never_changes(store, tmp_path):
    model = dataclasses.replace(MODEL, reservoir=SMALL_RESERVOIR)
    run = train(store, tmp_path / "run", model, None, dataclasses.replace(CONFIG, steps=2))
    fitted = WorldModel(model)
    fit_fixed(fitted, store, hold_out(store)[0])
    after = WorldModel.from_pretrained(train(store, run, model, None, CONFIG))
    for name, buffer in fitted.recollection.reservoir.named_buffers():
        assert torch.equal(buffer, dict(after.recollection.reservoir.named_buffers())[name]), name
    assert not torch.equal(fitted.recollection.reservoir.encode, WorldModel(model).recollection.reservoir.encode)
    # Another run that goes on from these weights keeps what they were fitted to.
    other = train(store, tmp_path / "other", model, None, dataclasses.replace(CONFIG, steps=1), weights=run)
    assert torch.equal(
        WorldModel.from_pretrained(other).recollection.reservoir.encode, fitted.recollection.reservoir.encode
    )


def test_training_learns_and_leaves_a_whole_run_folder(store, tmp_path):
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=60, preview_every=60))
    curve = [float(x) for x in losses(run)]
    assert np.mean(curve[-10:]) < 0.8 * np.mean(curve[:10])
    names = {p.name for p in run.iterdir()}
    assert {"config.yaml", "config.json", "model.safetensors", "contexts", "trainer", "preview.mp4"} <= names
    assert any(name.startswith("events.out") for name in names)
    assert len(EpisodeStore(run / "contexts")) >= 1


def test_a_run_can_start_from_other_weights(store, tmp_path):
    first = train(store, tmp_path / "a", MODEL, None, dataclasses.replace(CONFIG, steps=3))
    config = dataclasses.replace(CONFIG, steps=1, learning_rate=1e-12)
    second = train(store, tmp_path / "b", MODEL, None, config, weights=first)
    for a, b in zip(*(WorldModel.from_pretrained(run).parameters() for run in (first, second)), strict=True):
        torch.testing.assert_close(a, b)
    assert steps_of_data(second) == 2 * steps_of_data(first) == 2 * int(store.lengths.sum())
    again = train(
        store, tmp_path / "e", MODEL, None, config, weights=first, seen=7
    )  # a store that holds the first one's
    assert steps_of_data(again) == 7 + int(store.lengths.sum())
    moved = train(store, tmp_path / "d", dataclasses.replace(MODEL, noise_shift=1.0), None, config, weights=first)
    assert WorldModel.from_pretrained(moved).config.noise_shift == 1.0, "which shapes no weights"
    for other in ({"feature_size": 16}, {"shortcut": True}):
        with pytest.raises(ValueError, match=next(iter(other))):
            train(store, tmp_path / "c", dataclasses.replace(MODEL, **other), None, config, weights=first)
    assert not (tmp_path / "c").exists()


def test_other_runs_and_broken_states_are_refused(store, tmp_path):
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=1))
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="train.batch_size 2, not 3"):
        train(store, run, MODEL, None, dataclasses.replace(CONFIG, batch_size=3))
    with pytest.raises(ValueError, match="is not empty and not a run"):
        train(store, store.path, MODEL, None, CONFIG)
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    (run / "trainer" / "state.pt").write_bytes(b"half")
    with pytest.raises(ValueError, match="state.pt is broken"):
        train(store, run, MODEL, None, CONFIG)


def test_a_run_of_a_version_without_a_setting_goes_on_with_its_default(store, tmp_path):
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=1))
    lines = (run / "config.yaml").read_text().splitlines(keepends=True)
    write_checked(run / "config.yaml", "".join(line for line in lines if not line.strip().startswith("stream:")))
    assert len(losses(train(store, run, MODEL, None, dataclasses.replace(CONFIG, steps=2)))) == 2
    write_checked(run / "config.yaml", "".join(line for line in lines if not line.strip().startswith("stream:")))
    with pytest.raises(ValueError, match="train.stream False, not True"):
        train(store, run, MODEL, None, dataclasses.replace(CONFIG, stream=True))


def test_a_run_of_version_0_1_goes_on(store, tmp_path):
    """Its config.yaml had the objective among the model's settings, and some weights had other names."""
    whole = train(store, tmp_path / "whole", MODEL, None, CONFIG)
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=3))
    config = yaml.safe_load((run / CONFIG_FILE).read_text())
    asked = config.pop("objective")
    del asked["noise_shift"], asked["tau_floor"]
    config["model"] |= {"readout_size": config["model"].pop("feature_size"), "objective": asked.pop("name"), **asked}
    write_checked(run / CONFIG_FILE, yaml.safe_dump(config))
    state = torch.load(run / "trainer" / "state.pt", weights_only=True)
    names = {"token_features.": "token_readout.", "feature_mlp.": "readout_mlp."}
    for part in ("model", "ema"):
        for new, old in names.items():
            state[part] = {name.replace(new, old): weight for name, weight in state[part].items()}
    torch.save(state, run / "trainer" / "state.pt")
    assert losses(train(store, run, MODEL, None, CONFIG)) == losses(whole)
    config["model"]["recall_weight"] = 2.0
    write_checked(run / CONFIG_FILE, yaml.safe_dump(config))
    with pytest.raises(ValueError, match="objective.recall_weight 2.0, not 4.0"):
        train(store, run, MODEL, None, CONFIG)


def without(state: dict, k: int) -> dict:
    """An optimizer's state without the parameter of number k."""
    kept = {i - (i > k): part for i, part in state["state"].items() if i != k}
    groups = [{**g, "params": [i - (i > k) for i in g["params"] if i != k]} for g in state["param_groups"]]
    return {"state": kept, "param_groups": groups}


@pytest.mark.parametrize("reservoir", [ReservoirConfig(), SMALL_RESERVOIR])
def test_a_run_of_a_version_whose_rewards_knew_of_no_ends_goes_on(store, tmp_path, reservoir):
    model, name = dataclasses.replace(MODEL, reservoir=reservoir), "reward_head.ended"
    whole = train(store, tmp_path / "whole", model, None, CONFIG)
    run = train(store, tmp_path / "run", model, None, dataclasses.replace(CONFIG, steps=1))
    state = torch.load(run / "trainer" / "state.pt", weights_only=True)
    shapes = sorted(WorldModel(model).named_parameters(), key=lambda named: named[1].ndim < 2)
    state["optimizer"] = without(state["optimizer"], [named for named, _ in shapes].index(name))
    del state["model"][name], state["ema"][f"module.{name}"]
    if reservoir.blocks:
        state["rehearsal"]["optimizer"] = without(state["rehearsal"]["optimizer"], 0)
    torch.save(state, run / "trainer" / "state.pt")
    ours, theirs = ([float(x) for x in losses(path)] for path in (whole, train(store, run, model, None, CONFIG)))
    assert theirs == pytest.approx(ours, rel=1e-3)  # the first update leaves `ended` nearly at zero
    assert WorldModel.from_pretrained(run).get_parameter(name).any()


def test_an_optimizer_goes_on_with_a_parameter_more():
    def moved(known: list[torch.Tensor], new: torch.Tensor | None) -> list[torch.Tensor]:
        optimizer = torch.optim.AdamW([{"params": known[:1]}, {"params": known[1:]}], lr=0.1)
        for k in range(4):
            if k == 2 and new is not None:
                state = optimizer.state_dict()
                optimizer = torch.optim.AdamW([{"params": known[:1]}, {"params": [known[1], new, known[2]]}], lr=0.1)
                load_optimizer(optimizer, state, new)
            for i, parameter in enumerate(known):
                parameter.grad = torch.full_like(parameter, float((i + 1) ** k))
            optimizer.step()
        return known

    plain, joined = ([torch.nn.Parameter(torch.ones(2 + i)) for i in range(3)] for _ in range(2))
    new = torch.nn.Parameter(torch.zeros(7))
    assert all(torch.equal(a, b) for a, b in zip(moved(plain, None), moved(joined, new), strict=True))


def test_the_precision_of_a_run_is_what_it_computes_in(store, tmp_path):
    runs = {p: dataclasses.replace(CONFIG, precision=p, steps=3) for p in ("32-true", "bf16-mixed")}
    full, mixed = (losses(train(store, tmp_path / p, MODEL, None, config)) for p, config in runs.items())
    assert full != mixed and [float(x) for x in mixed] == pytest.approx([float(x) for x in full], rel=0.05)


def test_an_exported_checkpoint_is_small_and_predicts_alike(store, tmp_path):
    run = train(store, tmp_path / "run", MODEL, None, dataclasses.replace(CONFIG, steps=2))
    export(run, tmp_path / "out")
    with pytest.raises(FileExistsError):
        export(run, tmp_path / "out")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (run, tmp_path / "out")]
    assert sizes[1] < 0.6 * sizes[0]
    frames = torch.from_numpy(store[1].frames)[None]
    actions = torch.zeros(1, frames.shape[1], dtype=torch.int64)
    readouts = [
        m.observe(m.initial_memory(1), frames, actions)[1].features
        for m in (WorldModel.from_pretrained(run), WorldModel.from_pretrained(tmp_path / "out"))
    ]
    # Weights are rounded to the 11 bits of fp16, 5e-4; a few layers near the identity leave it at that.
    torch.testing.assert_close(readouts[0], readouts[1], rtol=0.02, atol=0.02)


def test_checkpoints_are_found_or_named(tmp_path):
    assert resolve_checkpoint("minigrid-memory").name == "minigrid-memory"
    with pytest.raises(FileNotFoundError, match="no checkpoint 'runz'.*minigrid-memory"):
        resolve_checkpoint("runz")
    with pytest.raises(FileNotFoundError, match="no finished checkpoint"):
        resolve_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="frames of shape"):
        check_fits(MODEL, (8, 8, 3), DISCRETE, "that env")
    with pytest.raises(ValueError, match="action space"):
        check_fits(MODEL, (16, 16, 3), {"type": "Discrete", "n": 9, "start": 0}, "that env")


@pytest.mark.parametrize("kind", ["block_ssm", "causal"])
def test_a_resumed_stream_goes_on_with_its_memory(store, tmp_path, kind):
    model = dataclasses.replace(MODEL, backbone=dataclasses.replace(BACKBONE, kind=kind))
    config = dataclasses.replace(CONFIG, stream=True, span=3)
    whole = train(store, tmp_path / "whole", model, None, config)
    # At the break both rows are in the middle of an episode, so that the next update needs the saved memory.
    assert not StreamSampler(store, 3, 2, CONFIG.seed, hold_out(store)[0]).batch(4).first[:, 0].any()
    part = train(store, tmp_path / "part", model, None, dataclasses.replace(config, steps=4))
    assert losses(train(store, part, model, None, config)) == losses(whole)
    clips = train(store, tmp_path / "clips", model, None, dataclasses.replace(config, stream=False))
    assert losses(clips) != losses(whole)


def test_stages_and_activation_checkpointing(store, tmp_path):
    config = dataclasses.replace(CONFIG, curriculum=((2, 2), (3, 1)))
    assert [config.span_at(step) for step in range(5)] == [2, 2, 3, 6, 6]
    plain = train(store, tmp_path / "plain", MODEL, None, config)
    again = train(store, tmp_path / "again", MODEL, None, dataclasses.replace(config, activation_checkpointing=True))
    # The same sums in the same order; what is computed anew gives the same numbers.
    assert [float(x) for x in losses(again)] == pytest.approx([float(x) for x in losses(plain)], rel=1e-4)
    refused = (
        ({"curriculum": ((1, 5),)}, "at least 2 frames"),
        ({"stream": True}, "leave out either"),
    )
    for changes, message in refused:
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(config, **changes)


@pytest.mark.parametrize("objective", ["two_stream", "mix"])
def test_shortcut_training_runs_and_the_number_of_steps_is_heard(store, tmp_path, objective):
    model = dataclasses.replace(MODEL, shortcut=True)
    run = train(store, tmp_path / "run", model, ObjectiveConfig(name=objective), CONFIG)
    trained = WorldModel.from_pretrained(run)

    def frames(steps):
        noise = [torch.Generator().manual_seed(0)]
        return trained.imagine(trained.initial_memory(1), torch.tensor([0]), noise, steps).frame

    awake(trained)  # after so few updates the zeros it started with would hide the condition
    before = {steps: frames(steps) for steps in (1, 2, 3, 4, 8)}
    with torch.no_grad():
        trained.step_embedding.weight[1].add_(5)  # of schedules with 2 and 3 steps
    changed = [steps for steps, frame in before.items() if not torch.equal(frame, frames(steps))]
    assert changed == [2, 3]
