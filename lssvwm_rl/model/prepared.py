"""What dreaming needs of a world model, computed once: weights in the order and layout in which passes read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.attention.local import FrameLocalAttention
from lssvwm_rl.model.backbone import Layer
from lssvwm_rl.model.fast_weights import Expected
from lssvwm_rl.model.flow import FINEST, noise_levels, steps_index
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.world_model import WorldModel

MAX_TABLE = 64
"""Rows of a modulation table: with more actions than that, modulations are computed for every frame."""

# Sizes: D width, n tokens per frame, k window, P head size, N state size, R hidden width of the MLP, V vector size,
# L layers, S denoising steps, B rows. Weights are transposed, so that tokens (..., in) @ weight (in, out).


class PreparedScan(NamedTuple):
    """Of a `BlockScan`."""

    block: tuple[int, int]
    in_proj: Tensor
    """(D, 2 heads*P + 2 N + heads): gate, x, B, C and dt."""
    dt_bias: Tensor
    """(heads,)."""
    A: Tensor
    """(heads,), negative."""
    D: Tensor
    """(heads,)."""
    norms: Tensor
    """(2, N): the norm weights of B and C."""
    y_norm: Tensor
    """(heads, P)."""
    out_proj: Tensor
    """(heads*P, D)."""


class PreparedAttention(NamedTuple):
    """Of a `FrameLocalAttention`."""

    qkv: Tensor
    """(D, 3 heads*P)."""
    norms: Tensor
    """(2, P): the norm weights of queries and keys."""
    bias: Tensor
    """(heads, n, k*n), past frames first."""
    out_proj: Tensor
    """(heads*P, D)."""


class PreparedLayer(NamedTuple):
    """Of a `Layer`; the MLP is down(gelu(up(tokens)))."""

    scan: PreparedScan | None
    attention: PreparedAttention | None
    up: Tensor
    """(D, R)."""
    up_bias: Tensor
    down: Tensor
    """(R, D)."""
    down_bias: Tensor


class Following(NamedTuple):
    """What is known of a frame before it is dreamt; None for what a model does not have."""

    shift: Tensor | None
    """(B, n, D), added to its tokens."""
    picture: Tensor | None
    """(B, n, pixels), see `recollection.Recollected`."""
    expected: Expected | None
    """What `Recollection.write` needs."""


@dataclass(frozen=True)
class Prepared:
    """A model prepared for one number of denoising steps. All tensors are contiguous, on its device and of its dtype.

    With W = `patch_in.weight`, noise z and the ratios r of the Euler steps, a frame is dreamt without pixels but the
    last ones::

        e = z @ noise                                                  embedded noise W x, without patch_in's bias
        for each step s:
            hidden = layers(e + position, modulated by level s)        last step: patches = hidden @ decode + its bias
            e = (1 + r) e - r (hidden @ compose + compose_bias)        = (1 + r) e - r W predicted
        layers(patches of the quantised frame @ embed + position, modulated by level S) write the memory

    where `hidden` is the output of the layers after the final modulation.
    """

    model: WorldModel
    """Its embeddings and heads."""
    denoise_steps: int
    """S."""
    ratios: tuple[float, ...]
    """(S,), (after - before) / before of the noise levels; the last is -1."""
    taus: tuple[float, ...]
    """(S,), the noise levels before."""
    layers: tuple[PreparedLayer, ...]
    noise: Tensor
    """(r, D): of pixel noise or of `token_noise`, see `WorldModel.draw_noise`."""
    embed: Tensor
    """(pixels, D), `patch_in` without bias."""
    position: Tensor
    """(n, D), position and `patch_in`'s bias."""
    compose: Tensor
    """(D, D), `patch_in` after `patch_out`."""
    compose_bias: Tensor
    """(D,)."""
    decode: Tensor
    """(D, pixels), `patch_out`."""
    decode_bias: Tensor
    """(pixels,)."""
    levels: Tensor
    """(S + 1, condition_width): noise level (0 last) and number of steps, embedded."""
    modulate: tuple[Tensor, Tensor]
    """Weight (condition_width, L * 3*parts * D) and bias of all layers' modulations; scales have 1 added."""
    modulate_final: tuple[Tensor, Tensor]
    """Weight (condition_width, 2 * D) and bias, likewise."""
    frequencies: Tensor | None
    """(L, V, N/2) of addresses; None for models without vectors or scans."""
    address_gain: Tensor | None
    """(L, 1, 1)."""
    table: tuple[Tensor, Tensor] | None
    """The modulations of every action and, last, of none, for Discrete actions without vectors."""

    def modulation(self, memory: Memory, action: Tensor, vector: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """How the passes over the frame that follows a memory are modulated.

        Args:
            memory: B rows.
            action: (B,) or (B, A); ignored in rows without a frame.
            vector: (B, V), or None for models without.

        Returns:
            Of the layers (S + 1, M, L, 3*parts, D), in the order shift, 1 + scale, gate of scan, attention and MLP, for
            every pass and last for the commit; of the output (S, M, 2, D), shift and 1 + scale; and which of the M
            each row uses, (B,) int64.

        Raises:
            ValueError: for an action that is not in a Discrete space.
        """
        first = memory.frames == 0
        if self.table is None:
            condition = self.model.action_embedding(action[:, None], first[:, None])[:, 0]
            if vector is not None:
                condition = condition + self.model.vector_condition(vector)
            rows = torch.arange(len(first), device=first.device)
            return (*self._modulations(condition), rows)
        space = self.model.config.action_space
        moved = torch.where(first, 0, action - space["start"])
        # Elsewhere it would wait for the device, and a graph that is being traced has no numbers yet.
        if first.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = (int(end) for end in torch.aminmax(moved))
            if low < 0 or high >= space["n"]:
                wrong = (low if low < 0 else high) + space["start"]
                raise ValueError(f"Action {wrong} is not in Discrete({space['n']}, start={space['start']}).")
        return (*self.table, torch.where(first, space["n"], moved))

    def following(self, memory: Memory, action: Tensor, vector: Tensor | None) -> Following:
        """What is known of the frame that follows a memory, from its vector (B, V) and by the recollection."""
        (tokens, picture), expected = self.model.recollection.expect(action, memory.frames == 0, vector, memory)
        parts = [] if tokens is None else [tokens.flatten(1, 2)]
        parts += [] if vector is None else [self.model.vector_in(vector)[:, None]]
        shift = sum(parts[1:], parts[0]).expand(-1, len(self.position), -1).contiguous() if parts else None
        return Following(shift, None if picture is None else picture.flatten(1, 2).contiguous(), expected)

    def places(self, vector: Tensor | None) -> Tensor | None:
        """(L, B, N), which the frame's vector (B, V), as address, adds to B and C of each scan before their norms."""
        if vector is None or self.frequencies is None or self.address_gain is None:
            return None
        angles = vector.to(self.frequencies.dtype) @ self.frequencies
        return self.address_gain * torch.cat([angles.sin(), angles.cos()], dim=-1)

    @torch.no_grad()
    def with_steps(self, denoise_steps: int) -> Prepared:
        """The same weights for another number of denoising steps.

        Raises:
            ValueError: for steps below 1.
        """
        levels = noise_levels(denoise_steps, self.model.config.noise_shift)
        ratios = tuple((after - before) / before for before, after in zip(levels[:-1], levels[1:], strict=True))
        embedded = _embedded_levels(self.model, levels)
        changed = replace(self, denoise_steps=denoise_steps, ratios=ratios, taus=tuple(levels[:-1]), levels=embedded)
        space = self.model.config.action_space
        if self.model.config.vector_size or space["type"] != "Discrete" or space["n"] >= MAX_TABLE:
            return changed
        embedding = self.model.action_embedding
        condition = torch.cat([cast(Tensor, embedding.embed.weight), embedding.null[None]])
        return replace(changed, table=changed._modulations(condition))

    def _modulations(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The first two results of `modulation` for actions and vectors embedded together, (M, condition_width)."""
        condition = F.silu(self.levels[:, None] + condition)
        (weight, bias), (final, final_bias), D = self.modulate, self.modulate_final, self.model.config.backbone.width
        layers = (condition @ weight).add_(bias).unflatten(-1, (len(self.layers), -1, D))
        return layers, (condition[:-1] @ final).add_(final_bias).unflatten(-1, (2, D))


@torch.no_grad()
def prepare(model: WorldModel, denoise_steps: int = 4) -> Prepared:
    """Prepare a model, as its weights are now, in fp32 or fp64 on any device.

    Raises:
        ValueError: for steps below 1, or a `causal` model, which has no window.
    """
    if model.config.backbone.kind == "causal":
        raise ValueError("A causal model attends to all past frames and not to a window; WorldModel.imagine dreams it.")
    layers = [cast(Layer, layer) for layer in model.backbone.layers]
    scans = [layer.scan for layer in layers if layer.scan is not None]
    weight_in, weight_out = _exact(model.patch_in.weight), _exact(model.patch_out.weight)
    addresses = bool(model.config.vector_size and scans)
    # Levels and table come with the number of steps.
    prepared = Prepared(
        model=model,
        denoise_steps=0,
        ratios=(),
        taus=(),
        layers=tuple(_prepared_layer(layer) for layer in layers),
        noise=(model.noise_factor() if model.config.token_noise else model.patch_in.weight.t()).contiguous(),
        embed=_transposed(model.patch_in),
        position=(model.position + model.patch_in.bias).flatten(0, 1).contiguous(),
        compose=(weight_in @ weight_out).t().contiguous().to(model.dtype),
        compose_bias=(weight_in @ _exact(model.patch_out.bias)).to(model.dtype),
        decode=_transposed(model.patch_out),
        decode_bias=model.patch_out.bias.detach().clone(),
        levels=model.position.new_empty(0),
        modulate=_modulation([layer.modulation for layer in layers], model.config.backbone.width, every=3),
        modulate_final=_modulation([model.final_modulation], model.config.backbone.width, every=2),
        frequencies=torch.stack([scan.frequencies.t() for scan in scans]).contiguous() if addresses else None,
        address_gain=torch.stack([scan.address_gain for scan in scans])[:, None, None] if addresses else None,
        table=None,
    )
    return prepared.with_steps(denoise_steps)


def _prepared_layer(layer: Layer) -> PreparedLayer:
    up, down = cast(nn.Linear, layer.mlp[0]), cast(nn.Linear, layer.mlp[2])
    return PreparedLayer(
        None if layer.scan is None else _prepared_scan(layer.scan),
        _prepared_attention(layer.attention) if isinstance(layer.attention, FrameLocalAttention) else None,
        _transposed(up),
        up.bias.detach().clone(),
        _transposed(down),
        down.bias.detach().clone(),
    )


def _prepared_scan(scan: BlockScan) -> PreparedScan:
    return PreparedScan(
        scan.block,
        _transposed(scan.in_proj),
        scan.dt_bias.detach().clone(),
        -torch.exp(scan.A_log),
        scan.D.detach().clone(),
        torch.stack([scan.B_norm.weight, scan.C_norm.weight]),
        scan.y_norm.detach().clone(),
        _transposed(scan.out_proj),
    )


def _prepared_attention(attention: FrameLocalAttention) -> PreparedAttention:
    return PreparedAttention(
        _transposed(attention.qkv),
        torch.stack([attention.q_norm.weight, attention.k_norm.weight]),
        attention.bias[:, attention.offsets].contiguous(),
        _transposed(attention.out_proj),
    )


def _transposed(linear: nn.Linear) -> Tensor:
    return linear.weight.t().clone(memory_format=torch.contiguous_format)


def _modulation(linears: Sequence[nn.Linear], width: int, every: int) -> tuple[Tensor, Tensor]:
    """One linear map whose outputs are those of all, one after another, with 1 added to the scales.

    Args:
        every: numbers of width D that belong together, the second of them a scale.
    """
    bias = torch.cat([linear.bias for linear in linears])
    bias.view(-1, every, width)[:, 1] += 1
    return torch.cat([linear.weight for linear in linears]).t().contiguous(), bias


def _exact(t: Tensor) -> Tensor:
    """In fp64, where the device has it."""
    return t.float() if t.device.type == "mps" else t.double()


def _embedded_levels(model: WorldModel, levels: Sequence[float]) -> Tensor:
    """(S + 1, condition_width) of the noise levels of the passes, the commit's 0 last."""
    embedded = model.noise_embedding(torch.tensor(levels).to(model.position))
    if not model.config.shortcut:
        return embedded
    steps = len(levels) - 1
    schedules = torch.tensor([steps_index(steps)] * steps + [FINEST], device=model.device)
    return embedded + model.step_embedding(schedules)
