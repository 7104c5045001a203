"""Frames against patches as kernels: the same numbers and gradients as PyTorch's."""

from __future__ import annotations

import pytest
import torch

from lssvwm_rl.model.patches import Patches
from lssvwm_rl.native.pixels import Shown, count_colours, cut_patches, pixel_error
from lssvwm_rl.training.noise import weighted_error
from support.gradients import assert_all_close, outputs_and_gradients
from support.small_models import CLOSE

SIZES = [((16, 24, 3), (4, 6)), ((8, 8, 1), (8, 8)), ((6, 10, 4), (3, 5)), ((5, 7, 3), (1, 1))]


def frames_of(shape, count=5):
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def some(shape):
    """Three of five frames, one of them twice, of which about half is visible."""
    visible = torch.rand(3, *shape[:2], generator=torch.Generator().manual_seed(1)) < 0.5
    return torch.tensor([4, 0, 4]), visible


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "patch"), SIZES)
def test_patches_are_the_same_bits(kernels, shape, patch, dtype):
    frames, cut = frames_of(shape), Patches(*patch)
    assert torch.equal(cut_patches(kernels, Shown(frames, patch), dtype), cut.from_frames(frames, dtype))
    index, visible = some(shape)
    masked = cut_patches(kernels, Shown(frames, patch, index, visible), dtype)
    seen = cut.cut(visible[..., None].expand(3, *shape))
    assert torch.equal(masked, cut.from_frames(frames[index], dtype) * seen)


@pytest.mark.parametrize(("shape", "patch"), SIZES)
def test_counts_of_colours(kernels, shape, patch, threads):
    frames = frames_of(shape, 200) // 40
    counted = torch.rand(200, generator=torch.Generator().manual_seed(1)) < 0.5
    number = torch.zeros(frames.shape[:3], dtype=torch.int64)
    for channel in range(shape[2]):
        number = 8 * number + (frames[..., channel] // 32)
    expected = torch.bincount(number[counted].flatten(), minlength=8 ** shape[2])
    for count in (1, 3):
        threads(count)
        assert torch.equal(count_colours(kernels, frames, counted), expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("shape", "patch"), SIZES)
def test_errors_and_gradients_are_those_of_pytorch(kernels, shape, patch, masked):
    frames, cut = frames_of(shape), Patches(*patch)
    index, visible = some(shape) if masked else (None, None)
    roots = torch.rand(8 ** shape[2], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    shown = frames if index is None else frames[index]
    number = torch.zeros(shown.shape[:3], dtype=torch.int64)
    for channel in range(shape[2]):
        number = 8 * number + (shown[..., channel] // 32)
    weight = roots[number] ** 2 if visible is None else roots[number] ** 2 * ~visible
    x = cut.from_frames(shown, torch.float64)
    predicted = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ours = outputs_and_gradients(
        lambda p: pixel_error(kernels, p, Shown(frames, patch, index, visible), roots), [predicted]
    )
    expected = outputs_and_gradients(lambda p: weighted_error(p, x, cut.cut(weight[..., None])), [predicted])
    assert_all_close(ours, expected, **CLOSE)


def test_derivatives_are_those_of_differences(kernels):
    frames, roots = frames_of((2, 2, 1), 2), torch.rand(8, dtype=torch.float64)
    predicted = torch.rand(2, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: pixel_error(kernels, p, Shown(frames, (2, 2)), roots), (predicted,))


def test_bf16_and_threads(kernels, threads):
    frames, roots = frames_of((16, 24, 3), 90), torch.rand(512, generator=torch.Generator().manual_seed(2))
    shown = Shown(frames, (4, 6))
    predicted = torch.randn(shown.grid_shape, generator=torch.Generator().manual_seed(3)).bfloat16()
    runs = []
    for count in (1, 3):
        threads(count)
        runs.append(outputs_and_gradients(lambda p: pixel_error(kernels, p, shown, roots), [predicted]))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    exact = outputs_and_gradients(lambda p: pixel_error(kernels, p, shown, roots.double()), [predicted.double()])
    assert runs[0][1].dtype == torch.bfloat16
    assert_all_close([t.double() for t in runs[0]], exact, rtol=1e-2, atol=1e-6)
