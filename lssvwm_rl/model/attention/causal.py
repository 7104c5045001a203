"""CausalAttention: dense attention over all past frames with a growing cache; the baseline without a memory limit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.attention.local import KeysValues, project
from lssvwm_rl.model.precision import at_least_fp32, state_zeros

ROTARY_BASE = 10_000.0


class CausalAttention(nn.Module):
    """Every token attends to its own frame and to the clean tokens of all frames before.

    Queries and keys are RMS-normalised and turned by the frame's number (rotary embedding, arXiv 2104.09864), so that
    only differences of frames count. Rows of a batch may have seen different numbers of frames: a cache is as long as
    the longest row's, newest frame last, and what lies before a row's first frame is masked. With M cached frames, T
    new ones and n tokens per frame, the keys are M*n cached, then T*n clean ones; with two streams (S = 2) T*n noised
    ones follow.

    Args:
        width: token width D.
        grid: tokens per frame (h, w).
        head_size: even; divides the width.

    Raises:
        ValueError: if the head size does not divide the width, or is odd.
    """

    def __init__(self, width: int, grid: tuple[int, int], head_size: int):
        super().__init__()
        if width % head_size or head_size % 2:
            raise ValueError(f"head_size {head_size} is odd or does not divide the width {width}; choose another.")
        self.frequencies: Tensor
        self.tokens, self.head_size, self.heads = grid[0] * grid[1], head_size, width // head_size
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(head_size, eps=1e-6)
        self.k_norm = nn.RMSNorm(head_size, eps=1e-6)
        frequencies = ROTARY_BASE ** -torch.linspace(0, 1, head_size // 2 + 1)[:-1]
        self.register_buffer("frequencies", frequencies, persistent=False)

    def initial_cache(self, batch_size: int) -> KeysValues:
        """Keys and values of no frames, (B, 0, h*w, heads, P)."""
        shape = (batch_size, 0, self.tokens, self.heads, self.head_size)
        keys = state_zeros(self.qkv.weight, *shape)
        return keys, keys.clone()

    def mask(self, frames: Tensor, T: int, S: int) -> Tensor:
        """Which keys T frames in S streams see; the same for every pass over a frame.

        Args:
            frames: (B,) int64, frames that each row has seen before, M the most of them.

        Returns:
            (B, 1, S*T*n, (M+T)*n), and T*n keys more if S = 2, bool.
        """
        visible = _visible(frames, T, S, int(frames.max()))
        return visible.repeat_interleave(self.tokens, dim=1).repeat_interleave(self.tokens, dim=2)[:, None]

    def forward(
        self, tokens: Tensor, cache: KeysValues, mask: Tensor | None, frames: Tensor, write: bool = True
    ) -> tuple[Tensor, KeysValues]:
        """Attend.

        Args:
            tokens: (B, T, S, h, w, D); the last of the S streams is the clean one, which the other reads.
            cache: of all frames before the first one.
            mask: see `mask`; made here if None.
            frames: (B,) int64, frames that each row has seen before.
            write: whether the frames stay in the cache.

        Returns:
            Tokens of the same shape and the cache after frame T.
        """
        (T, S), n = tokens.shape[1:3], self.tokens
        mask = self.mask(frames, T, S) if mask is None else mask
        # After the oldest row has begun a new episode, the cache is longer than any row needs: the mask says how much.
        spare = cache[0].shape[1] - (mask.shape[-1] // n - S * T)
        cache = (cache[0][:, spare:], cache[1][:, spare:])
        q, k, v = project(self.qkv, self.q_norm.weight, self.k_norm.weight, tokens, self.head_size)
        q, k = self._rotate(torch.stack([q, k]), frames).unbind(0)
        # Apart by stream. What stays in the cache, and what later frames see, are the clean (last) stream's keys.
        streams = [t.unflatten(2, (S, n)).transpose(1, 2) for t in (q, k, v)]  # each (B, S, T, n, heads, P)
        seen = tuple(torch.cat([old.to(t.dtype), t[:, -1]], 1) for old, t in zip(cache, streams[1:], strict=True))
        # All keys: cached and clean frames, then the noised ones, which each noised frame sees of its own alone.
        keys, values = (
            torch.cat([all_clean, t[:, :-1].flatten(1, 2)], 1).flatten(1, 2)
            for all_clean, t in zip(seen, streams[1:], strict=True)
        )
        # Queries are ordered by stream, frame and token, as the mask's rows are.
        y = F.scaled_dot_product_attention(
            streams[0].flatten(1, 3).transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=mask,
        )
        # Back to (B, T, S, ...).
        y = y.transpose(1, 2).unflatten(1, (S, T, n)).transpose(1, 2).reshape(tokens.shape)
        return self.out_proj(y), (at_least_fp32(seen[0]), at_least_fp32(seen[1])) if write else cache

    def _rotate(self, x: Tensor, frames: Tensor) -> Tensor:
        """Turn (2, B, T, S*n, heads, P) by the number of each frame, counted from its row's first."""
        number = frames[:, None] + torch.arange(x.shape[2], device=x.device)
        # Entries i and P/2 + i are a pair of coordinates, turned by number * frequency_i. A query and a key, turned by
        # t and s, have the same product as one that is turned by t - s and one that is not.
        angle = (number[..., None] * self.frequencies)[:, :, None, None]  # (B, T, 1, 1, P/2)
        cos, sin = angle.cos(), angle.sin()
        a, b = at_least_fp32(x).chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


def _visible(frames: Tensor, T: int, S: int, M: int) -> Tensor:
    """(B, S*T, M+T[+T]) bool: which frames each frame of each stream attends to."""
    t = torch.arange(T, device=frames.device)
    # Numbers of the M + T clean keys, relative to the first new frame: -M..-1 are cached, 0..T-1 new.
    key = torch.arange(M + T, device=frames.device) - M
    of_episode = key >= -frames[:, None, None]  # (B, 1, M+T); a row has seen `frames` of the M cached ones
    clean = of_episode & (key <= t[:, None])  # a clean frame sees the past and itself,
    if S == 1:
        return clean
    noised = of_episode & (key < t[:, None])  # a noised one the clean past alone, and of the noised keys its own
    own = torch.eye(T, dtype=torch.bool, device=frames.device).expand(len(frames), T, T)
    return torch.cat([torch.cat([noised, own], 2), torch.cat([clean, torch.zeros_like(own)], 2)], dim=1)
