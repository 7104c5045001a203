"""Fast weights: an associative memory whose keys are never trained, from which the denoiser recalls what comes next.

When a frame is about to be dreamt, two things may say what it will show: the frame before with the action taken there,
if that happened before (what an induction head finds), and, in models with vectors, the place that its vector names.
Both are keys to one matrix each: fast weights (Schlag et al. 2021, "Linear Transformers Are Secretly Fast Weight
Programmers", arXiv 2102.11174), written by recursive least squares instead of a sum, so that as many frames as a key
has numbers do not disturb each other. Nothing of it has to be learnt but what to do with what is recalled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.components import Components
from lssvwm_rl.model.conditioning import ActionEmbedding
from lssvwm_rl.model.draws import Draws
from lssvwm_rl.model.precision import at_least_fp32

States = tuple[Tensor, ...]
"""The last frame's codes (B, n * P), the matrices (B, keys, n * P, N) and their covariances (B, keys, N, N)."""
CHUNK = 64  # frames whose keys are compared with each other
FLOOR = 0.01  # of a direction's variance in patches, as a share of the largest one
FRAME_SCALE = 1.2  # radians per standard deviation of the last frame's codes: what a dream gets wrong is less
ACTION_SCALE = 2.0  # radians
NOISE = 3e-4  # variance of what is stored, where that of each of its N parts before anything is seen is 1 / N
DRIFT = 1e-5  # by which that variance grows with every frame, times N, so that what has changed is learnt anew
LIKE = 0.2  # mean square by which a dreamt frame's codes may differ from what is recalled and still mean the same
VECTOR_SCALES = (16.0, 64.0)  # radians per unit: half of the pairs tell differences of a few hundredths apart


@dataclass(frozen=True)
class FastWeightsConfig:
    """Sizes of the fast weights.

    Raises:
        ValueError: for an odd or negative size, or values below 1.
    """

    size: int = 0
    """N, numbers of a key, an even number: about so many different frames are recalled well. 0 for a model without."""
    values: int = 48
    """P, numbers of a patch that are stored: its projections on the principal components of the data's patches."""

    def __post_init__(self) -> None:
        if self.size < 0 or self.size % 2 or self.values < 1:
            raise ValueError(f"Fast weights need an even size and at least 1 value, got {self}.")


class Expected(NamedTuple):
    """What is recalled for a frame before it is there."""

    keys: Tensor
    """(B, keys, N), of length 1."""
    values: Tensor
    """(B, keys, n * P)."""
    known: Tensor
    """(B, keys), 1 - k^T P k, from 0 for a key like none before to 1."""


class FastWeights(nn.Module):
    """What is best recalled of v, the codes of a frame's patches, by its key k, as the frames come::

        P <- P + DRIFT,  g = P k / (NOISE + k^T P k),  W <- W + (v - W k) g^T,  P <- P - g (P k)^T

    which is a Kalman filter for weights that wander slowly, from W = 0 and P = 1 on. A key is [sin, cos] of random
    projections (Rahimi & Recht 2007): of the codes of the frame before and the action since, and, in models with
    vectors, of the frame's vector. `fit` takes the patches' principal components from the data; they are saved with the
    model. Trained is one linear layer alone, which reads what is recalled.

    Args:
        width: of the model's tokens, D.
        patch: pixels of a patch, channels included.
        grid: tokens per frame (h, w).
        action_space: as `lssvwm_rl.spaces.space_to_json` writes it.
        vector_size: V, 0 for none.
    """

    def __init__(
        self,
        config: FastWeightsConfig,
        width: int,
        patch: int,
        grid: tuple[int, int],
        action_space: dict[str, Any],
        vector_size: int,
    ):
        super().__init__()
        self.config, self.grid = config, grid
        self.mean: Tensor
        self.encode: Tensor
        self.from_frame: Tensor
        self.from_vector: Tensor
        self.P = min(config.values, patch)
        draw, angles, codes = Draws(seed=0), config.size // 2, grid[0] * grid[1] * self.P
        self.register_buffer("mean", torch.zeros(patch))
        self.register_buffer("encode", (draw(self.P, patch) / math.sqrt(patch)).float())
        self._fix("from_frame", draw(angles, codes) * FRAME_SCALE / math.sqrt(codes))
        self.action = ActionEmbedding(action_space, angles, linear=True)
        for weight in self.action.parameters():
            weight.data.copy_(ACTION_SCALE * draw(*weight.shape))
        self.action.requires_grad_(False)
        low, high = VECTOR_SCALES
        scale = low * (high / low) ** (torch.arange(angles, device="cpu") / max(1, angles - 1))
        self._fix("from_vector", scale[:, None] * draw(angles, vector_size))
        self.read = nn.Linear(self.keys * (self.P + 1), width)

    def _fix(self, name: str, weights: Tensor) -> None:
        self.register_buffer(name, weights.float(), persistent=False)

    @property
    def keys(self) -> int:
        """Kinds of keys, each with a matrix of its own."""
        return 2 if self.from_vector.shape[1] else 1

    def initial_state(self, batch_size: int) -> States:
        """Nothing was seen."""
        zeros, codes = at_least_fp32(self.mean).new_zeros, self.grid[0] * self.grid[1] * self.P
        weights = zeros(batch_size, self.keys, codes, self.config.size)
        covariance = torch.eye(self.config.size).to(weights).repeat(batch_size, self.keys, 1, 1)
        return zeros(batch_size, codes), weights, covariance

    def forward(
        self,
        patches: Tensor,
        actions: Tensor,
        none: Tensor,
        vectors: Tensor | None,
        states: States,
        mask: Tensor | None = None,
    ) -> tuple[tuple[Tensor, Tensor], States]:
        """Take in T frames.

        Args:
            patches: (B, T, h, w, pixels), clean, in [-1, 1].
            actions: (B, T[, A]), the action just before each frame.
            none: (B, T) bool, True where there was none.
            vectors: (B, T, V), or None for models without.
            states: before the first frame.
            mask: (B, T) bool, False for padding in front of the frames, which are all real if None.

        Returns:
            What `recalled` gives for frames (B, T), and the states after the last.
        """
        mask = torch.ones_like(none) if mask is None else mask
        expected, after = self._take_in(patches, actions, none, vectors, states, mask)
        return self.recalled(expected), after

    @torch.no_grad()
    def _take_in(
        self, patches: Tensor, actions: Tensor, none: Tensor, vectors: Tensor | None, states: States, mask: Tensor
    ) -> tuple[Expected, States]:
        """`forward` with what is expected of T frames, (B, T, keys, ...)."""
        with torch.autocast(patches.device.type, enabled=False):
            codes = self._codes(patches) * mask[..., None]
            before = torch.cat([states[0][:, None].to(codes.dtype), codes[:, :-1]], dim=1)
            keys = (self._keys(before, actions, none, vectors) * mask[..., None, None]).transpose(
                1, 2
            )  # (B, keys, T, N)
            now, parts = tuple(state.to(codes.dtype) for state in states[1:]), []
            chunks = (keys.split(CHUNK, dim=2), codes[:, None].split(CHUNK, dim=2), mask[:, None].split(CHUNK, dim=2))
            for k, v, real in zip(*chunks, strict=True):
                *recalled, now = least_squares(k, v, now, real)
                parts.append(recalled)
        values, known = (torch.cat(part, dim=2).transpose(1, 2) for part in zip(*parts, strict=True))
        return Expected(keys.transpose(1, 2), values, known), (codes[:, -1], *now)

    @torch.no_grad()
    def expect(self, action: Tensor, none: Tensor, vector: Tensor | None, states: States) -> Expected:
        """What is recalled for the one frame that follows the states.

        Args:
            action: (B,) or (B, A).
            none: (B,) bool.
            vector: (B, V) of the frame, or None for models without.
        """
        vectors = None if vector is None else vector[:, None]
        last = states[0].to(self.mean.dtype)
        keys = self._keys(last[:, None], action[:, None], none[:, None], vectors)[:, 0]
        weights, covariance = (state.to(keys.dtype) for state in states[1:])
        values, crossed = (weights @ keys[..., None])[..., 0], (covariance @ keys[..., None])[..., 0]
        return Expected(keys, values, _known((crossed * keys).sum(dim=-1) + DRIFT))

    @torch.no_grad()
    def write(self, expected: Expected, patches: Tensor, states: States, dreamt: bool = False) -> States:
        """The states after the frame that was expected turned out to be patches (B, h, w, pixels).

        A dreamt frame that is like what is recalled is taken for it: otherwise the errors of a dream, which are what
        the next frame is recalled by, would grow from frame to frame.
        """
        codes = self._codes(patches[:, None])[:, 0]
        if dreamt:
            codes = torch.lerp(codes, *self._recognised(expected, codes))
        error = codes[:, None] - expected.values
        weights, covariance = (state.to(codes.dtype) for state in states[1:])
        key = expected.keys
        crossed = (covariance @ key[..., None])[..., 0] + DRIFT * key
        gain = crossed / (NOISE + (crossed * key).sum(dim=-1, keepdim=True))
        drift = DRIFT * torch.eye(
            covariance.shape[-1], device=key.device, dtype=key.dtype
        )  # exporters know no diagonal
        covariance = torch.addcmul(covariance, gain[..., None], crossed[:, :, None], value=-1) + drift
        return codes, torch.addcmul(weights, error[..., None], gain[:, :, None]), covariance

    def recalled(self, expected: Expected) -> tuple[Tensor, Tensor]:
        """What is expected of frames, (..., keys, n * P), for a model to read.

        Returns:
            Tokens (..., h, w, D), each of its own patch's values, to be added to embedded patches; and a picture
            (..., h, w, pixels) of clean patches, without their mean, and the fainter the less the key was known. Times
            the noise level it is added to predicted ones: where all is noise, a prediction begins as what is recalled.
        """
        known, dtype = expected.known[..., None], self.read.weight.dtype
        # As many frames as a key has numbers make what unknown keys recall large: larger than any frame's codes.
        size = expected.values.square().mean(dim=-1, keepdim=True).clamp(min=1)
        codes = (expected.values * known.square() / size).unflatten(-1, (*self.grid, self.P))
        share = known**8 / (known**8).sum(dim=-2, keepdim=True).clamp(min=1e-6)  # what is known best tells most
        mean = (codes * share[..., None, None]).sum(dim=-4)
        decode = self.encode.T / self.encode.square().sum(dim=1)
        own = torch.cat([codes, known[..., None, None].expand(*codes.shape[:-1], 1)], dim=-1).movedim(-4, -2)
        return self.read(own.flatten(-2).to(dtype)), F.linear(mean, decode).to(dtype)

    def _recognised(self, expected: Expected, codes: Tensor) -> tuple[Tensor, Tensor]:
        """What is recalled (B, n * P), by the key that was known best, and how far the codes mean it (B, 1)."""
        rows = torch.arange(len(codes), device=codes.device)
        known, best = expected.known.max(dim=1)
        recalled = expected.values[rows, best]
        unlike = (codes - recalled).square().mean(dim=-1)
        return recalled, (known.square() * torch.exp(-unlike / (2 * LIKE)))[:, None]

    def _codes(self, patches: Tensor) -> Tensor:
        """(B, T, h, w, pixels) -> (B, T, n * P)."""
        return F.linear(at_least_fp32(patches), self.encode, -(self.encode @ self.mean)).flatten(-3)

    def _keys(self, before: Tensor, actions: Tensor, none: Tensor, vectors: Tensor | None) -> Tensor:
        """(B, T, keys, N)."""
        angles = [F.linear(before, self.from_frame) + self.action(actions, none)]
        if vectors is not None:
            angles.append(F.linear(vectors.to(before.dtype), self.from_vector))
        stacked = torch.stack(angles, dim=2)
        return torch.cat([stacked.sin(), stacked.cos()], dim=-1) / math.sqrt(self.config.size // 2)

    @torch.no_grad()
    def fit(self, components: Components) -> None:
        """Take the principal components of the data's patches, each scaled by the root of its deviation.

        By the root, since rare details are small and what a dream gets wrong is small, too: whitened, errors would
        outweigh what is known, and not scaled at all, brightness would outweigh everything.
        """
        values, vectors = components.variances[: self.P], components.directions[:, : self.P]
        values = values + FLOOR * values[0] + 1e-9
        # The mean square of all codes of a patch is 1.
        scale = values**-0.25
        scale = scale / (values * scale**2).mean().sqrt()
        self.mean.copy_(components.mean)
        self.encode.copy_((vectors * scale).T)


def _known(variance: Tensor) -> Tensor:
    return (1 - variance).clamp(0, 1)


def least_squares(keys: Tensor, values: Tensor, states: States, real: Tensor) -> tuple[Tensor, Tensor, States]:
    """The recursion of `FastWeights` for T frames at once.

    The errors that its steps meet are those of a Gaussian process of the same covariance, so a Cholesky factor of the T
    frames' covariance gives all of them.

    Args:
        keys: (B, K, T, N), of length 1, or 0 for padding.
        values: (B, K or 1, T, V).
        states: matrices (B, K, V, N) and covariances (B, K, N, N) before the first frame.
        real: (B, K or 1, T) bool, False for padding, which changes nothing.

    Returns:
        W k_t before every write, (B, K, T, V), how well each key was known then, (B, K, T), and the matrices and
        covariances after the last.
    """
    weights, covariance = states
    count = real.to(keys.dtype).cumsum(dim=-1)[..., None]  # (B, K or 1, T, 1), frames so far
    gram = keys @ keys.mT * DRIFT * torch.minimum(count, count.mT) + keys @ covariance @ keys.mT
    factor = torch.linalg.cholesky(gram + NOISE * torch.eye(keys.shape[2], device=keys.device, dtype=keys.dtype))
    predicted = keys @ weights.mT
    crossed = keys @ covariance + DRIFT * count * keys
    both = torch.linalg.solve_triangular(factor, torch.cat([values - predicted, crossed], dim=-1), upper=False)
    error, gain = both.split([weights.shape[2], covariance.shape[3]], dim=-1)
    drift = DRIFT * count[..., -1:, :] * torch.eye(covariance.shape[3], device=keys.device, dtype=keys.dtype)
    after = weights + error.mT @ gain, covariance + drift - gain.mT @ gain
    known = _known(factor.diagonal(dim1=-2, dim2=-1).square() - NOISE)
    return predicted + factor.tril(-1) @ error, known, after
