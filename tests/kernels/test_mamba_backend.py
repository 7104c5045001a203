"""Backend "mamba" against the recurrence written out in fp64 and against backend "torch"."""

from __future__ import annotations

import pytest
import torch

from lssvwm_rl.model.backends import resolve_backend
from lssvwm_rl.model.scan import mamba, ssd
from lssvwm_rl.model.scan.mamba import chunked_scan, read_then_scan
from support.naive_scan import naive

pytestmark = pytest.mark.kernels

Z, H, P, N = 3, 2, 4, 5


def naive_read_then_scan(x, dt, A, B, C, state):
    outputs = []
    for t in range(x.shape[1]):
        noised, _ = naive(x[:, t, 0], dt[:, t, 0], A, B[:, t, 0], C[:, t, 0], state)
        clean, state = naive(x[:, t, 1], dt[:, t, 1], A, B[:, t, 1], C[:, t, 1], state)
        outputs.append(torch.stack([noised, clean], dim=1))
    return torch.stack(outputs, 1), state


def inputs(device, *tokens):
    """x, dt, A, B, C, state for tokens (L,) or (T, 2, K)."""
    g = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(Z, *tokens, H, P, generator=g),
        torch.rand(Z, *tokens, H, generator=g),
        -torch.rand(H, generator=g) * 3,
        torch.randn(Z, *tokens, N, generator=g),
        torch.randn(Z, *tokens, N, generator=g),
        torch.randn(Z, H, P, N, generator=g),
    ]
    return [t.to(device) for t in tensors]


def with_gradients(scan, args):
    """Outputs, last state and the gradients of all inputs, of a loss on both results."""
    args = [t.detach().requires_grad_() for t in args]
    y, last = scan(*args)
    weight = torch.linspace(-1, 1, y.numel(), device=y.device, dtype=y.dtype).view_as(y)
    return y, last, *torch.autograd.grad((y * weight).sum() + last.pow(2).sum(), args)


def double(args):
    return [t.double() for t in args]


def assert_all_close(results, references, tolerance=2e-5):
    """Each tensor to within `tolerance` of its reference's largest entry."""
    names = ("y", "state", "dx", "ddt", "dA", "dB", "dC", "dstate")[: len(references)]
    for name, result, reference in zip(names, results, references, strict=True):
        assert result.dtype == torch.float32 and result.shape == reference.shape, name
        error = (result - reference).abs().max() / reference.abs().max()
        assert error < tolerance, f"{name} differs by {error:.1e}"


@pytest.mark.parametrize(("length", "chunk"), [(2, 128), (16, 16), (37, 16), (37, 128)])
def test_results_and_gradients_equal_the_recurrence(device, length, chunk):
    args = inputs(device, length)
    results = with_gradients(lambda *a: chunked_scan(*a, chunk), args)
    assert_all_close(results, with_gradients(naive, double(args)))
    assert_all_close(results, with_gradients(ssd.chunked_scan, double(args)))


@pytest.mark.parametrize("used", ["outputs", "state"])
def test_gradients_of_one_result_alone(device, used):
    def loss(scan, args):
        y, last = scan(*args)
        return y.sum() if used == "outputs" else last.pow(2).sum()

    gradients = []
    for scan, args in ((chunked_scan, inputs(device, 20)), (naive, double(inputs(device, 20)))):
        x, dt, A, B, C, state = (t.requires_grad_() for t in args)
        leaves = [x, dt, A, B, state] + [C] * (used == "outputs")  # the state does not depend on C
        gradients.append(torch.autograd.grad(loss(scan, args), leaves))
    for result, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(result.double(), reference, rtol=1e-4, atol=1e-4)


def test_one_token_steps_equal_the_recurrence_and_keep_the_old_state(device):
    x, dt, A, B, C, state = args = inputs(device, 3)
    first, outputs, last = state.clone(), [], state
    for t in range(3):
        token = slice(t, t + 1)
        y, last = chunked_scan(x[:, token], dt[:, token], A, B[:, token], C[:, token], last)
        outputs.append(y)
    assert_all_close((torch.cat(outputs, 1), last), naive(*double(args)))
    assert torch.equal(state, first)


def test_a_one_token_step_has_gradients(device):
    args = inputs(device, 1)
    assert_all_close(with_gradients(chunked_scan, args), with_gradients(naive, double(args)))


@pytest.mark.parametrize("cut", [1, 16, 19])
def test_a_carried_state_continues_the_scan_and_its_gradients(device, cut):
    def in_two_calls(x, dt, A, B, C, state):
        y1, state = chunked_scan(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], state)
        y2, state = chunked_scan(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], state)
        return torch.cat([y1, y2], 1), state

    args = inputs(device, 20)
    assert_all_close(with_gradients(in_two_calls, args), with_gradients(naive, double(args)))


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (9, 1), (1, 4), (5, 4)])
def test_two_streams_equal_reading_then_writing_frame_by_frame(device, frames, tokens):
    args = inputs(device, frames, 2, tokens)
    results = with_gradients(lambda *a: read_then_scan(*a, chunk_size=16), args)
    assert_all_close(results, with_gradients(naive_read_then_scan, double(args)))
    assert_all_close(results, with_gradients(ssd.read_then_scan, double(args)))


def test_tokens_with_dt_zero_only_read(device):
    x, dt, A, B, C, state = inputs(device, 20)
    y, last = chunked_scan(x, torch.zeros_like(dt), A, B, C, state)
    assert_all_close((y, last), (torch.einsum("zhpn,zln->zlhp", state, C), state))


def test_strong_decay_stays_finite(device):
    x, dt, A, B, C, state = inputs(device, 40)
    args = (x, dt * 20, A * 20, B, C, state)
    results = with_gradients(lambda *a: chunked_scan(*a, 32), args)
    assert all(t.isfinite().all() for t in results)
    # The logarithm of a chunk's decay reaches -1e4, where fp32 has steps of 1e-3.
    assert_all_close(results, with_gradients(naive, double(args)), tolerance=1e-3)


def test_views_of_one_projection_are_taken_as_they_are(device):
    """As `BlockScan` cuts them: x, B, C are slices along the last axis, with its stride between tokens."""
    x, dt, A, B, C, state = inputs(device, 20)
    joined = torch.cat([x.flatten(2), B, C, dt], dim=-1)
    x_view, B_view, C_view, dt_view = joined.split([H * P, N, N, H], dim=-1)
    views = (x_view.unflatten(-1, (H, P)), dt_view, A, B_view, C_view, state)
    assert_all_close(chunked_scan(*views), naive(*double(views)))
    first = [t[:, :1] if t.dim() > 1 and t is not state else t for t in views]
    assert_all_close(chunked_scan(*first), naive(*double(first)))


@pytest.mark.parametrize("length", [1, 20])
def test_more_sequences_than_one_launch_takes(device, monkeypatch, length):
    args = inputs(device, length)
    monkeypatch.setattr(mamba, "MAX_LAUNCH", 2)
    assert_all_close(chunked_scan(*args, 16), naive(*double(args)))


def test_the_backend_is_chosen_by_device(device):
    assert resolve_backend("mamba", device) == "mamba"
    assert resolve_backend("torch", device) == "torch"
    assert resolve_backend("auto", device) == ("mamba" if device.type == "cuda" else "native")
