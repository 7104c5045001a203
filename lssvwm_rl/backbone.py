"""The stack of layers: AdaLN -> BlockScan, AdaLN -> FrameLocalAttention, AdaLN -> MLP, each with a gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.block_scan import BlockScan
from lssvwm_rl.local_attention import FrameLocalAttention


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes of the stack.

    Attributes:
        width: D.
        blocks: block side (b_h = b_w) of every layer, so also the number of layers; small first, large last. A side
            larger than the grid means the whole frame.
        state_size: N of the scan.
        scan_head_size: P of the scan.
        expand: inner width of the scan over D.
        window: k, frames visible to local attention, the own one included.
        attention_head_size: divides the width.
        condition_width: width of the per-frame conditioning.
        mlp_ratio: hidden width of the MLP over D.
    """

    width: int = 128
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    state_size: int = 32
    scan_head_size: int = 32
    expand: int = 2
    window: int = 4
    attention_head_size: int = 32
    condition_width: int = 64
    mlp_ratio: int = 4


LayerMemory = tuple[Tensor, tuple[Tensor, Tensor]]
"""Scan state and the window's (keys, values) of one layer."""


class Layer(nn.Module):
    """One layer of the stack; modulation is per frame and stream, zero-initialised so that it starts as identity."""

    def __init__(self, config: BackboneConfig, grid: tuple[int, int], block: int):
        super().__init__()
        width = config.width
        sides = (min(block, grid[0]), min(block, grid[1]))
        self.modulation = nn.Linear(config.condition_width, 9 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.scan = BlockScan(width, grid, sides, config.state_size, config.scan_head_size, config.expand)
        self.attention = FrameLocalAttention(width, grid, config.attention_head_size, config.window)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_ratio * width), nn.GELU("tanh"), nn.Linear(config.mlp_ratio * width, width)
        )

    def initial_memory(self, batch_size: int) -> LayerMemory:
        """An empty memory for B rows."""
        return self.scan.initial_state(batch_size), self.attention.initial_cache(batch_size)

    def forward(
        self, tokens: Tensor, condition: Tensor, memory: LayerMemory, frames: Tensor
    ) -> tuple[Tensor, LayerMemory]:
        state, cache = memory
        modulation = self.modulation(condition)[:, :, :, None, None].chunk(9, dim=-1)  # each (B, T, S, 1, 1, D)
        shift, scale, gate = modulation[0:3]
        mixed, state = self.scan(modulate(tokens, shift, scale), state)
        tokens = tokens + gate * mixed
        shift, scale, gate = modulation[3:6]
        mixed, cache = self.attention(modulate(tokens, shift, scale), cache, frames)
        tokens = tokens + gate * mixed
        shift, scale, gate = modulation[6:9]
        return tokens + gate * self.mlp(modulate(tokens, shift, scale)), (state, cache)


class Backbone(nn.Module):
    """Layers in sequence; memory in, memory out."""

    def __init__(self, config: BackboneConfig, grid: tuple[int, int]):
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, grid, block) for block in config.blocks)

    def initial_memory(self, batch_size: int) -> list[LayerMemory]:
        """Empty layer memories for B rows."""
        return [cast(Layer, layer).initial_memory(batch_size) for layer in self.layers]

    def forward(
        self, tokens: Tensor, condition: Tensor, memory: list[LayerMemory], frames: Tensor
    ) -> tuple[Tensor, list[LayerMemory]]:
        """Run T frames through all layers.

        Args:
            tokens: (B, T, S, h, w, D); S = 1, or S = 2 with the noised readers first and the clean writers second.
            condition: (B, T, S, condition_width).
            memory: of every layer, before the first frame.
            frames: (B,) int64, frames committed to `memory`.

        Returns:
            Features of the same shape as the tokens, and the layers' memory after frame T.
        """
        condition = F.silu(condition)
        after = []
        for layer, layer_memory in zip(self.layers, memory, strict=True):
            tokens, layer_memory = layer(tokens, condition, layer_memory, frames)
            after.append(layer_memory)
        return tokens, after


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without own parameters, then the condition's scale and shift (AdaLN, Peebles & Xie 2023)."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) * (1 + scale) + shift
