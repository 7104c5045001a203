"""The chunked scan, its one-token step and the two-stream scan against the recurrence written out in fp64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.scan.ssd import chunked_scan, read_then_scan, scan_step
from support.naive_scan import naive
from support.small_models import CLOSE

Z, H, P, N = 3, 2, 4, 5


def inputs(length, seed=0, requires_grad=False):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    tensors = [
        normal(Z, length, H, P),
        torch.rand(Z, length, H, generator=g, dtype=torch.float64),
        -torch.rand(H, generator=g, dtype=torch.float64) * 3,
        normal(Z, length, N),
        normal(Z, length, N),
        normal(Z, H, P, N),
    ]
    return [t.requires_grad_(requires_grad) for t in tensors]


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 40), chunk=st.integers(1, 17), seed=st.integers(0, 99))
def test_chunked_equals_the_recurrence(length, chunk, seed):
    args = inputs(length, seed)
    for ours, reference in zip(chunked_scan(*args, chunk), naive(*args), strict=True):
        torch.testing.assert_close(ours, reference, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
def test_gradients_equal_the_recurrence(chunk):
    args = inputs(21, requires_grad=True)
    weight = torch.randn(Z, 21, H, P, dtype=torch.float64)
    gradients = []
    for scan in (lambda *a: chunked_scan(*a, chunk), naive):
        y, state = scan(*args)
        gradients.append(torch.autograd.grad((y * weight).sum() + state.pow(2).sum(), args))
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference, **CLOSE)


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(1, 19))
def test_a_carried_state_continues_the_scan(cut):
    x, dt, A, B, C, state = inputs(20)
    whole, last = chunked_scan(x, dt, A, B, C, state, 8)
    y1, state = chunked_scan(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], state, 8)
    y2, state = chunked_scan(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], state, 8)
    torch.testing.assert_close(torch.cat([y1, y2], 1), whole, **CLOSE)
    torch.testing.assert_close(state, last, **CLOSE)


def test_step_by_step_equals_chunked():
    x, dt, A, B, C, state = inputs(12)
    whole, last = chunked_scan(x, dt, A, B, C, state, 5)
    for t in range(12):
        one = slice(t, t + 1)
        y, state = scan_step(x[:, one], dt[:, one], A, B[:, one], C[:, one], state)
        torch.testing.assert_close(y[:, 0], whole[:, t], **CLOSE)
    torch.testing.assert_close(state, last, **CLOSE)


def test_strong_decay_over_long_chunks_stays_finite():
    x, dt, A, B, C, state = [t.float() for t in inputs(300)]
    y, last = chunked_scan(x, dt * 20, A * 20, B, C, state, 128)
    assert y.isfinite().all() and last.isfinite().all()


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (5, 1), (4, 3)])
def test_two_streams_equal_reading_then_writing_frame_by_frame(frames, tokens):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(Z, frames, 2, tokens, H, P, generator=g, dtype=torch.float64)
    dt = torch.rand(Z, frames, 2, tokens, H, generator=g, dtype=torch.float64)
    A = -torch.rand(H, generator=g, dtype=torch.float64)
    B, C = (torch.randn(Z, frames, 2, tokens, N, generator=g, dtype=torch.float64) for _ in range(2))
    state = torch.randn(Z, H, P, N, generator=g, dtype=torch.float64)
    y, last = read_then_scan(x, dt, A, B, C, state, chunk_size=4)
    for t in range(frames):
        noised, _ = naive(x[:, t, 0], dt[:, t, 0], A, B[:, t, 0], C[:, t, 0], state)
        clean, state = naive(x[:, t, 1], dt[:, t, 1], A, B[:, t, 1], C[:, t, 1], state)
        torch.testing.assert_close(y[:, t, 0], noised, **CLOSE)
        torch.testing.assert_close(y[:, t, 1], clean, **CLOSE)
    torch.testing.assert_close(last, state, **CLOSE)


@pytest.mark.parametrize("block", [(1, 1), (2, 2), (1, 4), (4, 4)])
def test_every_block_is_scanned_on_its_own(block):
    """Changing one pixel's token changes outputs of its own block only."""
    torch.manual_seed(0)
    layer = BlockScan(8, (4, 4), block, state_size=4, head_size=4, expand=2).double()
    tokens = torch.randn(1, 3, 1, 4, 4, 8, dtype=torch.float64)
    changed = tokens.clone()
    changed[0, 0, 0, 1, 2] += 1
    outputs = [layer(t, layer.initial_state(1))[0] for t in (tokens, changed)]
    differs = (outputs[0] - outputs[1]).abs().amax(dim=(0, 2, 5)) > 1e-12  # (T, h, w)
    row, column = 1 // block[0] * block[0], 2 // block[1] * block[1]
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[row : row + block[0], column : column + block[1]] = True
    assert not differs[:, ~inside].any()
    assert differs[1:, inside].all()


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="block .3, 3. does not divide"):
        BlockScan(8, (4, 4), (3, 3), 4, 4, 2)
    with pytest.raises(ValueError, match="head_size 5"):
        BlockScan(8, (4, 4), (2, 2), 4, 5, 2)


@torch.no_grad()
def test_a_scan_reads_at_an_address_what_was_written_there():
    """Before any training: what a read depends on most is the frame that was written at the same address."""
    torch.manual_seed(0)
    frames, written = 24, 7
    scan = BlockScan(32, (2, 2), (1, 1), 128, 16, 2, address_size=4)
    scan.A_log.fill_(-20.0)  # nothing is forgotten, so that only addresses tell frames apart
    addresses = torch.rand(1, frames, 4)
    tokens = torch.randn(1, frames, 1, 2, 2, 32)
    other = tokens.clone()
    other[:, written] = torch.randn(1, 1, 2, 2, 32)
    query = torch.randn(1, 1, 1, 2, 2, 32)
    states = [scan(t, scan.initial_state(1), address=addresses)[1] for t in (tokens, other)]
    depends = torch.tensor(
        [
            float((a - b).norm())
            for k in range(frames)
            for a, b in [[scan(query, s, write=False, address=addresses[:, k : k + 1])[0] for s in states]]
        ]
    )
    assert depends.argmax() == written
    assert depends[written] > 2 * depends[torch.arange(frames) != written].mean()
    with pytest.raises(ValueError, match="even state_size, not 15"):
        BlockScan(32, (2, 2), (1, 1), 15, 16, 2, address_size=4)
