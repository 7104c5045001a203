"""FrameLocalAttention: dense attention inside a window of the last k frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.backends import native_kernels
from lssvwm_rl.model.precision import at_least_fp32, state_zeros
from lssvwm_rl.native.attention import Window, window_attention
from lssvwm_rl.native.library import Kernels

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of past frames, each (B, M, h*w, heads, P), oldest first."""


class FrameLocalAttention(nn.Module):
    """Every token attends to its own frame and to the clean tokens of the k - 1 frames before (Po et al. 2025, 4.2).

    A noised frame sees the same clean past as inference will show it, so training clips and one-frame steps with cached
    keys are the same function. Queries and keys are RMS-normalised; order comes from a learned bias per head over
    (frame, row, column) offsets, as in T5 (arXiv 1910.10683), so there is no absolute time.

    Args:
        width: token width D.
        grid: tokens per frame (h, w).
        head_size: divides the width.
        window: k, frames visible including the own one; at least 1.
        backend: see `backends.resolve_backend`.

    Raises:
        ValueError: if the head size does not divide the width, or the window is empty.
    """

    def __init__(self, width: int, grid: tuple[int, int], head_size: int, window: int, backend: str = "auto"):
        super().__init__()
        if width % head_size:
            raise ValueError(f"head_size {head_size} does not divide the width {width}; choose a divisor.")
        if window < 1:
            raise ValueError(f"The window must be at least 1 frame, got {window}.")
        self.offsets: Tensor
        self.tokens, self.window, self.head_size, self.heads = grid[0] * grid[1], window, head_size, width // head_size
        self.backend = backend
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(head_size, eps=1e-6)
        self.k_norm = nn.RMSNorm(head_size, eps=1e-6)
        rows, columns = grid
        self.bias = nn.Parameter(torch.zeros(self.heads, window * (2 * rows - 1) * (2 * columns - 1)))
        self.register_buffer("offsets", _offset_index(grid, window), persistent=False)

    def initial_cache(self, batch_size: int) -> KeysValues:
        """Zero keys and values of k - 1 frames; what lies before an episode is masked by the frame counter."""
        shape = (batch_size, self.window - 1, self.tokens, self.heads, self.head_size)
        keys = state_zeros(self.bias, *shape)
        return keys, keys.clone()

    def mask(self, frames: Tensor, T: int, S: int) -> Tensor:
        """What is added to the scores of T frames in S streams; the same for every pass over a frame.

        Args:
            frames: (B,) int64, frames that the memory has seen before; what lies before an episode is hidden.

        Returns:
            (B*T, heads, S*n, (k-1+S)*n): the bias, -inf for the other stream and before the episode.
        """
        # Frame t sees the j-th frame before it only if the episode has one.
        steps = torch.arange(T, device=frames.device)
        back = torch.arange(self.window - 1, 0, -1, device=frames.device)
        hidden = frames[:, None, None] + steps[:, None] < back  # (B, T, k-1)
        hidden = F.pad(hidden.repeat_interleave(self.tokens, dim=-1), (0, S * self.tokens))
        return self._bias(S).masked_fill(hidden.flatten(0, 1)[:, None, None], float("-inf"))

    def forward(
        self, tokens: Tensor, cache: KeysValues, mask: Tensor | None, frames: Tensor, write: bool = True
    ) -> tuple[Tensor, KeysValues]:
        """Attend.

        Args:
            tokens: (B, T, S, h, w, D); the last of the S streams is the clean one, which the other reads.
            cache: of the k - 1 frames before the first one.
            mask: see `mask`, for T = 1; made here if None.
            frames: (B,) int64, frames that the memory has seen before.
            write: whether the frames stay in the cache.

        Returns:
            Tokens of the same shape and the cache after frame T.
        """
        # One frame is always PyTorch's, so that it is rounded alike with and without a mask that was made before.
        kernels = self._kernels(tokens, cache, frames) if write and mask is None and tokens.shape[1] > 1 else None
        if kernels is not None:
            return self._native(kernels, tokens, cache, frames)
        (T, S), n, past = tokens.shape[1:3], self.tokens, self.window - 1
        q, k, v = project(self.qkv, self.q_norm.weight, self.k_norm.weight, tokens, self.head_size)
        if T > 1 or write:
            seen = (torch.cat([old.to(new.dtype), new[:, :, -n:]], 1) for old, new in zip(cache, (k, v), strict=True))
            seen_k, seen_v = seen
        if past:
            before = (_windows(seen_k, T), _windows(seen_v, T)) if T > 1 else (t.flatten(1, 2)[:, None] for t in cache)
            k, v = (torch.cat([old.to(own.dtype), own], 2) for old, own in zip(before, (k, v), strict=True))
        if mask is not None:
            y = _attend(q, k, v, mask)
        else:
            # Only the first k - 1 frames can see past the beginning of an episode; for the others one bias does.
            first = min(T, past)
            parts = [_attend(q[:, :first], k[:, :first], v[:, :first], self.mask(frames, first, S))] if first else []
            if T > first:
                parts.append(_attend(q[:, first:], k[:, first:], v[:, first:], self._bias(S)[None]))
            y = torch.cat(parts, dim=1)
        y = self.out_proj(y.view(tokens.shape))
        return y, (at_least_fp32(seen_k[:, T:]), at_least_fp32(seen_v[:, T:])) if write else cache

    def _kernels(self, tokens: Tensor, cache: KeysValues, frames: Tensor) -> Kernels | None:
        """The kernels, which compute with parameters and a cache of one dtype and pass the cache no gradient."""
        # They read what the sizes say, whatever is there: a foreign cache is left to PyTorch, which refuses it.
        own = (len(tokens), self.window - 1, self.tokens, self.heads, self.head_size)
        suits = frames.shape == own[:1] and all(t.shape == own and t.dtype == self.bias.dtype for t in cache)
        if not suits or cache[0].requires_grad or cache[1].requires_grad:
            return None
        return native_kernels(self.backend, self.bias, tokens)

    def _native(self, kernels: Kernels, tokens: Tensor, cache: KeysValues, frames: Tensor) -> tuple[Tensor, KeysValues]:
        """`forward` of frames that stay in the cache."""
        (B, T, S), n, past = tokens.shape[:3], self.tokens, self.window - 1
        qkv = self.qkv(tokens).view(B, T, S, n, 3, self.heads, self.head_size)
        window = Window(*cache, frames, self.offsets)
        y = window_attention(kernels, qkv, self.q_norm.weight, self.k_norm.weight, self.bias, window)
        # The few frames that stay are normalised again: so a gradient can pass through the cache that they make.
        last = at_least_fp32(qkv[:, max(0, T - past) :, -1, :, 1:])
        new = F.rms_norm(last[:, :, :, 0], (self.head_size,), eps=1e-6) * self.k_norm.weight, last[:, :, :, 1]
        kept = (torch.cat([old[:, T:], own], 1) for old, own in zip(cache, new, strict=True))
        keys, values = kept
        return self.out_proj(y.view(tokens.shape)), (keys, values)

    def _bias(self, S: int) -> Tensor:
        """(heads, S*n, (k-1+S)*n), past frames first; -inf for the other stream."""
        bias = self.bias[:, self.offsets]
        if S == 1:
            return bias
        before, own = bias.split([bias.shape[-1] - self.tokens, self.tokens], dim=-1)
        other = torch.full_like(own, float("-inf"))
        return torch.cat([torch.cat([before, own, other], -1), torch.cat([before, other, own], -1)], dim=1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Queries (B, T, Q, heads, P) to the keys (B, T, L, heads, P) of the same frame -> (B, T, Q, D)."""
    B, T = q.shape[:2]
    q, k, v = (t.flatten(0, 1).transpose(1, 2) for t in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
    return y.transpose(1, 2).flatten(2).unflatten(0, (B, T))


def project(
    linear: nn.Linear, q_weight: Tensor, k_weight: Tensor, tokens: Tensor, head_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, T, S*n, heads, P) of tokens (B, T, S, h, w, D), the first two RMS-normalised."""
    B, T = tokens.shape[:2]
    qk, v = linear(tokens).view(B, T, -1, 3, tokens.shape[-1] // head_size, head_size).split([2, 1], dim=3)
    weight = torch.stack([q_weight, k_weight])[:, None]
    q, k = (F.rms_norm(qk, (head_size,), eps=1e-6) * weight.to(qk.dtype)).unbind(3)
    return q, k, v[:, :, :, 0]


def _windows(seen: Tensor, T: int) -> Tensor:
    """(B, k-1+T, n, heads, P) -> tokens of the k - 1 frames before each frame, (B, T, (k-1)*n, heads, P)."""
    return seen.unfold(1, seen.shape[1] - T, 1)[:, :T].permute(0, 1, 5, 2, 3, 4).flatten(2, 3)


def _offset_index(grid: tuple[int, int], window: int) -> Tensor:
    """(n, k*n) int64: which entry of the bias table a (query, key) pair uses."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    row = rows[:, None] - rows[None] + grid[0] - 1  # (n, n)
    column = columns[:, None] - columns[None] + grid[1] - 1
    place = row * (2 * grid[1] - 1) + column
    places = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    back = torch.arange(window - 1, -1, -1)
    return (back[None, :, None] * places + place[:, None, :]).flatten(1)
