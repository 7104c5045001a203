"""BlockScan: a Mamba-2 mixer that scans every spatial block of the token grid over time on its own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lssvwm_rl.model.backends import resolve_backend
from lssvwm_rl.model.precision import at_least_fp32, state_zeros
from lssvwm_rl.model.scan import mamba, ssd
from lssvwm_rl.native.library import Kernels, kernels_for
from lssvwm_rl.native.scan_functions import mix


class BlockScan(nn.Module):
    """Selective scan over (frame, row, column) inside each block (b_h, b_w) of the grid (Po et al. 2025, section 4.1).

    Two successive frames of a block are b_h * b_w tokens apart instead of h * w, so small blocks remember long. One
    state per block. No short convolution: `FrameLocalAttention` does that work and the state stays a single tensor.

    Args:
        width: token width D.
        grid: tokens per frame (h, w).
        block: block size (b_h, b_w), each dividing its side of the grid.
        state_size: N.
        head_size: P; expand * width must be a multiple of it.
        expand: inner width over D.
        backend: of the scan, see `backends.resolve_backend`.
        address_size: numbers per frame that say where to write and read, 0 for none; needs an even state_size.

    Raises:
        ValueError: if a size does not divide what it has to.
    """

    def __init__(
        self,
        width: int,
        grid: tuple[int, int],
        block: tuple[int, int],
        state_size: int,
        head_size: int,
        expand: int,
        backend: str = "auto",
        address_size: int = 0,
    ):
        super().__init__()
        inner = expand * width
        if grid[0] % block[0] or grid[1] % block[1]:
            raise ValueError(f"block {block} does not divide the token grid {grid}; choose a divisor of each side")
        if address_size and state_size % 2:
            raise ValueError(f"An address needs an even state_size, not {state_size}; choose another.")
        if inner % head_size:
            raise ValueError(f"head_size {head_size} does not divide expand * width = {inner}")
        self.grid, self.block, self.backend = grid, block, backend
        self.n_blocks = (grid[0] // block[0]) * (grid[1] // block[1])
        self.heads, self.head_size, self.state_size = inner // head_size, head_size, state_size
        self.splits = [inner, inner, state_size, state_size, self.heads]
        self.in_proj = nn.Linear(width, sum(self.splits), bias=False)
        self.out_proj = nn.Linear(inner, width, bias=False)
        if address_size:
            # Random Fourier features (Rahimi & Recht 2007); half of the pairs tell differences of a tenth apart.
            scale = 8 * torch.exp(torch.rand(state_size // 2, 1) * math.log(4))
            self.frequencies = nn.Parameter(scale * torch.randn(state_size // 2, address_size))
            self.address_gain = nn.Parameter(torch.tensor(2.0))
        # dt is log-uniform in [0.001, 0.1], as in Mamba-2. There A is uniform in [-16, -1], with which most heads
        # forget within some tens of tokens; here it is log-uniform in [-16, -1/64].
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(math.log(1 / 64), math.log(16)))
        dt = torch.exp(torch.rand(self.heads) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.D = nn.Parameter(torch.zeros(self.heads))
        self.B_norm = nn.RMSNorm(state_size, eps=1e-6)
        self.C_norm = nn.RMSNorm(state_size, eps=1e-6)
        self.y_norm = nn.Parameter(torch.ones(self.heads, head_size))

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (B, n_blocks, heads, P, N), of the parameters' dtype but at least fp32."""
        shape = (batch_size, self.n_blocks, self.heads, self.head_size, self.state_size)
        return state_zeros(self.A_log, *shape)

    def forward(
        self, tokens: Tensor, state: Tensor, write: bool = True, address: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix tokens over time.

        Args:
            tokens: (B, T, S, h, w, D); S = 1 (one stream that writes) or 2 (stream 0 noised reads, stream 1 writes).
            state: (B, n_blocks, heads, P, N), as `initial_state` makes it.
            write: whether the frames stay in the state; False needs T = S = 1.
            address: (B, T, address_size), where the frames write to the state and read from it; None without.

        Returns:
            Mixed tokens of the same shape and the state after frame T.
        """
        projected = self.in_proj(tokens)
        kernels = self._kernels(projected, state) if write else None
        if kernels is not None:
            y, state = self._mix(kernels, projected, state, address)
            return self.out_proj(y), state
        batch, streams = tokens.shape[0], tokens.shape[2]
        (b_h, b_w), (rows, columns) = self.block, (self.grid[0] // self.block[0], self.grid[1] // self.block[1])
        blocks = rearrange(
            projected,
            "b t s (i p) (j q) d -> (b i j) t s (p q) d",
            i=rows, j=columns, p=b_h, q=b_w,
        )  # fmt: skip
        gate, x, B, C, dt = blocks.split(self.splits, dim=-1)
        with torch.autocast(tokens.device.type, enabled=False):  # the scan stays in at least fp32
            x = at_least_fp32(x).unflatten(-1, (self.heads, self.head_size))
            dt = F.softplus(at_least_fp32(dt) + self.dt_bias)
            A = -torch.exp(at_least_fp32(self.A_log))
            B, C = at_least_fp32(B), at_least_fp32(C)
            if address is not None:
                place = self.place(address).repeat_interleave(self.n_blocks, dim=0)[:, :, None, None]
                B, C = B + place, C + place
            B, C = self.B_norm(B), self.C_norm(C)
            inner_state = state.flatten(0, 1)
            triton = resolve_backend(self.backend, x.device) == "mamba" and x.dtype == torch.float32
            scans = mamba if triton else ssd
            if streams == 2:
                y, inner_state = scans.read_then_scan(x, dt, A, B, C, inner_state)
            else:
                flat = (t.flatten(1, 3) for t in (x, dt, B, C))
                x_flat, dt_flat, B_flat, C_flat = flat
                if write:
                    y, inner_state = scans.chunked_scan(x_flat, dt_flat, A, B_flat, C_flat, inner_state)
                else:
                    y = ssd.read_frame(x_flat, dt_flat, A, B_flat, C_flat, inner_state)
                y = y.view_as(x)
            # At initialisation writes are scaled by a small dt and the memory would start almost silent beside the
            # skip: normalise what was read per head, and let D start at 0.
            y = F.rms_norm(y, (self.head_size,), eps=1e-6) * self.y_norm + self.D[:, None] * x
        y = y.flatten(-2).to(gate.dtype) * F.silu(gate)
        mixed = rearrange(
            self.out_proj(y),
            "(b i j) t s (p q) d -> b t s (i p) (j q) d",
            b=batch, i=rows, j=columns, p=b_h, q=b_w,
        )  # fmt: skip
        return mixed, inner_state.view_as(state)

    def place(self, address: Tensor) -> Tensor:
        """(B, T, N), what addresses (B, T, address_size) add to B and C before their norms."""
        # The same for writes and reads: before anything is learnt, a frame reads what was written nearby.
        angles = F.linear(address.to(self.frequencies.dtype), self.frequencies)
        return self.address_gain * torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _kernels(self, projected: Tensor, state: Tensor) -> Kernels | None:
        """CPU kernels for these tensors; None where PyTorch has to compute."""
        if resolve_backend(self.backend, projected.device) != "native":
            return None
        exact = torch.promote_types(projected.dtype, torch.float32)
        suits = state.dtype == exact and at_least_fp32(self.A_log).dtype == exact
        # Kernels read what the sizes say, whatever is there: a foreign state is left to PyTorch, which refuses it.
        own = (self.n_blocks, self.heads, self.head_size, self.state_size)
        suits = suits and state.shape == (len(projected), *own)
        return kernels_for(projected, state, self.A_log) if suits else None

    def _mix(self, kernels: Kernels, projected: Tensor, state: Tensor, address: Tensor | None) -> tuple[Tensor, Tensor]:
        """What lies between the projections, on CPU kernels."""
        with torch.autocast(projected.device.type, enabled=False):
            A = -torch.exp(at_least_fp32(self.A_log))
            place = None if address is None else at_least_fp32(self.place(address))
            norms = at_least_fp32(self.B_norm.weight), at_least_fp32(self.C_norm.weight), at_least_fp32(self.y_norm)
            dt_bias, D = at_least_fp32(self.dt_bias), at_least_fp32(self.D)
            return mix(kernels, projected, place, (*norms[:2], dt_bias, A, norms[2], D), state, self.block)
