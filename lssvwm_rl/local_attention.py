"""FrameLocalAttention: dense attention inside a window of the last k frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
    """

    def __init__(self, width: int, grid: tuple[int, int], head_size: int, window: int):
        super().__init__()
        if width % head_size:
            raise ValueError(f"head_size {head_size} does not divide the width {width}; choose a divisor.")
        if window < 1:
            raise ValueError(f"The window must be at least 1 frame, got {window}.")
        self.offsets: Tensor
        self.grid, self.window, self.head_size, self.heads = grid, window, head_size, width // head_size
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(head_size, eps=1e-6)
        self.k_norm = nn.RMSNorm(head_size, eps=1e-6)
        rows, columns = grid
        self.bias = nn.Parameter(torch.zeros(self.heads, window * (2 * rows - 1) * (2 * columns - 1)))
        self.register_buffer("offsets", _offset_index(grid, window), persistent=False)

    def initial_cache(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Zero keys and values (B, k-1, h*w, heads, P); what lies before an episode is masked by the frame counter."""
        shape = (batch_size, self.window - 1, self.grid[0] * self.grid[1], self.heads, self.head_size)
        keys = torch.zeros(shape, device=self.bias.device, dtype=torch.float32)
        return keys, keys.clone()

    def forward(
        self, tokens: Tensor, cache: tuple[Tensor, Tensor], frames: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend.

        Args:
            tokens: (B, T, S, h, w, D); the last of the S streams is the clean one, which the other reads.
            cache: keys and values (B, k-1, h*w, heads, P) of the frames before the first one, oldest first.
            frames: (B,) int64, frames that the memory has seen before; older cache rows are not attended to.

        Returns:
            Tokens of the same shape and the cache after frame T.
        """
        B, T, S = tokens.shape[:3]
        n, past = self.grid[0] * self.grid[1], self.window - 1
        q, k, v = self.qkv(tokens).view(B, T, S, n, 3, self.heads, self.head_size).unbind(4)
        q, k = self.q_norm(q), self.k_norm(k)
        keys = torch.cat([cache[0].to(k.dtype), k[:, :, -1]], dim=1)  # (B, k-1+T, n, heads, P)
        values = torch.cat([cache[1].to(v.dtype), v[:, :, -1]], dim=1)
        own_k, own_v = (t.permute(0, 1, 4, 2, 3, 5) for t in (k, v))  # (B, T, heads, S, n, P)
        q = q.permute(0, 1, 4, 2, 3, 5) * self.head_size**-0.5

        scores = q @ own_k.transpose(-1, -2)  # (B, T, heads, S, n, n)
        bias = self.bias[:, self.offsets].to(scores.dtype)  # (heads, n, k*n), own frame last
        if past:
            windows_k, windows_v = (_windows(t, past, T) for t in (keys, values))  # (B, T, heads, past*n, P)
            before = (q.flatten(3, 4) @ windows_k.transpose(-1, -2)).unflatten(3, (S, n))
            scores = torch.cat([before, scores], dim=-1)
        scores = scores + bias[:, None]
        if past:
            scores = scores.masked_fill(~self._visible(frames, T)[:, :, None, None, None, :], float("-inf"))
        weights = scores.softmax(dim=-1)
        y = weights[..., past * n :] @ own_v
        if past:
            y = y + (weights[..., : past * n].flatten(3, 4) @ windows_v).unflatten(3, (S, n))
        y = y.permute(0, 1, 3, 4, 2, 5).reshape(tokens.shape)
        return self.out_proj(y), (keys[:, T:].float(), values[:, T:].float())

    def _visible(self, frames: Tensor, T: int) -> Tensor:
        """(B, T, k*n) bool: frame t sees the j-th frame before it only if the episode has one."""
        steps = torch.arange(T, device=frames.device)
        back = torch.arange(self.window - 1, -1, -1, device=frames.device)
        visible = frames[:, None, None] + steps[:, None] - back >= 0
        return visible.repeat_interleave(self.grid[0] * self.grid[1], dim=-1)


def _windows(keys: Tensor, past: int, T: int) -> Tensor:
    """(B, past+T, n, heads, P) -> tokens of the `past` frames before each frame, (B, T, heads, past*n, P)."""
    windows = keys.unfold(1, past, 1)[:, :T]  # (B, T, n, heads, P, past)
    return windows.permute(0, 1, 3, 5, 2, 4).flatten(3, 4)


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
