"""The passes over one dreamt frame as pure functions of prepared weights: `WorldModel.imagine` in fewer operations.

Letters: B rows, n tokens per frame, D width, k window, Z blocks of all rows, K tokens per block, H heads, P head size,
N state size. Tokens are (B, n, D).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lssvwm_rl.model.flow import movement
from lssvwm_rl.model.memory import LayerMemory, Memory
from lssvwm_rl.model.prepared import Following, Prepared, PreparedAttention, PreparedLayer, PreparedScan

EPSILON = 1e-6  # of all norms


class Inputs(NamedTuple):
    """All that decides a dreamt frame besides the weights."""

    layers: tuple[LayerMemory, ...]
    frames: Tensor
    """(B,) int64, frames committed before."""
    noise: Tensor
    """As `WorldModel.draw_noise` makes it."""
    modulation: Tensor
    """This and the next two are what `Prepared.modulation` gives."""
    final_modulation: Tensor
    rows: Tensor
    following: Following
    """See `Prepared.following`."""
    places: Tensor | None
    """(L, B, N), see `Prepared.places`."""
    reservoir: tuple[Tensor, ...]
    """This and the next are of the memory before the frame."""
    fast_weights: tuple[Tensor, ...]


def inputs_of(prepared: Prepared, memory: Memory, action: Tensor, noise: Tensor, vector: Tensor | None) -> Inputs:
    """Those of the frame that an action (B[, A]) leads to, or with a vector (B, V), the frame at that vector."""
    return Inputs(
        memory.layers,
        memory.frames,
        noise,
        *prepared.modulation(memory, action, vector),
        prepared.following(memory, action, vector),
        prepared.places(vector),
        memory.reservoir,
        memory.fast_weights,
    )


class LayerPass(NamedTuple):
    """What a layer needs in all passes over a frame."""

    state: Tensor
    """(B, n_blocks, H, P, N) before the frame."""
    place: Tensor | None
    """(Z, 1, 1, N)."""
    keys: Tensor
    """(B, k*n, heads, P), oldest first; every pass writes its own at the end."""
    values: Tensor
    mask: Tensor
    """(B, heads, n, k*n), added to the scores."""


class Dreamt(NamedTuple):
    """A committed frame."""

    frame: Tensor
    """(B, H, W, C) uint8."""
    layers: tuple[LayerMemory, ...]
    """After it."""
    features: Tensor
    """(B, R)."""
    rewards: Tensor
    """(B, 2), and the next (B,), see `Imagined`."""
    terminated: Tensor
    reservoir: tuple[Tensor, ...]
    fast_weights: tuple[Tensor, ...]
    doubt: Tensor
    """(B,), see `Imagined`."""


def denoise(weights: Prepared, inputs: Inputs) -> Tensor:
    """The frame (B, H, W, C) uint8 alone, with nothing committed."""
    return _picture(weights, _denoised(weights, inputs, _begin(weights, inputs))[0], len(inputs.frames))


def dream(weights: Prepared, inputs: Inputs) -> Dreamt:
    """One dreamt frame, committed as it is after its pixels are rounded."""
    passes = _begin(weights, inputs)
    pixels, before = _denoised(weights, inputs, passes)
    frame, patches = _picture(weights, pixels, len(inputs.frames)), weights.model.patches
    if patches.padded:  # what was predicted beside the frame is not committed
        pixels = patches.cut(frame).view(pixels.shape).to(pixels.dtype)
    return _commit(weights, inputs, passes, frame, pixels, before, dreamt=True)


def commit(weights: Prepared, inputs: Inputs, frame: Tensor) -> Dreamt:
    """One real frame (B, H, W, C) uint8, committed; of the inputs the noise is not read, and there is no doubt: 0."""
    pixels = weights.model.patches.cut(frame).to(weights.embed.dtype)
    return _commit(weights, inputs, _begin(weights, inputs), frame, pixels.flatten(0, 2), None, dreamt=False)


def _commit(
    weights: Prepared,
    inputs: Inputs,
    passes: list[LayerPass],
    frame: Tensor,
    pixels: Tensor,
    before: Tensor | None,
    dreamt: bool,
) -> Dreamt:
    """A frame taken into memory.

    Args:
        pixels, before: as `_denoised` gives them, the first those of the frame.
        dreamt: or real, see `FastWeights.write`.
    """
    model, B, n = weights.model, len(inputs.frames), weights.position.shape[0]
    clean = pixels / 127.5 - 1
    embedded = (clean @ weights.embed).view(B, n, -1)
    tokens = embedded + _position(weights, inputs)
    hidden, states = _run(weights, tokens, passes, _rows(weights, inputs.modulation[-1], inputs), write=True)
    grid, expected = (B, *model.config.grid, -1), inputs.following.expected
    written = model.recollection.write(expected, clean.view(grid), inputs.reservoir, inputs.fast_weights, dreamt)
    features = model.features_of(hidden.view(grid), written.reads)
    return Dreamt(
        frame,
        _committed(inputs.layers, passes, states, n),
        features,
        model.reward_head.both(features),
        model.continuation_head(features),
        written.reservoir,
        written.fast_weights,
        movement(embedded - (embedded if before is None else before)),
    )


def _denoised(weights: Prepared, inputs: Inputs, passes: list[LayerPass]) -> tuple[Tensor, Tensor | None]:
    """Pixels of patches (B*n, pixels), whole numbers of 0 to 255, and what the pass before the last one predicted, as
    embedded patches (B, n, D); None if there was one pass."""
    picture = inputs.following.picture
    recalled = None if picture is None else picture @ weights.embed
    predicted = None
    embedded = hidden = inputs.noise.flatten(1, 2) @ weights.noise
    position = _position(weights, inputs)
    for step, ratio in enumerate(weights.ratios):
        hidden, _ = _run(weights, embedded + position, passes, _rows(weights, inputs.modulation[step], inputs))
        shift, scale = _rows(weights, inputs.final_modulation[step], inputs)[:, :, None].unbind(1)
        hidden = _modulated(hidden, shift, scale)
        if step < weights.denoise_steps - 1:
            predicted = torch.addmm(weights.compose_bias, hidden.flatten(0, 1), weights.compose).view_as(hidden)
            predicted = predicted if recalled is None else predicted + weights.taus[step] * recalled
            embedded = torch.lerp(embedded, predicted, -ratio)
    pixels = torch.addmm(weights.decode_bias, hidden.flatten(0, 1), weights.decode)
    if picture is not None:
        pixels = pixels + weights.taus[-1] * picture.flatten(0, 1)
    return pixels.add_(1).mul_(127.5).round_().clamp_(0, 255), predicted


def _position(weights: Prepared, inputs: Inputs) -> Tensor:
    """What is added to embedded frames, (n, D) or (B, n, D)."""
    shift = inputs.following.shift
    return weights.position if shift is None else weights.position + shift


def _begin(weights: Prepared, inputs: Inputs) -> list[LayerPass]:
    return [_begin_layer(weights, inputs, i) for i in range(len(weights.layers))]


def _begin_layer(weights: Prepared, inputs: Inputs, layer: int) -> LayerPass:
    """What layer `layer` needs in all passes."""
    state, keys, values = inputs.layers[layer]
    attention, scan = weights.layers[layer].attention, weights.layers[layer].scan
    place = mask = state.new_empty(0)
    if attention is not None:
        n = weights.position.shape[0]
        own = keys.new_empty(keys.shape[0], n, *keys.shape[3:])
        keys, values = (torch.cat([past.flatten(1, 2), own], dim=1) for past in (keys, values))
        # The j-th frame before this one is seen only if the episode has it.
        back = torch.arange(keys.shape[1] // n - 1, -1, -1, device=keys.device).repeat_interleave(n)
        hidden = inputs.frames[:, None] < back
        mask = attention.bias.masked_fill(hidden[:, None, None], float("-inf"))
    if scan is not None and inputs.places is not None:
        place = inputs.places[layer].repeat_interleave(state.shape[1], dim=0)[:, None, None]
    return LayerPass(state, place if place.numel() else None, keys, values, mask)


def _rows(weights: Prepared, modulation: Tensor, inputs: Inputs) -> Tensor:
    """Each row's own of M modulations (M, ...), (B, ...)."""
    return modulation if weights.table is None else modulation[inputs.rows]


def _picture(weights: Prepared, pixels: Tensor, rows: int) -> Tensor:
    """Frames (B, H, W, C) of the pixels of patches."""
    patches, (h, w) = weights.model.patches, weights.model.config.grid
    cut = pixels.to(torch.uint8).view(rows, h, w, patches.height, patches.width, -1).transpose(2, 3)
    return patches.crop(cut.reshape(rows, h * patches.height, w * patches.width, -1))


def _committed(
    before: tuple[LayerMemory, ...], passes: list[LayerPass], states: list[Tensor], n: int
) -> tuple[LayerMemory, ...]:
    """The layers' memory after a commit: of keys and values all but the oldest frame."""
    after = []
    for old, layer, state in zip(before, passes, states, strict=True):
        kept = (t[:, n:].view(o.shape) if t.ndim == 4 else o for t, o in zip(layer[2:4], old[1:], strict=True))
        after.append(LayerMemory(state, *kept))
    return tuple(after)


def _run(
    weights: Prepared, tokens: Tensor, passes: list[LayerPass], modulation: Tensor, write: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """All layers; keys and values of the tokens are left in the buffers, the states after them come back if written.

    Args:
        modulation: (B, L, 3*parts, D).
    """
    states = []
    grid = weights.model.config.grid
    for i, (layer, frame) in enumerate(zip(weights.layers, passes, strict=True)):
        parts = iter(modulation[:, i, :, None].unbind(1))
        state = frame.state
        if layer.scan is not None:
            shift, scale, gate = next(parts), next(parts), next(parts)  # each (B, 1, D)
            mixed, state = _scan(layer.scan, grid, _modulated(tokens, shift, scale), frame, write)
            tokens = torch.addcmul(tokens, gate, mixed)
        if layer.attention is not None:
            shift, scale, gate = next(parts), next(parts), next(parts)
            tokens = torch.addcmul(tokens, gate, _attend(layer.attention, _modulated(tokens, shift, scale), frame))
        shift, scale, gate = parts
        tokens = torch.addcmul(tokens, gate, _mlp(layer, _modulated(tokens, shift, scale)))
        states.append(state)
    return tokens, states


def _modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(tokens, tokens.shape[-1:], eps=EPSILON), scale)


def _mlp(layer: PreparedLayer, tokens: Tensor) -> Tensor:
    up = torch.addmm(layer.up_bias, tokens.flatten(0, 1), layer.up)
    return torch.addmm(layer.down_bias, F.gelu(up, approximate="tanh"), layer.down).view_as(tokens)


def _attend(weights: PreparedAttention, tokens: Tensor, frame: LayerPass) -> Tensor:
    """To the own frame and the window's; the own keys and values are left in the buffers."""
    B, n, D = tokens.shape
    P = weights.norms.shape[1]
    qkv = (tokens.flatten(0, 1) @ weights.qkv).view(B, n, 3, -1, P)
    qk = F.rms_norm(qkv[:, :, :2], (P,), eps=EPSILON) * weights.norms[:, None]
    frame.keys[:, -n:] = qk[:, :, 1]
    frame.values[:, -n:] = qkv[:, :, 2]
    q, k, v = (t.transpose(1, 2) for t in (qk[:, :, 0], frame.keys, frame.values))
    seen = F.scaled_dot_product_attention(q, k, v, attn_mask=frame.mask)
    return (seen.transpose(1, 2).reshape(B * n, D) @ weights.out_proj).view(B, n, D)


def _scan(
    weights: PreparedScan, grid: tuple[int, int], tokens: Tensor, frame: LayerPass, write: bool
) -> tuple[Tensor, Tensor]:
    """Read what the states hold and what the frame itself writes; the states after it, if it stays."""
    state = frame.state
    B, n, D = tokens.shape
    (H, P), N = weights.y_norm.shape, weights.norms.shape[1]
    inner, Z = H * P, B * state.shape[1]
    K = B * n // Z
    projected = _blocks(tokens.flatten(0, 1) @ weights.in_proj, grid, weights.block)
    gate, x, both, dt = projected.view(Z, K, -1).split([inner, inner, 2 * N, H], dim=-1)
    x, both, dt = x.unflatten(-1, (H, P)), both.unflatten(-1, (2, N)), F.softplus(dt + weights.dt_bias)
    both = F.rms_norm(both if frame.place is None else both + frame.place, (N,), eps=EPSILON) * weights.norms
    write_to, read_from = both.unbind(2)  # B and C, (Z, K, N)
    written, decay = x * dt[..., None], (dt * weights.A).cumsum(dim=1)
    flat = state.reshape(Z, inner, N)
    carried = torch.bmm(read_from, flat.transpose(1, 2)).view(Z, K, H, P)
    own = _own(read_from, write_to, written, decay)
    y = torch.addcmul(own, carried, decay.exp()[..., None])
    y = torch.addcmul(weights.D[:, None] * x, F.rms_norm(y, (P,), eps=EPSILON), weights.y_norm)
    y = y.flatten(-2) * F.silu(gate)
    mixed = _blocks(y.view(B * n, inner), grid, weights.block, back=True) @ weights.out_proj
    if write:
        end = decay[:, -1:]
        weighted = (written * (end - decay).exp()[..., None]).view(Z, K, inner)
        kept = (state.reshape(Z, H, P * N) * end.exp().transpose(1, 2)).view(Z, inner, N)
        state = torch.baddbmm(kept, weighted.transpose(1, 2), write_to).view_as(state)
    return mixed.view(B, n, D), state


def _own(read_from: Tensor, write_to: Tensor, written: Tensor, decay: Tensor) -> Tensor:
    """What the K tokens of a block read of their own writes, (Z, K, H, P); see `ssd.read_own`."""
    if written.shape[1] == 1:
        return (read_from * write_to).sum(dim=-1)[..., None, None] * written
    steps = decay.transpose(1, 2)  # (Z, H, K)
    pairs = steps[..., None] - steps[..., None, :]
    # Tokens see those before them; masked before exp, which could overflow above the diagonal.
    later = torch.ones(pairs.shape[-2:], dtype=torch.bool, device=pairs.device).triu(1)
    scores = torch.bmm(read_from, write_to.transpose(1, 2))[:, None] * pairs.masked_fill(later, float("-inf")).exp()
    return (scores @ written.transpose(1, 2)).transpose(1, 2)


def _blocks(tokens: Tensor, grid: tuple[int, int], block: tuple[int, int], back: bool = False) -> Tensor:
    """Tokens (B*n, ...) put in the order of their blocks, or back."""
    (h, w), (p, q) = grid, block
    if p == 1 and q == 1 or q == w:
        return tokens  # a block's tokens are side by side
    sides = (h // p, w // q, p, q) if back else (h // p, p, w // q, q)
    return tokens.view(-1, *sides, tokens.shape[-1]).transpose(2, 3).reshape(tokens.shape)
