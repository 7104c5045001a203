"""Flow matching against what can be said on paper: linear paths, known distributions, counted colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_rl.model.flow import FINEST, add_noise, euler_sample, steps_index
from lssvwm_rl.model.patches import Patches
from lssvwm_rl.training.noise import MAX_RARITY, rarity_weight, sample_tau, velocity_loss
from lssvwm_rl.training.prefix import prefix_tau
from lssvwm_rl.training.shortcut import draw_shortcut, shortcut_target

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_perfect_denoiser_is_sampled_exactly(steps, shift):
    """The flow to one point is a straight line, which Euler's method follows without error."""
    goal, noise = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    levels = []

    def denoise(x, tau):
        levels.append(tau[0].item())
        torch.testing.assert_close(x, add_noise(goal, noise, tau), **EXACT)
        return goal

    torch.testing.assert_close(euler_sample(denoise, noise, steps, shift), goal, **EXACT)
    assert levels[0] == 1 and sorted(levels, reverse=True) == levels and len(levels) == steps


def test_gaussian_data_is_sampled_with_its_mean_and_spread():
    """For x ~ N(m, s^2) the best denoiser is known in closed form; many steps must give that distribution."""
    m, s = 0.7, 0.3

    def denoise(x, tau):
        t = tau[:, None]
        variance = ((1 - t) * s) ** 2 + t**2
        return m + (1 - t) * s**2 / variance * (x - (1 - t) * m)

    x = euler_sample(denoise, torch.randn(4000, 1, generator=generator()), 500, 3.0)
    assert x.mean().item() == pytest.approx(m, abs=0.02)
    assert x.std().item() == pytest.approx(s, abs=0.02)


def test_steps_below_one_are_refused():
    with pytest.raises(ValueError, match="denoise_steps"):
        euler_sample(lambda x, tau: x, torch.zeros(1, 1), 0, 1.0)


def test_the_loss_is_the_squared_velocity_error():
    x, predicted, noise = (normal(2, 3, 1, 2, 12, seed=i) for i in range(3))
    tau = torch.tensor([[0.2, 0.5, 1.0], [0.9, 0.06, 0.3]], dtype=torch.float64)
    noisy, t = add_noise(x, noise, tau), tau[..., None, None, None]
    velocity = (noisy - predicted) / t
    expected = (velocity - (noise - x)).square().mean(dim=(2, 3, 4))
    ones = torch.ones(2, 3, 1, 2, 4)
    torch.testing.assert_close(velocity_loss(predicted, x, tau, ones, 0.05), expected, **EXACT)
    nearly_clean = velocity_loss(predicted, x, torch.full_like(tau, 1e-6), ones, 0.5)
    torch.testing.assert_close(nearly_clean, (predicted - x).square().mean(dim=(2, 3, 4)) / 0.5**2, **EXACT)


def test_shifted_levels_have_the_shifted_median():
    tau = sample_tau((20_000,), 3.0, generator(), torch.device("cpu"))
    assert 0 <= tau.min() and tau.max() <= 1
    assert tau.median().item() == pytest.approx(3 * 0.5 / (1 + 2 * 0.5), abs=0.01)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(2, 12), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_clean_prefixes_are_longer_than_half(lengths, seed):
    drawn = torch.rand(len(lengths), 12, generator=generator(seed)) + 0.01
    tau = prefix_tau(drawn, torch.tensor(lengths), generator(seed))
    for before, after, length in zip(drawn, tau, lengths, strict=True):
        clean = int((after == 0).sum())
        assert clean == 0 or clean > length / 2
        assert torch.equal(after, torch.cat([torch.zeros(clean), before[clean:]]))


def test_about_half_of_the_clips_have_a_prefix():
    tau = prefix_tau(torch.ones(2000, 8), torch.full((2000,), 8), generator())
    assert (tau[:, 0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_rare_colours_weigh_more_and_the_mean_is_one():
    frames = torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8)
    frames[0, 0, 0, 0] = 255  # one pixel of 64 in the real frame
    frames[0, 1] = 128  # padding, whose colours count for nothing
    mask = torch.tensor([[True, False]])
    weight = rarity_weight(frames, mask, 0.75)
    # Weights are fp32, whose unit is 6e-8: a sum of 64 of them, and a quotient of two powers, are off by 64 at most.
    assert weight[0, 0].mean().item() == pytest.approx(1, rel=64 * 2**-24)
    assert (weight[0, 0, 0, 0] / weight[0, 0, 1, 1]).item() == pytest.approx(63**0.75, rel=64 * 2**-24)
    assert weight[0, 0, 0, 0] <= MAX_RARITY
    assert torch.equal(rarity_weight(frames, mask, 0.0)[0, 0], torch.ones(8, 8))


@pytest.mark.parametrize("patches", [Patches(4, 4), Patches(8, 2), Patches(8, 12)])
def test_patches_are_the_frame_cut_up(patches):
    frames = torch.randint(0, 256, (2, 3, 8, 12, 3), generator=generator(), dtype=torch.uint8)
    x = patches.from_frames(frames)
    assert torch.equal(patches.to_frames(x), frames)
    corner = frames[1, 2, : patches.height, : patches.width].numpy().astype(np.float64) / 127.5 - 1
    exact = patches.from_frames(frames, torch.float64)
    np.testing.assert_allclose(exact[1, 2, 0, 0].numpy(), corner.reshape(-1), **EXACT)
    # A quotient of up to 2 and a difference, each rounded to the 24 bits of fp32.
    assert x.dtype == torch.float32 and (x - exact).abs().max() <= 2 * 2**-23


def test_a_shortcut_lands_where_two_half_steps_do():
    g = generator()
    tau = torch.rand(6, 5, generator=g, dtype=torch.float64)
    jump = draw_shortcut(tau, 3.0, g)
    others = [i for i in range(6) if i not in jump.rows.tolist()]
    assert torch.equal(jump.tau[others], tau[others]) and (jump.steps[others] == FINEST).all()
    assert (jump.steps[jump.rows] < FINEST).all()
    noised = torch.randn(len(jump.rows), 5, 2, 3, generator=g, dtype=torch.float64)

    def denoise(x, tau, steps):  # nonlinear, and different for every schedule and level
        return torch.sin(x + tau[..., None, None] + steps[..., None, None])

    target = shortcut_target(denoise, noised, jump, 3.0)
    for r, row in enumerate(jump.rows.tolist()):
        for t in range(5):
            index, place = int(jump.steps[row, t]), int(jump.place[r, t])
            count = 2 ** (index + 1)
            levels = [3 * (1 - k / count) / (1 + 2 * (1 - k / count)) for k in range(count + 1)]
            x = noised[r, t]
            for k in (2 * place, 2 * place + 1):
                clean = torch.sin(x + levels[k] + index + 1)
                x = levels[k + 1] / levels[k] * x + (1 - levels[k + 1] / levels[k]) * clean
            start, end = levels[2 * place], levels[2 * place + 2]
            jumped = end / start * noised[r, t] + (1 - end / start) * target[r, t]
            torch.testing.assert_close(jumped, x, **EXACT)
            assert abs(float(jump.tau[row, t]) - start) < 1e-12


def test_schedules_are_told_apart_by_their_number_of_steps():
    assert [steps_index(n) for n in (1, 2, 3, 4, 7, 8, 50)] == [0, 1, 1, 2, 2, 3, 3]
