"""The stack of layers: AdaLN -> scan, AdaLN -> attention, AdaLN -> MLP, each with a gate; kinds leave parts out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lssvwm_rl.model.attention.causal import CausalAttention
from lssvwm_rl.model.attention.local import FrameLocalAttention, KeysValues
from lssvwm_rl.model.precision import at_least_fp32
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.scan.mamba import BACKENDS

KINDS = ("block_ssm", "block1_ssm", "ssm_local", "ssm", "window", "causal")
SCANNING, WINDOWED = KINDS[:4], ("block_ssm", "block1_ssm", "ssm_local", "window")


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes of the stack.

    Attributes:
        kind: what a layer mixes frames with, see `Layer`: "block_ssm" (ours), "block1_ssm", "ssm_local", "ssm",
            "window", "causal".
        width: D.
        blocks: block side (b_h = b_w) of every layer, so also the number of layers; small first, large last. A side
            larger than the grid means the whole frame. For other kinds than "block_ssm" only their number counts.
        state_size: N of the scan.
        scan_head_size: P of the scan.
        expand: inner width of the scan over D.
        window: k, frames visible to local attention, the own one included.
        attention_head_size: divides the width.
        condition_width: width of the per-frame conditioning.
        mlp_ratio: hidden width of the MLP over D.
        backend: of the scan: "auto", "torch" or "mamba"; the machine's affair, so checkpoints do not hold it.

    Raises:
        ValueError: for an unknown kind, no layers, or an empty window.
    """

    kind: str = "block_ssm"
    width: int = 128
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    state_size: int = 32
    scan_head_size: int = 32
    expand: int = 2
    window: int = 4
    attention_head_size: int = 32
    condition_width: int = 64
    mlp_ratio: int = 4
    backend: str = "auto"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"The kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}.")
        if self.backend not in BACKENDS:
            raise ValueError(f"Scan backend {self.backend!r} does not exist; choose one of {', '.join(BACKENDS)}.")
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(f"blocks {self.blocks} must name a side of at least 1 for every layer.")
        if self.window < 1 and self.kind in WINDOWED:
            remedy = "use kind 'ssm' for a scan without attention" if self.kind != "window" else "use at least 1"
            raise ValueError(f"A window of {self.window} frames does not even show the own frame; {remedy}.")


LayerMemory = tuple[Tensor, KeysValues]
"""Scan state and the window's (keys, values) of one layer; a part that the kind lacks is empty."""


class Layer(nn.Module):
    """One layer of the stack; modulation is per frame and stream, zero-initialised so that it starts as identity.

    | kind | scan | attention |
    |---|---|---|
    | block_ssm | one per block of the layer's side | window |
    | block1_ssm | one per token, the ablation of blocks | window |
    | ssm_local | one over the whole frame | window |
    | ssm | one over the whole frame | none |
    | window | none | window |
    | causal | none | all past frames |
    """

    def __init__(self, config: BackboneConfig, grid: tuple[int, int], block: int, addresses: int = 0):
        super().__init__()
        kind, width = config.kind, config.width
        side = 1 if kind == "block1_ssm" else block
        sides = (min(side, grid[0]), min(side, grid[1])) if kind in ("block_ssm", "block1_ssm") else grid
        self.scan: BlockScan | None = None
        self.attention: FrameLocalAttention | CausalAttention | None = None
        if kind in SCANNING:
            self.scan = BlockScan(
                width, grid, sides, config.state_size, config.scan_head_size, config.expand, config.backend, addresses
            )
        if kind in WINDOWED:
            self.attention = FrameLocalAttention(width, grid, config.attention_head_size, config.window)
        elif kind == "causal":
            self.attention = CausalAttention(width, grid, config.attention_head_size)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_ratio * width), nn.GELU("tanh"), nn.Linear(config.mlp_ratio * width, width)
        )
        self.parts = 1 + (self.scan is not None) + (self.attention is not None)
        self.modulation = nn.Linear(config.condition_width, 3 * self.parts * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def initial_memory(self, batch_size: int) -> LayerMemory:
        """An empty memory for B rows."""
        weight = self.modulation.weight
        nothing = at_least_fp32(weight).new_zeros((batch_size, 0, 1, 1, 1))
        state = nothing if self.scan is None else self.scan.initial_state(batch_size)
        return state, (nothing, nothing) if self.attention is None else self.attention.initial_cache(batch_size)

    def forward(
        self,
        tokens: Tensor,
        condition: Tensor,
        memory: LayerMemory,
        mask: Tensor | None,
        frames: Tensor,
        write: bool = True,
        address: Tensor | None = None,
    ) -> tuple[Tensor, LayerMemory]:
        state, cache = memory
        modulation = iter(self.modulation(condition)[:, :, :, None, None].chunk(3 * self.parts, dim=-1))
        if self.scan is not None:
            shift, scale, gate = next(modulation), next(modulation), next(modulation)  # each (B, T, S, 1, 1, D)
            mixed, state = self.scan(modulate(tokens, shift, scale), state, write, address)
            tokens = tokens + gate * mixed
        if self.attention is not None:
            shift, scale, gate = next(modulation), next(modulation), next(modulation)
            mixed, cache = self.attention(modulate(tokens, shift, scale), cache, mask, frames, write)
            tokens = tokens + gate * mixed
        shift, scale, gate = modulation
        return tokens + gate * self.mlp(modulate(tokens, shift, scale)), (state, cache)


class Backbone(nn.Module):
    """Layers in sequence; memory in, memory out. `addresses` is the size of the frames' addresses, 0 for none."""

    def __init__(self, config: BackboneConfig, grid: tuple[int, int], addresses: int = 0):
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, grid, block, addresses) for block in config.blocks)

    def initial_memory(self, batch_size: int) -> list[LayerMemory]:
        """Empty layer memories for B rows."""
        return [cast(Layer, layer).initial_memory(batch_size) for layer in self.layers]

    def block_grids(self) -> list[tuple[int, int]]:
        """Blocks (down, across) whose states every layer keeps; empty for kinds without a scan."""
        scans = [cast(Layer, layer).scan for layer in self.layers]
        return [(s.grid[0] // s.block[0], s.grid[1] // s.block[1]) for s in scans if s is not None]

    def masks(self, frames: Tensor) -> list[Tensor | None]:
        """The attention's mask of every layer for one frame after (B,) committed ones, for all passes over it."""
        attentions = [cast(Layer, layer).attention for layer in self.layers]
        if isinstance(attentions[0], CausalAttention):  # which has no weights in its mask
            return [attentions[0].mask(frames, 1, 1)] * len(attentions)
        return [None if attention is None else attention.mask(frames, 1, 1) for attention in attentions]

    def forward(
        self,
        tokens: Tensor,
        condition: Tensor,
        memory: list[LayerMemory],
        frames: Tensor,
        masks: list[Tensor | None] | None = None,
        write: bool = True,
        recompute: bool = False,
        address: Tensor | None = None,
    ) -> tuple[Tensor, list[LayerMemory]]:
        """Run T frames through all layers.

        Args:
            tokens: (B, T, S, h, w, D); S = 1, or S = 2 with the noised readers first and the clean writers second.
            condition: (B, T, S, condition_width).
            memory: of every layer, before the first frame.
            frames: (B,) int64, frames committed to `memory`.
            masks: what `masks` gives, for one frame; every layer makes its own if None.
            write: whether the frames stay in memory; False, for a frame that is being denoised, needs T = S = 1.
            recompute: activation checkpointing: layers run again in the backward pass instead of keeping activations.
            address: (B, T, addresses), where frames write to the scans' states and read from them.

        Returns:
            Features of the same shape as the tokens, and the layers' memory after frame T.
        """
        condition = F.silu(condition)
        after = []
        for layer, layer_memory, mask in zip(self.layers, memory, masks or [None] * len(memory), strict=True):
            inputs = (tokens, condition, layer_memory, mask, frames, write, address)
            tokens, layer_memory = checkpoint(layer, *inputs, use_reentrant=False) if recompute else layer(*inputs)
            after.append(layer_memory)
        return tokens, after


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


def attention_reach(config: BackboneConfig) -> int | None:
    """Frames, the own one included, that attention passes on through all layers; None if there is no limit."""
    if config.kind in WINDOWED:
        return (config.window - 1) * len(config.blocks) + 1
    return None if config.kind == "causal" else 1
