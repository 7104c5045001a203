"""The sketch of a state is the sum it says, keeps states apart, and never changes from machine to machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from lssvwm_rl.model.backbone import match_depth
from lssvwm_rl.model.config import KINDS
from lssvwm_rl.model.sketch import SIDE, SKETCH_SIZE, _projections, read_out, sketch
from lssvwm_rl.native import library
from support.small_models import CLOSE, double_model, random_batch, small_model

SHAPE = (4, 3, 6, 5)  # blocks, heads, P, N


def test_every_number_is_the_signed_sum_of_readings():
    state = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, v, signs = (part.numpy().astype(np.float64) for part in _projections(1, SHAPE, state.device))
    assert all(set(np.unique(part)) == {-1.0, 1.0} for part in (u, v, signs))
    expected = np.zeros((2, SIDE, SIDE))
    for row, n, h in np.ndindex(2, SHAPE[0], SHAPE[1]):
        for c, a in np.ndindex(SIDE, SIDE):
            expected[row, c, a] += signs[n, h, c, a] * (u[h, :, c] @ state[row, n, h].numpy() @ v[h, :, a])
    expected /= np.prod(SHAPE) ** 0.5
    np.testing.assert_allclose(sketch(state, 1).numpy(), expected.reshape(2, -1), rtol=1e-12, atol=1e-12)


def test_distances_between_states_survive():
    """Of sparse states, too: a memory may differ from another in one head of one block."""
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(40, *SHAPE, generator=generator)
    states[20:, 1:] = states[:20, 1:]
    states[20:, 0, :2] = states[:20, 0, :2]
    flat, sketched = states.flatten(1), sketch(states, 0)
    true, kept = torch.cdist(flat, flat), torch.cdist(sketched, sketched)
    i, j = torch.triu_indices(40, 40, 1)
    ratio = kept[i, j] / true[i, j] * (np.prod(SHAPE) / SKETCH_SIZE) ** 0.5
    assert 0.6 < ratio.quantile(0.02) and ratio.quantile(0.98) < 1.5 and abs(ratio.mean() - 1) < 0.1


def test_the_projections_are_the_same_everywhere():
    """Trained policies depend on them: this must never change."""
    parts = _projections(3, SHAPE, torch.device("cpu"))
    digest = hashlib.sha256(b"".join((part.numpy() > 0).tobytes() for part in parts)).hexdigest()
    assert digest[:16] == "1e8a19f82fdb700d"
    assert not torch.equal(parts[0], _projections(4, SHAPE, torch.device("cpu"))[0])


def test_the_readout_is_bounded_and_as_long_as_said():
    for kind in KINDS:
        config = small_model().config
        model = double_model(backbone=match_depth(config.backbone, kind, config.grid))
        batch = random_batch(model, [3, 3], 3)
        memory, prediction = model.observe(model.initial_memory(2), batch.frames, batch.actions)
        readout = memory.readout()
        scans = sum(each.state.shape[1] > 0 for each in memory.layers)
        assert readout.shape == (2, model.readout_size) == (2, config.feature_size + SKETCH_SIZE * scans)
        assert readout.abs().max() <= 1 and torch.equal(readout[:, : config.feature_size], prediction.features[:, -1])
        for layer in range(scans):
            start = config.feature_size + SKETCH_SIZE * layer
            part = readout[:, start : start + SKETCH_SIZE]
            torch.testing.assert_close(part, sketch(memory.layers[layer].state, layer).tanh(), **CLOSE)
            assert part.abs().max() > 0


def random_memory(dtype: torch.dtype, rows: int = 3) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Features and states of sizes that are and that are no multiples of 8, of layers 0, 2 and 3."""
    generator = torch.Generator().manual_seed(4)
    shapes = {0: (4, 2, 8, 32), 2: SHAPE, 3: (1, 3, 19, 7)}
    features = torch.rand(rows, 12, generator=generator, dtype=dtype)
    return features, {i: torch.randn(rows, *s, generator=generator, dtype=dtype) for i, s in shapes.items()}


@pytest.mark.parametrize("native", ["0", "1"])
def test_kernels_and_torch_read_the_same(monkeypatch, native):
    features, states = random_memory(torch.float64)
    expected = torch.cat([features, *[sketch(state, layer).tanh() for layer, state in states.items()]], dim=1)
    monkeypatch.setattr(library, "load_kernels", library.load_kernels if native == "1" else lambda: None)
    torch.testing.assert_close(read_out(features, states), expected, **CLOSE)
    single = read_out(features.float(), {layer: state.float() for layer, state in states.items()})
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(read_out(features, {}), features)


def test_a_row_is_read_alike_wherever_it_is_on_any_number_of_threads():
    if library.load_kernels() is None:
        pytest.skip("no kernels on this machine")
    features, states = random_memory(torch.float32, rows=1)
    many = features.repeat(700, 1), {layer: state.repeat(700, 1, 1, 1, 1) for layer, state in states.items()}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = read_out(*many)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together, read_out(features, states).expand_as(together))


def test_what_trains_a_state_through_the_readout_finds_its_gradient():
    features, states = random_memory(torch.float64)
    states[2].requires_grad_()
    read_out(features, states).sum().backward()
    grad, states[2] = states[2].grad, states[2].detach()
    with torch.no_grad():
        step = 1e-5 * torch.sign(grad)
        more, less = (read_out(features, {**states, 2: states[2] + sign * step}).sum() for sign in (1, -1))
    assert (more - less).item() == pytest.approx(2 * (grad * step).sum().item(), rel=1e-6) and grad.abs().min() > 0
