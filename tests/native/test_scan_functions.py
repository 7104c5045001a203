"""The scan on CPU kernels: the same function as PyTorch's, with the same derivatives, on any number of threads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.backbone import Backbone, Pass
from lssvwm_rl.model.config import BackboneConfig
from lssvwm_rl.model.scan import block as block_module
from lssvwm_rl.model.scan import ssd
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.native import scan_functions
from lssvwm_rl.native.library import load_kernels
from support.naive_scan import naive
from support.small_models import CLOSE, awake

KERNELS = load_kernels()
pytestmark = pytest.mark.skipif(KERNELS is None, reason="there are no native kernels on this machine")

# Z, T, S, K, H, P, N: sizes of presets and odd ones, chunks that the frames fill, do not fill, and are larger than.
SIZES = [
    (2, 37, 2, 1, 3, 32, 32),
    (2, 10, 2, 4, 2, 32, 32),
    (1, 3, 2, 16, 2, 64, 64),
    (1, 2, 2, 64, 1, 16, 8),
    (2, 7, 2, 3, 2, 5, 7),
    (2, 1, 2, 4, 2, 16, 8),
    (2, 45, 1, 1, 2, 32, 32),
    (2, 9, 1, 4, 2, 16, 8),
    (1, 3, 1, 16, 2, 64, 256),
    (3, 1, 1, 1, 2, 1, 1),
]


def scan_inputs(Z, T, S, K, H, P, N, dtype=torch.float64):
    g = torch.Generator().manual_seed(T + 10 * K)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=dtype)

    dt, A = torch.rand(Z, T, S, K, H, generator=g, dtype=dtype), -4 * torch.rand(H, generator=g, dtype=dtype)
    return [normal(Z, T, S, K, H, P), dt, A, normal(Z, T, S, K, N), normal(Z, T, S, K, N), normal(Z, H, P, N)]


def native_scan(*inputs):
    return scan_functions.scan(KERNELS, *inputs)


def torch_scan(x, dt, A, B, C, state):
    if x.shape[2] == 2:
        return ssd.read_then_scan(x, dt, A, B, C, state)
    y, last = ssd.chunked_scan(*(t.flatten(1, 3) for t in (x, dt)), A, *(t.flatten(1, 3) for t in (B, C)), state)
    return y.view_as(x), last


def random_weights(*tensors):
    g = torch.Generator().manual_seed(5)
    return [torch.randn(t.shape, generator=g, dtype=torch.float64) for t in tensors]


def results(function, inputs, weigh_last=True):
    """Outputs, and gradients of a fixed random sum of them."""
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    y, last = function(*inputs)
    y_weight, last_weight = random_weights(y, last)
    total = (y * y_weight.to(y.dtype)).sum()
    if weigh_last:
        total = total + (last * last_weight.to(y.dtype)).sum()
    return [y.detach(), last.detach(), *torch.autograd.grad(total, inputs)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("weigh_last", [True, False])
def test_outputs_and_gradients_are_those_of_pytorch(sizes, weigh_last):
    inputs = scan_inputs(*sizes)
    torch.testing.assert_close(
        results(native_scan, inputs, weigh_last), results(torch_scan, inputs, weigh_last), **CLOSE
    )


def test_gradients_are_slopes():
    for streams in (1, 2):
        inputs = [t.requires_grad_() for t in scan_inputs(1, 2, streams, 2, 2, 3, 2)]
        assert torch.autograd.gradcheck(native_scan, inputs)


def test_one_stream_is_the_recurrence_written_out():
    x, dt, A, B, C, state = scan_inputs(2, 21, 1, 2, 3, 8, 4)
    flat = [t.flatten(1, 3) for t in (x, dt, B, C)]
    flat = [*flat[:2], A, *flat[2:], state]
    torch.testing.assert_close(scan_functions.chunked_scan(KERNELS, *flat), naive(*flat), **CLOSE)


def test_a_noised_frame_is_a_scan_from_the_state_before_it():
    x, dt, A, B, C, state = scan_inputs(2, 6, 2, 4, 2, 8, 4)
    y, last = native_scan(x, dt, A, B, C, state)
    for t in range(x.shape[1]):
        noised = naive(x[:, t, 0], dt[:, t, 0], A, B[:, t, 0], C[:, t, 0], state)[0]
        clean, state = naive(x[:, t, 1], dt[:, t, 1], A, B[:, t, 1], C[:, t, 1], state)
        torch.testing.assert_close(y[:, t], torch.stack([noised, clean], dim=1), **CLOSE)
    torch.testing.assert_close(last, state, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("streams", [1, 2])
def test_gradients_do_not_overflow_where_all_is_forgotten(streams, dtype):
    x, dt, A, B, C, state = scan_inputs(1, 20, streams, 4, 2, 8, 4, dtype)
    inputs = [x, 50 * dt, 10 * A, B, C, state]
    found, exact = results(native_scan, inputs), results(torch_scan, [t.double() for t in inputs])
    assert all(t.isfinite().all() for t in found)
    # Gradients of dt and A are sums over later tokens of dy . y - dw . w, which cancel where nothing lasts: what is
    # rounded is a share of these terms and not of their sum, in PyTorch too.
    terms = 2 * (random_weights(exact[0])[0] * exact[0]).abs().sum()
    scales = [t.abs().max() for t in exact]
    scales[3] += inputs[2].abs().max() * terms
    scales[4] += inputs[1].sum() * terms
    # Sums of some hundred terms, each rounded to 6e-8.
    for a, b, scale in zip(found, exact, scales, strict=True):
        assert (a - b).abs().max() <= 1e-5 * scale


def test_in_fp32_errors_are_roundings():
    for sizes in SIZES:
        inputs = scan_inputs(*sizes)
        exact, found = results(native_scan, inputs), results(native_scan, [t.float() for t in inputs])
        for a, b in zip(found, exact, strict=True):
            assert (a - b).norm() <= 1e-4 * b.norm()


# Grid, block, N, P, width, T, S, address: all blocks, sizes of "tiny" and of small models, odd ones, one frame.
LAYERS = [
    ((2, 2), (1, 1), 32, 32, 128, 20, 2, 0),
    ((2, 2), (2, 2), 32, 32, 64, 9, 2, 0),
    ((4, 4), (2, 2), 8, 16, 32, 9, 2, 3),
    ((4, 4), (4, 4), 8, 16, 32, 3, 2, 3),
    ((8, 8), (8, 8), 8, 16, 32, 2, 2, 0),
    ((4, 4), (4, 2), 6, 5, 10, 5, 1, 2),
    ((4, 4), (2, 2), 8, 16, 32, 1, 1, 0),
    ((2, 2), (1, 1), 8, 16, 32, 1, 2, 3),
]


def layer_results(backend, layer, dtype=torch.float64, autocast=False, threads=None):
    grid, block, N, P, width, T, S, address_size = layer
    torch.manual_seed(0)
    scan = awake(BlockScan(width, grid, block, N, P, 2, backend, address_size)).to(dtype)
    tokens = torch.randn(3, T, S, *grid, width).to(dtype).requires_grad_()
    state = torch.randn(scan.initial_state(3).shape).to(dtype).requires_grad_()
    inputs = {"tokens": tokens, "state": state}
    if address_size:
        inputs["address"] = torch.randn(3, T, address_size).to(dtype).requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            mixed, last = scan(tokens, state, address=inputs.get("address"))
        mixed_weight, last_weight = (torch.randn(t.shape).to(t.dtype) for t in (mixed, last))
        ((mixed * mixed_weight).sum() + (last * last_weight).sum()).backward()
    finally:
        torch.set_num_threads(before)
    gradients = {name: t.grad for name, t in (*inputs.items(), *scan.named_parameters())}
    return {"mixed": mixed.detach(), "last": last.detach(), **gradients}


@pytest.fixture
def calls(monkeypatch):
    """How often kernels computed a layer."""
    made = []
    mix = block_module.mix
    monkeypatch.setattr(block_module, "mix", lambda *arguments: made.append(1) or mix(*arguments))
    return made


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_and_all_gradients_are_those_of_pytorch(layer, calls):
    found = layer_results("native", layer)
    assert len(calls) == 1
    wanted = layer_results("torch", layer)
    assert len(calls) == 1
    torch.testing.assert_close(found, wanted, **CLOSE)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_layer_of_any_size_is_that_of_pytorch(data):
    def size(least, most):
        return data.draw(st.integers(least, most))

    block, blocks = (size(1, 4), size(1, 4)), (size(1, 2), size(1, 2))
    grid = block[0] * blocks[0], block[1] * blocks[1]
    N, heads, P = 2 * size(1, 9), size(1, 3), 2 * size(1, 9)
    layer = (grid, block, N, P, heads * P // 2, size(1, 9), size(1, 2), size(0, 2))
    torch.testing.assert_close(layer_results("native", layer), layer_results("torch", layer), **CLOSE)


def test_mixed_precision_rounds_as_pytorch_does():
    for layer in LAYERS:
        found, exact = layer_results("native", layer, torch.float32, True), layer_results("native", layer)
        assert found["mixed"].dtype == torch.bfloat16 and found["last"].dtype == torch.float32
        rounded = layer_results("torch", layer, torch.float32, True)
        for name, wanted in exact.items():
            error = (found[name] - wanted).norm() / wanted.norm()
            # A number in bf16 is off by up to 2^-9. Kernels round less often than PyTorch but at other places, so
            # their error is at most a little larger where few numbers make it up.
            allowed = 2 * (rounded[name] - wanted).norm() / wanted.norm() + 2**-8
            assert error <= allowed, (layer, name, error, allowed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    """Of the kernels; products of matrices in PyTorch might."""
    grid, T, H, P, N = (4, 4), 9, 2, 16, 8
    g = torch.Generator().manual_seed(0)
    width = 2 * H * P + 2 * N + H
    projected, place = torch.randn(3, T, 2, *grid, width, generator=g), torch.randn(3, T, N, generator=g)
    parameters = [torch.rand(shape, generator=g) for shape in ((N,), (N,), (H,), (H,), (H, P), (H,))]
    parameters[3] = -parameters[3]
    inputs = [t.to(dtype) for t in (projected, place, *parameters, torch.randn(3, 4, H, P, N, generator=g))]

    def mix(projected, place, *rest):
        return scan_functions.mix(KERNELS, projected, place, rest[:-1], rest[-1], (2, 2))

    def on(threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return results(mix, inputs)
        finally:
            torch.set_num_threads(before)

    one = on(1)
    for threads in (2, 5):
        assert all(torch.equal(a, b) for a, b in zip(one, on(threads), strict=True))


def test_without_gradients_results_are_the_same():
    grid, block, N, P, width, T, S, _ = LAYERS[1]
    torch.manual_seed(0)
    scan = awake(BlockScan(width, grid, block, N, P, 2, "native")).double()
    tokens, state = torch.randn(2, T, S, *grid, width).double(), scan.initial_state(2)
    with torch.no_grad():
        without = scan(tokens, state)
    assert all(torch.equal(a, b) for a, b in zip(without, scan(tokens, state), strict=True))


def test_frames_one_after_the_other_leave_the_state_of_all_at_once():
    torch.manual_seed(0)
    scan = awake(BlockScan(32, (4, 4), (2, 2), 8, 16, 2, "native")).double()
    tokens, state = torch.randn(2, 7, 1, 4, 4, 32).double(), scan.initial_state(2)
    together = scan(tokens, state)
    each = []
    for t in range(7):
        mixed, state = scan(tokens[:, t : t + 1], state)
        each.append(mixed)
    torch.testing.assert_close((torch.cat(each, dim=1), state), together, **CLOSE)


@pytest.mark.parametrize("kind", ["block_ssm", "block1_ssm", "ssm_local", "ssm"])
def test_layers_that_run_again_in_the_backward_pass_have_the_same_gradients(kind, calls):
    config = BackboneConfig(
        kind, 32, (1, 2), 8, 16, window=2, attention_head_size=16, condition_width=16, backend="native"
    )
    torch.manual_seed(0)
    backbone = awake(Backbone(config, (2, 2))).double()
    tokens, condition = torch.randn(2, 5, 2, 2, 2, 32).double(), torch.randn(2, 5, 2, 16).double()
    gradients = []
    for recompute in (False, True):
        memory = backbone.initial_memory(2)
        how = Pass(torch.zeros(2, dtype=torch.long), recompute=recompute)
        hidden, _ = backbone(tokens, condition, memory, how)
        gradients.append(torch.autograd.grad(hidden.square().sum(), list(backbone.parameters())))
    assert len(calls) == 2 + 4
    torch.testing.assert_close(*gradients, **CLOSE)


def test_a_compiled_layer_trains_on_pytorch():
    torch.manual_seed(0)
    scan = awake(BlockScan(32, (2, 2), (1, 1), 8, 16, 2, "native")).double()
    tokens, state = torch.randn(2, 5, 2, 2, 2, 32).double(), scan.initial_state(2)
    parameters = list(scan.parameters())
    compiled = torch.compile(scan, backend="aot_eager", fullgraph=True)
    wanted, found = (torch.autograd.grad(f(tokens, state)[0].square().sum(), parameters) for f in (scan, compiled))
    torch.testing.assert_close(found, wanted, **CLOSE)
