"""The world model as a whole: one function for clips and steps, no leaks, training sees what inference sees."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.backbone import Backbone, match_depth
from lssvwm_rl.model.config import KINDS, BackboneConfig, WorldModelConfig
from lssvwm_rl.model.flow import add_noise
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import space_to_json
from lssvwm_rl.training.presets import PRESETS, model_config
from support.small_models import BACKBONE, DISCRETE, awake, random_batch, small_config, small_model

LAYOUTS = [
    *(("block_ssm", blocks) for blocks in ((1,), (2, 4), (1, 2, 4))),
    *((kind, (4, 4)) for kind in ("ssm_local", "ssm", "window", "causal")),
]
ACTION_SPACES = [spaces.Discrete(4, start=2), spaces.MultiDiscrete([3, 4]), spaces.Box(-2, 3, (2,))]


def clip(model, B=2, T=7, seed=0):
    batch = random_batch(model, [T] * B, T, seed)
    return batch.frames, batch.actions, batch.vectors


def assert_memories_close(a, b, **tolerance):
    for name, tensor in a.tensors().items():
        torch.testing.assert_close(tensor, b.tensors()[name], **tolerance, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("vector_size", [0, 3])
@pytest.mark.parametrize(("kind", "blocks"), LAYOUTS)
def test_prefill_equals_single_commits(kind, blocks, vector_size):
    backbone = dataclasses.replace(small_config().backbone, kind=kind, blocks=blocks)
    model = small_model(backbone=backbone, vector_size=vector_size)
    frames, actions, vectors = clip(model)
    memory, whole = model.observe(model.initial_memory(2), frames, actions, vectors)
    step_memory = model.initial_memory(2)
    for t in range(frames.shape[1]):
        one = slice(t, t + 1)
        vector = None if vectors is None else vectors[:, one]
        step_memory, step = model.observe(step_memory, frames[:, one], actions[:, one], vector)
        torch.testing.assert_close(step.features[:, 0], whole.features[:, t], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(step.reward[:, 0], whole.reward[:, t], rtol=1e-4, atol=1e-4)
    assert_memories_close(memory, step_memory, rtol=1e-4, atol=1e-4)
    assert memory.frames.tolist() == [7, 7]


@pytest.mark.parametrize("objective_streams", [1, 2])
@pytest.mark.parametrize(
    ("kind", "block"), [("block_ssm", 1), ("block_ssm", 2), ("block_ssm", 4), ("ssm", 4), ("window", 4), ("causal", 4)]
)
@pytest.mark.parametrize("changed", [1, 3])
def test_no_layer_leaks_from_the_future(kind, block, changed, objective_streams):
    config = BackboneConfig(
        kind, width=16, blocks=(block,), state_size=4, scan_head_size=8, window=3, attention_head_size=8,
        condition_width=8,
    )  # fmt: skip
    torch.manual_seed(0)
    backbone = awake(Backbone(config, (4, 4)))
    tokens, condition = torch.randn(1, 5, objective_streams, 4, 4, 16), torch.randn(1, 5, objective_streams, 8)
    none = torch.zeros(1, dtype=torch.int64)
    before, _ = backbone(tokens, condition, backbone.initial_memory(1), none)
    moved, moved_condition = tokens.clone(), condition.clone()
    moved[:, changed] += torch.randn(4, 4, 16)
    moved_condition[:, changed] += 1
    after, _ = backbone(moved, moved_condition, backbone.initial_memory(1), none)
    torch.testing.assert_close(after[:, :changed], before[:, :changed], rtol=0, atol=1e-5)
    assert (after[:, changed] - before[:, changed]).abs().max() > 1e-6
    reach = changed + config.window if kind == "window" else 5  # frames from there on do not know the changed one
    torch.testing.assert_close(after[:, reach:], before[:, reach:], rtol=0, atol=1e-6)
    later = (after[:, changed + 1 : reach] - before[:, changed + 1 : reach]).abs().amax(dim=(0, 3, 4, 5))
    assert (later > 1e-6).all(), "the past must reach later frames"
    if objective_streams == 2:
        readers = tokens.clone()
        readers[:, changed, 0] += 1
        after, _ = backbone(readers, condition, backbone.initial_memory(1), none)
        others = [t for t in range(5) if t != changed]
        torch.testing.assert_close(after[:, others], before[:, others], rtol=0, atol=1e-5)
        torch.testing.assert_close(after[:, changed, 1], before[:, changed, 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("vector_size", [0, 3])
@pytest.mark.parametrize(("kind", "blocks"), LAYOUTS[2:])
def test_two_stream_training_denoises_from_the_memory_that_inference_has(kind, blocks, vector_size):
    backbone = dataclasses.replace(small_config().backbone, kind=kind, blocks=blocks)
    model = small_model(backbone=backbone, vector_size=vector_size)
    frames, actions, vectors = clip(model, B=2, T=6)
    x = model.patches.from_frames(frames)
    g = torch.Generator().manual_seed(3)
    tau = torch.rand(2, 6, generator=g)
    noise = torch.randn(x.shape, generator=g)
    noised = add_noise(x, noise, tau)
    pair, taus = torch.stack([noised, x], 2), torch.stack([tau, torch.zeros_like(tau)], 2)
    with torch.no_grad():
        memory, trained = model.initial_memory(2), []
        for piece in (slice(0, 4), slice(4, 6)):  # the second chunk of a stream reads what the first one wrote
            vector = None if vectors is None else vectors[:, piece]
            tokens = model.patch_in(pair[:, piece])
            features, condition, layers = model.run(tokens, taus[:, piece], actions[:, piece], vector, memory)
            trained.append(model.predict(features[:, :, :1], condition[:, :, :1])[:, :, 0])
            memory = model.remember(layers, model.read(features[:, -1, 1]), memory.frames + tokens.shape[1])
        trained = torch.cat(trained, dim=1)
        memory = model.initial_memory(2)
        for t in range(6):
            one = slice(t, t + 1)
            vector = None if vectors is None else vectors[:, one]
            tokens = model.patch_in(noised[:, one, None])
            level = tau[:, one, None]
            features, condition, _ = model.run(tokens, level, actions[:, one], vector, memory, write=False)
            dreamt = model.predict(features, condition)[:, 0, 0]
            torch.testing.assert_close(dreamt, trained[:, t], rtol=1e-4, atol=1e-4)
            memory, _ = model.observe(memory, frames[:, one], actions[:, one], vector)


@pytest.mark.parametrize(("objective", "shortcut"), [("two_stream", False), ("two_stream", True), ("prefix", False)])
@pytest.mark.parametrize("vector_size", [0, 2])
def test_loss_ignores_padding_and_reaches_every_weight(objective, shortcut, vector_size):
    model = small_model(objective=objective, shortcut=shortcut, vector_size=vector_size)
    batch = random_batch(model, [8, 5], 8)
    losses = model.loss(batch, torch.Generator().manual_seed(0))
    garbled = dataclasses.replace(
        batch,
        frames=torch.where(batch.mask[..., None, None, None], batch.frames, 255 - batch.frames),
        rewards=torch.where(batch.mask, batch.rewards, 99.0),
    )
    again = model.loss(garbled, torch.Generator().manual_seed(0))
    for name, value in losses.items():
        torch.testing.assert_close(again[name], value, msg=lambda m, name=name: f"{name}: {m}")
    assert ("vector" in losses) == bool(vector_size)
    losses["total"].backward()
    # Half of the prefix batches have no clean frame for the heads; this seed has some.
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_as_many_parameters_trains_and_dreams(kind):
    header = StoreHeader((64, 64, 3), DISCRETE)
    for preset in PRESETS:
        with torch.device("meta"):
            ours, other = (
                sum(p.numel() for p in WorldModel(model_config(preset, header, k)).parameters())
                for k in ("block_ssm", kind)
            )
        assert abs(other / ours - 1) < 0.05, (preset, ours, other)
    model = small_model(backbone=match_depth(small_config().backbone, kind, (4, 4)))
    batch = random_batch(model, [6, 4], 6)
    losses = model.loss(batch, torch.Generator().manual_seed(0))
    runs = []
    model.backbone.layers[0].mlp.register_forward_hook(lambda *_: runs.append(1))
    again = model.loss(batch, torch.Generator().manual_seed(0), recompute=True)
    assert torch.equal(losses["total"], again["total"])
    losses["total"].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == dict(model.named_parameters()).keys()
    model.zero_grad()
    again["total"].backward()
    assert len(runs) == 2, "once forward and once more in the backward pass"
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name])
    memory, _ = model.observe(model.initial_memory(2), batch.frames, batch.actions)
    step = model.imagine(memory, torch.tensor([0, 1]), [torch.Generator() for _ in range(2)])
    assert step.frame.float().std() > 0
    grows = step.memory.nbytes > memory.nbytes
    assert grows == (kind == "causal"), "memory is constant in size, but for a cache of all frames"


def test_rows_of_unlike_age_share_a_growing_cache():
    model = small_model(backbone=dataclasses.replace(BACKBONE, kind="causal"))
    frames, actions, _ = clip(model, B=2, T=6)
    old, _ = model.observe(model.initial_memory(1), frames[:1], actions[:1])
    young, _ = model.observe(model.initial_memory(1), frames[1:, :2], actions[1:, :2])
    both = Memory.concatenate([old, young])
    chosen = both.where(torch.tensor([False, True]), model.initial_memory(2))
    assert chosen.frames.tolist() == [0, 2]
    following = random_batch(model, [1, 1], 1, seed=5)
    together = model.observe(both, following.frames, following.actions)[1].features
    alone = model.observe(young, following.frames[1:], following.actions[1:])[1].features
    begun = model.observe(chosen, following.frames, following.actions)
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(begun[1].features[1:], alone, rtol=1e-4, atol=1e-4)
    assert begun[0].keys[0].shape[1] == 3, "no longer than the oldest row needs"


@pytest.mark.parametrize("objective", ["two_stream", "prefix"])
def test_streamed_chunks_give_the_losses_of_the_whole_clip(objective):
    """With the same noise in every frame, which prefix clips of any length do not have."""
    model = small_model(objective=objective, context_noise=0.0, rarity_power=0.0)
    batch = random_batch(model, [8, 8], 8)
    halves = [clip_slice(batch, slice(0, 4)), clip_slice(batch, slice(4, 8))]
    memory = model.initial_memory(2)
    rewards = []
    for half in halves:
        losses, memory = model.stream_loss(half, memory, torch.Generator().manual_seed(0))
        rewards.append(losses["reward"])
        assert not any(t.requires_grad for t in memory.tensors().values())
    whole, _ = model.observe(model.initial_memory(2), batch.frames, batch.actions)
    assert_memories_close(memory, whole, rtol=1e-4, atol=1e-4)
    if objective == "two_stream":
        reward = model.loss(batch, torch.Generator().manual_seed(0))["reward"]
        torch.testing.assert_close(torch.stack(rewards).mean(), reward, rtol=1e-4, atol=1e-5)


def clip_slice(batch, piece):
    parts = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    return Batch(**{name: None if part is None else part[:, piece] for name, part in parts.items()})


def test_a_row_dreams_alike_alone_and_in_a_batch():
    model = small_model()
    frames, actions, _ = clip(model, B=3, T=4)
    memory, _ = model.observe(model.initial_memory(3), frames, actions)

    def dream(rows):
        generators = [torch.Generator().manual_seed(i) for i in rows]
        return model.imagine(memory.select(torch.tensor(rows)), torch.tensor(rows), generators, denoise_steps=3)

    together, alone = dream([0, 1, 2]), dream([1])
    difference = together.frame[1].int() - alone.frame[0].int()
    assert difference.abs().max() <= 1 and (difference == 0).float().mean() > 0.99
    torch.testing.assert_close(together.reward[1:2], alone.reward, rtol=1e-3, atol=1e-3)
    assert together.memory.frames.tolist() == [5, 5, 5]


def test_imagine_is_observe_of_its_own_frame():
    model = small_model(vector_size=2)
    frames, actions, vectors = clip(model, T=3)
    memory, _ = model.observe(model.initial_memory(2), frames, actions, vectors)
    kept = memory.clone()
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    step = model.imagine(memory, torch.tensor([1, 2]), generators)
    assert_memories_close(memory, kept, rtol=0, atol=0)
    assert step.vector is not None
    again, prediction = model.observe(memory, step.frame[:, None], torch.tensor([[1], [2]]), step.vector[:, None])
    assert_memories_close(again, step.memory, rtol=0, atol=0)
    assert torch.equal(prediction.terminated[:, 0], step.terminated)


def test_missing_vectors_are_predicted_one_frame_at_a_time():
    model = small_model(vector_size=2)
    frames, actions, _ = clip(model, T=4)
    whole, _ = model.observe(model.initial_memory(2), frames, actions)
    memory = model.initial_memory(2)
    for t in range(4):
        memory, _ = model.observe(memory, frames[:, t : t + 1], actions[:, t : t + 1])
    assert_memories_close(whole, memory, rtol=0, atol=0)


@pytest.mark.parametrize("space", ACTION_SPACES)
def test_every_kind_of_action_is_heard(space):
    model = small_model(action_space=space_to_json(space))
    space.seed(0)
    a, b = space.sample(), space.sample()
    while np.array_equal(a, b):
        b = space.sample()
    frames, _, _ = clip(model, B=1, T=2)

    def readouts(second):
        actions = torch.as_tensor(np.stack([a, second]))[None]
        return model.observe(model.initial_memory(1), frames, actions)[1].features

    assert torch.equal(readouts(a)[:, 0], readouts(b)[:, 0])
    assert not torch.allclose(readouts(a)[:, 1], readouts(b)[:, 1])
    other_first = torch.as_tensor(np.stack([b, a]))[None]
    ignored = model.observe(model.initial_memory(1), frames, other_first)[1].features
    assert torch.equal(ignored, readouts(a)), "no action led into the first frame"


def test_save_and_load_give_the_same_model(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path / "run")
    loaded = WorldModel.from_pretrained(tmp_path / "run")
    assert loaded.config == model.config
    frames, actions, _ = clip(model)
    ours, theirs = (m.observe(m.initial_memory(2), frames, actions)[1].features for m in (model, loaded))
    assert torch.equal(ours, theirs)


def test_a_broken_checkpoint_is_named(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not whole"):
        WorldModel.from_pretrained(tmp_path)


def test_weights_of_another_kind_are_named(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    other = small_config(backbone=dataclasses.replace(BACKBONE, kind="window"))
    (tmp_path / "config.json").write_text(other.to_json())
    with pytest.raises(ValueError, match="not those of its config.json, of kind 'window' with 3 layers .*scan"):
        WorldModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'cudnn' does not exist; choose one of auto, torch, mamba"):
        WorldModel.from_pretrained("minigrid-memory", backend="cudnn")


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [("tiny", 1e6, 2.5e6), ("small", 3e6, 4e6), ("base", 25e6, 30e6), ("paper", 190e6, 200e6)],
)
def test_presets_have_the_sizes_they_promise(preset, low, high):
    shape = (56, 56, 3) if preset == "tiny" else (64, 64, 3)
    with torch.device("meta"):
        config = WorldModelConfig(
            frame_shape=shape, action_space={"type": "Discrete", "n": 7, "start": 0}, **PRESETS[preset].model
        )
        model = WorldModel(config)
    assert low <= sum(p.numel() for p in model.parameters()) <= high


def test_bad_input_is_named():
    model = small_model()
    frames, actions, _ = clip(model)
    with pytest.raises(ValueError, match="do not fit the model"):
        model.observe(model.initial_memory(2), frames[..., :2], actions)
    with pytest.raises(ValueError, match="do not agree"):
        model.observe(model.initial_memory(3), frames, actions)
    with pytest.raises(ValueError, match="denoise_steps"):
        model.imagine(model.initial_memory(1), torch.tensor([0]), [torch.Generator()], denoise_steps=0)
    with pytest.raises(ValueError, match="grid"):
        small_config(grid=(3, 3))
    with pytest.raises(ValueError, match="Objective 'both'"):
        small_config(objective="both")
    with pytest.raises(ValueError, match="Preset 'huge'"):
        model_config("huge", None)
    with pytest.raises(ValueError, match="The kind 'mamba' is unknown; use one of block_ssm"):
        dataclasses.replace(BACKBONE, kind="mamba")
    with pytest.raises(ValueError, match="A window of 0 frames"):
        dataclasses.replace(BACKBONE, kind="window", window=0)
    assert dataclasses.replace(BACKBONE, kind="ssm", window=0), "which has no window"
    with pytest.raises(ValueError, match="not 'window'"):
        match_depth(dataclasses.replace(BACKBONE, kind="window"), "block_ssm", (4, 4))
    vector_model = small_model(vector_size=2)
    with pytest.raises(ValueError, match="vectors of 2 numbers"):
        vector_model.imagine_frame(vector_model.initial_memory(1), torch.tensor([0]), None, [torch.Generator()])
    with pytest.raises(ValueError, match="block .3, 3. does not divide the token grid"):
        small_model(backbone=dataclasses.replace(BACKBONE, blocks=(3,)))
    with pytest.raises(ValueError, match="Shortcut training needs a clean stream"):
        small_config(objective="prefix", shortcut=True)
    with pytest.raises(ValueError, match="format version 7, this package reads 1"):
        WorldModelConfig.from_json(small_config().to_json().replace('"format_version": 1', '"format_version": 7'))
