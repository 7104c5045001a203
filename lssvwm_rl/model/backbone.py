"""The stack of layers: AdaLN -> scan, AdaLN -> attention, AdaLN -> MLP, each with a gate; kinds leave parts out."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lssvwm_rl.model.attention.causal import CausalAttention
from lssvwm_rl.model.attention.local import FrameLocalAttention
from lssvwm_rl.model.backends import native_kernels
from lssvwm_rl.model.config import KINDS, BackboneConfig
from lssvwm_rl.model.memory import LayerMemory
from lssvwm_rl.model.precision import at_least_fp32, state_zeros
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.native.ada_norm import ada_norm, gated_sum
from lssvwm_rl.native.gelu import bias_gelu
from lssvwm_rl.native.library import Kernels

Masks = tuple[Tensor | None, ...]
"""The attention's mask of every layer, None in layers without."""


class Pass(NamedTuple):
    """How T frames go through the layers."""

    frames: Tensor
    """(B,) int64, frames committed before."""
    masks: Masks | None = None
    """What `Backbone.masks` gives, for one frame; every layer makes its own if None."""
    write: bool = True
    """Whether the frames stay in memory; False, for a frame that is being denoised, needs T = S = 1."""
    address: Tensor | None = None
    """(B, T, addresses), where frames write to the scans' states and read from them."""
    recompute: bool = False
    """Activation checkpointing: layers run again in the backward pass instead of keeping activations."""


class Mlp(nn.Sequential):
    """Two linear layers with a GELU between them, (..., width) -> (..., width)."""

    def __init__(self, width: int, inner: int):
        super().__init__(nn.Linear(width, inner), nn.GELU("tanh"), nn.Linear(inner, width))

    def forward(self, tokens: Tensor, kernels: Kernels | None = None) -> Tensor:
        enter, leave = cast(nn.Linear, self[0]), self[2]
        if kernels is None or at_least_fp32(tokens).dtype != enter.bias.dtype:
            return super().forward(tokens)
        return leave(bias_gelu(kernels, F.linear(tokens, enter.weight), enter.bias))


class Layer(nn.Module):
    """One layer of the stack; modulation is per frame and stream, zero-initialised so that it starts as identity.

    Args:
        config: of the stack; its kind decides what is mixed with what, see `config.KINDS`.
        grid: tokens per frame (h, w).
        block: side of the layer's blocks.
        addresses: size of the frames' addresses, 0 for none.
    """

    def __init__(self, config: BackboneConfig, grid: tuple[int, int], block: int, addresses: int = 0):
        super().__init__()
        width, (scan, attention) = config.width, KINDS[config.kind]
        self.scan: BlockScan | None = None
        self.attention: FrameLocalAttention | CausalAttention | None = None
        if scan is not None:
            side = {"blocks": block, "tokens": 1, "frame": max(grid)}[scan]
            sides = min(side, grid[0]), min(side, grid[1])
            self.scan = BlockScan(
                width, grid, sides, config.state_size, config.scan_head_size, config.expand, config.backend, addresses
            )
        if attention == "window":
            self.attention = FrameLocalAttention(width, grid, config.attention_head_size, config.window, config.backend)
        elif attention == "all":
            self.attention = CausalAttention(width, grid, config.attention_head_size)
        self.mlp = Mlp(width, config.mlp_ratio * width)
        self.backend = config.backend
        self.parts = 1 + (self.scan is not None) + (self.attention is not None)
        self.modulation = nn.Linear(config.condition_width, 3 * self.parts * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def initial_memory(self, batch_size: int) -> LayerMemory:
        """An empty memory for B rows."""
        nothing = state_zeros(self.modulation.weight, batch_size, 0, 1, 1, 1)
        state = nothing if self.scan is None else self.scan.initial_state(batch_size)
        cache = (nothing, nothing) if self.attention is None else self.attention.initial_cache(batch_size)
        return LayerMemory(state, *cache)

    def forward(
        self, tokens: Tensor, condition: Tensor, memory: LayerMemory, mask: Tensor | None, how: Pass
    ) -> tuple[Tensor, LayerMemory]:
        modulated = self.modulation(condition)
        # One frame is too little work for kernels one by one; `engine` has ways for dreams.
        clip = tokens.shape[1] > 1 and tokens.dtype == at_least_fp32(modulated).dtype
        kernels = native_kernels(self.backend, modulated, tokens) if clip else None
        if kernels is not None:
            return self._native(kernels, tokens, modulated, memory, mask, how)
        state, cache = memory.state, (memory.keys, memory.values)
        modulation = iter(modulated[:, :, :, None, None].chunk(3 * self.parts, dim=-1))
        if self.scan is not None:
            shift, scale, gate = next(modulation), next(modulation), next(modulation)  # each (B, T, S, 1, 1, D)
            mixed, state = self.scan(modulate(tokens, shift, scale), state, how.write, how.address)
            tokens = tokens + gate * mixed
        if self.attention is not None:
            shift, scale, gate = next(modulation), next(modulation), next(modulation)
            mixed, cache = self.attention(modulate(tokens, shift, scale), cache, mask, how.frames, how.write)
            tokens = tokens + gate * mixed
        shift, scale, gate = modulation
        return tokens + gate * self.mlp(modulate(tokens, shift, scale)), LayerMemory(state, *cache)

    def _native(
        self,
        kernels: Kernels,
        tokens: Tensor,
        modulated: Tensor,
        memory: LayerMemory,
        mask: Tensor | None,
        how: Pass,
    ) -> tuple[Tensor, LayerMemory]:
        """`forward`, where each gate, the norm behind it and its modulation are one kernel."""
        state, cache, shape = memory.state, (memory.keys, memory.values), tokens.shape
        tokens = tokens.reshape(-1, shape[3] * shape[4], shape[5])  # (frames, n, D)
        D, frames = shape[5], tokens.shape[:2]
        shares = iter(modulated.flatten(0, 2).split([2 * D, *[3 * D] * (self.parts - 1), D], dim=-1))
        mixed: Tensor | None = None
        if self.scan is not None:
            tokens, normed = ada_norm(kernels, tokens, mixed, next(shares))
            mixed, state = self.scan(normed.view(shape), state, how.write, how.address)
            mixed = mixed.reshape(*frames, D)
        if self.attention is not None:
            tokens, normed = ada_norm(kernels, tokens, mixed, next(shares))
            mixed, cache = self.attention(normed.view(shape), cache, mask, how.frames, how.write)
            mixed = mixed.reshape(*frames, D)
        tokens, normed = ada_norm(kernels, tokens, mixed, next(shares))
        tokens = gated_sum(kernels, tokens, self.mlp(normed, kernels), next(shares))
        return tokens.view(shape), LayerMemory(state, *cache)


class Backbone(nn.Module):
    """Layers in sequence; memory in, memory out. `addresses` is the size of the frames' addresses, 0 for none."""

    def __init__(self, config: BackboneConfig, grid: tuple[int, int], addresses: int = 0):
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, grid, block, addresses) for block in config.blocks)

    def initial_memory(self, batch_size: int) -> tuple[LayerMemory, ...]:
        """Empty layer memories for B rows."""
        return tuple(cast(Layer, layer).initial_memory(batch_size) for layer in self.layers)

    def block_grids(self) -> list[tuple[int, int]]:
        """Blocks (down, across) whose states every layer keeps; empty for kinds without a scan."""
        scans = [cast(Layer, layer).scan for layer in self.layers]
        return [(s.grid[0] // s.block[0], s.grid[1] // s.block[1]) for s in scans if s is not None]

    def masks(self, frames: Tensor) -> Masks:
        """The attention's mask of every layer for one frame after (B,) committed ones, for all passes over it."""
        attentions = [cast(Layer, layer).attention for layer in self.layers]
        if isinstance(attentions[0], CausalAttention):  # which has no weights in its mask
            return (attentions[0].mask(frames, 1, 1),) * len(attentions)
        return tuple(None if attention is None else attention.mask(frames, 1, 1) for attention in attentions)

    def forward(
        self, tokens: Tensor, condition: Tensor, memory: tuple[LayerMemory, ...], how: Pass
    ) -> tuple[Tensor, tuple[LayerMemory, ...]]:
        """Run T frames through all layers.

        Args:
            tokens: (B, T, S, h, w, D); S = 1, or S = 2 with the noised readers first and the clean writers second.
            condition: (B, T, S, condition_width).
            memory: of every layer, before the first frame.
            how: see `Pass`.

        Returns:
            Hidden tokens of the same shape, and the layers' memory after frame T.
        """
        condition = F.silu(condition)
        after = []
        for layer, before, mask in zip(self.layers, memory, how.masks or (None,) * len(memory), strict=True):
            inputs = (tokens, condition, before, mask, how)
            tokens, layer_after = checkpoint(layer, *inputs, use_reentrant=False) if how.recompute else layer(*inputs)
            after.append(layer_after)
        return tokens, tuple(after)


def match_depth(config: BackboneConfig, kind: str, grid: tuple[int, int]) -> BackboneConfig:
    """The same sizes as another kind, with the number of layers whose parameters come closest to the given config's.

    Raises:
        ValueError: for an unknown kind, or a config that is not of kind "block_ssm".
    """
    if config.kind != "block_ssm":
        raise ValueError(f"Depth is matched to a config of kind 'block_ssm', not {config.kind!r}; give that one.")
    if kind == "block_ssm":
        return config
    changed = replace(config, kind=kind, blocks=(max(grid),))
    with torch.device("meta"):
        wanted, one = (sum(p.numel() for p in Backbone(c, grid).parameters()) for c in (config, changed))
    return replace(changed, blocks=(max(grid),) * max(1, round(wanted / one)))


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without own parameters, then the condition's scale and shift (AdaLN, Peebles & Xie 2023)."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) * (1 + scale) + shift
