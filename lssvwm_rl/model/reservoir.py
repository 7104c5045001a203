"""Reservoir: leaky sums of fixed random features of the clean frames, read by fixed random projections.

What was seen is in them from the first update on, and there it stays: heads can learn to read it, while what trained
layers write moves faster than a head learns to multiply it with something else. It is a scan whose weights are never
trained, reduced to what one fixed query reads of its states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.components import Components
from lssvwm_rl.model.draws import Draws
from lssvwm_rl.model.precision import at_least_fp32

States = tuple[Tensor, ...]
"""Of every scan (B, n_blocks, heads, P)."""
CHUNK = 64  # frames whose pairwise decays are one matrix
FLOOR = 1e-5  # of a component's variance, as a share of the largest one
RARE = 2.0  # standard deviations of a component up to which it says nothing
LARGEST = 3.0  # standard deviations of a read beyond which it hardly grows


@dataclass(frozen=True)
class ReservoirConfig:
    """Sizes of a reservoir.

    Raises:
        ValueError: for a size below 1.
    """

    blocks: tuple[int, ...] = ()
    """Block side of every scan; none for a model without a reservoir. A side larger than the grid means all of it."""
    width: int = 128
    """Principal components of the data's patches that are seen, at most as many as a patch has pixels."""
    heads: int = 8
    """Per scan and block, each with a decay of its own."""
    head_size: int = 32
    """P, numbers per head."""
    half_lives: tuple[float, float] = (0.5, 8192.0)
    """Frames after which the fastest and the slowest head have forgotten half; the others lie between, by ratios."""
    reads: int = 64
    """Numbers that are read from each scan."""

    def __post_init__(self) -> None:
        if min((1, *self.blocks)) < 1 or min(self.width, self.heads, self.head_size, self.reads) < 1:
            raise ValueError(f"The sizes of a reservoir must be at least 1, got {self}.")
        if min(self.half_lives) <= 0:
            raise ValueError(f"Half-lives must be positive, got {self.half_lives}.")

    @property
    def size(self) -> int:
        """Numbers that are read in all."""
        return self.reads * len(self.blocks)


class Reservoir(nn.Module):
    """Fixed features (B, T, size) of all frames up to each; nothing of it is trained.

    Of tokens u of one block and frame, and per head::

        u = shrink(whitened patch) + position,  shrink(z) = sign(z) max(0, |z| - RARE)
        g_t = a g_(t-1) + sum over the block's tokens (q . rms_norm(W_B u)) W_x u

    A sum of all that was seen would be a sum of what is always seen: the walls of sixty frames outweigh a lamp in the
    first. So patches are seen as their principal components, each of variance 1, and only as far as these are unusual
    (soft thresholding, Donoho 1995).

    `fit` takes the components and `fit_reads` the moments of what is read from data; these are saved with the model.
    The random weights are not: they are the same on every machine.

    Args:
        patch: pixels of a patch, channels included.
        grid: tokens per frame (h, w).
    """

    def __init__(self, config: ReservoirConfig, patch: int, grid: tuple[int, int]):
        super().__init__()
        self.config, self.grid = config, grid
        draw = Draws(seed=len(config.blocks))
        width, inner = min(config.width, patch), config.heads * config.head_size
        self.encode: Tensor
        self.encode_bias: Tensor
        self.position: Tensor
        self.read_mean: Tensor
        self.read_scale: Tensor
        self.decay: Tensor
        self.register_buffer("encode", (2 * RARE * draw(width, patch) / math.sqrt(patch)).float())
        self.register_buffer("encode_bias", torch.zeros(width))
        self._fix("position", 0.1 * draw(*grid, width))
        for i in range(len(config.blocks)):
            self._fix(f"x{i}", draw(inner, width) / math.sqrt(width))
            self._fix(f"gate{i}", draw(config.head_size, width) / math.sqrt(width))
            self._fix(f"query{i}", draw(config.head_size) / math.sqrt(config.head_size))
            numbers = self.n_blocks(i) * inner
            self._fix(f"project{i}", draw(config.reads, numbers) / math.sqrt(numbers))
        fast, slow = config.half_lives
        shares = torch.arange(config.heads) / max(1, config.heads - 1)
        self._fix("decay", 0.5 ** (1 / (fast * (slow / fast) ** shares)))
        self.register_buffer("read_mean", torch.zeros(config.size))
        self.register_buffer("read_scale", torch.ones(config.size))

    def _fix(self, name: str, weights: Tensor) -> None:
        self.register_buffer(name, weights.float(), persistent=False)

    def sides(self, scan: int) -> tuple[int, int]:
        """Block (b_h, b_w) of a scan."""
        side = self.config.blocks[scan]
        return min(side, self.grid[0]), min(side, self.grid[1])

    def n_blocks(self, scan: int) -> int:
        """Blocks of a scan."""
        b_h, b_w = self.sides(scan)
        return (self.grid[0] // b_h) * (self.grid[1] // b_w)

    def initial_state(self, batch_size: int) -> States:
        """Zeros (B, n_blocks, heads, P) for every scan."""
        heads, P = self.config.heads, self.config.head_size
        zeros = at_least_fp32(self.encode).new_zeros
        return tuple(zeros(batch_size, self.n_blocks(i), heads, P) for i in range(len(self.config.blocks)))

    @torch.no_grad()
    def forward(self, patches: Tensor, states: States, mask: Tensor | None = None) -> tuple[Tensor, States]:
        """Take in T frames.

        Args:
            patches: (B, T, h, w, pixels), clean, in [-1, 1].
            states: before the first frame, as `initial_state` makes them.
            mask: (B, T) bool, False for padding in front of the frames, which are all real if None.

        Returns:
            What is read after each frame (B, T, size) in [-1, 1], and the states after the last.
        """
        reads, after = self._raw(patches, states, mask)
        return torch.tanh((reads - self.read_mean) * self.read_scale / LARGEST), after

    def _raw(self, patches: Tensor, states: States, mask: Tensor | None = None) -> tuple[Tensor, States]:
        with torch.autocast(patches.device.type, enabled=False):
            tokens = self._tokens(at_least_fp32(patches))
            sums = [self._sum(i, tokens, state, mask) for i, state in enumerate(states)]
            reads = [self._read(i, each) for i, each in enumerate(sums)]
        return torch.cat(reads, dim=-1), tuple(each[:, -1] for each in sums)

    def _tokens(self, patches: Tensor) -> Tensor:
        return F.softshrink(F.linear(patches, self.encode, self.encode_bias), RARE) + self.position

    def _sum(self, scan: int, tokens: Tensor, state: Tensor, mask: Tensor | None) -> Tensor:
        """The leaky sums after every frame, (B, T, n_blocks, heads, P)."""
        (B, T), (h, w), (b_h, b_w) = tokens.shape[:2], self.grid, self.sides(scan)
        gate = F.rms_norm(F.linear(tokens, getattr(self, f"gate{scan}")), (self.config.head_size,), eps=1e-6)
        written = F.linear(tokens, getattr(self, f"x{scan}")) * (gate @ getattr(self, f"query{scan}"))[..., None]
        if mask is not None:
            written = written * mask[..., None, None, None]
        cut = written.view(B, T, h // b_h, b_h, w // b_w, b_w, -1).sum(dim=(3, 5))
        return leaky_sums(cut.view(B, T, -1, self.config.heads, self.config.head_size), self.decay, state)

    def _read(self, scan: int, sums: Tensor) -> Tensor:
        """(B, T, n_blocks, heads, P) -> (B, T, reads), all heads counting alike."""
        level = F.rms_norm(sums, sums.shape[-1:], eps=1e-10)
        return F.linear(level.flatten(2), getattr(self, f"project{scan}"))

    @torch.no_grad()
    def fit(self, components: Components) -> None:
        """Take the principal components of the data's patches. Only once, of a new model."""
        width = len(self.encode)
        variances = components.variances[:width]
        encode = (components.directions[:, :width] * (variances + FLOOR * variances[0] + 1e-9).rsqrt()).T
        self.encode.copy_(encode)
        self.encode_bias.copy_(-encode @ components.mean)

    @torch.no_grad()
    def fit_reads(self, patches: Tensor, mask: Tensor) -> None:
        """Take the moments of what is read from whole episodes, after `fit`.

        Args:
            patches: (B, T, h, w, pixels), from the first frame on.
            mask: (B, T) bool, real frames.
        """
        reads = self._raw(patches, self.initial_state(len(patches)))[0][mask]
        self.read_mean.copy_(reads.mean(dim=0))
        self.read_scale.copy_((reads.var(dim=0, unbiased=False) + 1e-4 * reads.var().clamp(min=1e-9)).rsqrt())


def leaky_sums(written: Tensor, decay: Tensor, state: Tensor) -> Tensor:
    """g_t = decay g_(t-1) + written_t.

    Args:
        written: (B, T, n_blocks, heads, P).
        decay: (heads,), in (0, 1].
        state: g before the first frame, (B, n_blocks, heads, P).

    Returns:
        (B, T, n_blocks, heads, P).
    """
    parts = []
    for chunk in written.split(CHUNK, dim=1):
        T = chunk.shape[1]
        steps = torch.arange(T, device=decay.device)
        lag = steps[:, None] - steps
        pairs = torch.where(lag >= 0, decay[:, None, None] ** lag.clamp(min=0), 0)  # (heads, T, T)
        carried = (decay[:, None] ** (steps + 1)).T[:, None, :, None] * state[:, None]
        parts.append(torch.einsum("hts,bsnhp->btnhp", pairs, chunk) + carried)
        state = parts[-1][:, -1]
    return torch.cat(parts, dim=1)
