"""NativeEngine: a dreamt frame in one call of our CPU kernels (`lssvwm_rl/native/dream.cpp`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.checks import check_clip
from lssvwm_rl.model.flow import Noise
from lssvwm_rl.model.heads import ContinuationHead, RewardHead
from lssvwm_rl.model.memory import LayerMemory, Memory
from lssvwm_rl.model.native_fast_weights import NativeFastWeights
from lssvwm_rl.model.native_reservoir import NativeReservoir
from lssvwm_rl.model.outputs import Imagined, Prediction
from lssvwm_rl.model.prepared import Prepared, PreparedAttention, PreparedLayer, PreparedScan
from lssvwm_rl.model.torch_engine import TorchEngine
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.native.library import PANEL, Kernels, address, load_kernels, pack_panels


def native_takes(model: WorldModel) -> bool:
    """Whether the kernels know the model: on the CPU, in fp32 or fp64, of any kind but `causal`."""
    kind, known = model.config.backbone.kind, (torch.float32, torch.float64)
    return model.device.type == "cpu" and model.dtype in known and kind != "causal"


def bf16_products() -> bool:
    """Whether there are kernels here that multiply in bf16: the processor has AVX512_BF16."""
    kernels = load_kernels()
    return kernels is not None and kernels.has("dream", torch.bfloat16)


class NativeEngine(TorchEngine):
    """See `engine.Engine`. A row's frame depends neither on the rows beside it nor on the number of threads.

    Args:
        model: on the CPU, in fp32 or fp64.
        bf16: round both sides of products with weights to bf16, but for those of the heads; sums and all else stay in
            fp32.

    Raises:
        ValueError: if there are no kernels here, the model is none that they know, or products are to be in bf16 and
            the model is not in fp32 or there are no kernels for them.
    """

    name = "native"

    def __init__(self, model: WorldModel, bf16: bool = False):
        super().__init__(model)
        kernels = load_kernels()
        if kernels is None or not native_takes(model):
            raise ValueError(f"No native kernels for this {model.config.backbone.kind} model here; use engine 'torch'.")
        if bf16:
            self.name = "native-bf16"
            _check_bf16(model)
        self._products = torch.bfloat16 if bf16 else model.dtype
        self._kernels = kernels
        prepared, recollection = self._prepare(1), model.recollection
        self._packed = _pack(prepared, kernels, self._products)
        self._reservoir = NativeReservoir(recollection, kernels)
        space = model.config.action_space
        self._fast_weights = NativeFastWeights(recollection.fast_weights, prepared.embed, space, kernels)
        self._shapes = _shapes(model.initial_memory(1))

    @torch.no_grad()
    def imagine(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Imagined:
        """As `WorldModel.imagine`."""
        vector = self._vector(memory, action, vector)
        frame = self._new_frames(memory)
        drawn = self._draw(memory, noise)
        self._prepare(denoise_steps)  # which there cannot be for none
        inputs = self._following(memory, action, vector, denoise_steps)
        doubt = torch.zeros(len(frame), dtype=self.model.dtype)
        after, prediction = self._commit(inputs, frame, drawn, denoise_steps, doubt)
        frame = self.model.patches.crop(frame)
        return Imagined(frame, vector, prediction.rewards, prediction.terminated, after, doubt)

    @torch.no_grad()
    def denoise(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Tensor:
        """The frame (B, H, W, C) uint8 of `imagine` alone, with nothing committed."""
        vector = self._vector(memory, action, vector)
        frame = self._new_frames(memory)
        drawn = self._draw(memory, noise)
        self._prepare(denoise_steps)  # which there cannot be for none
        inputs = self._following(memory, action, vector, denoise_steps)
        self._call(inputs, frame, drawn, denoise_steps)
        return self.model.patches.crop(frame)

    @torch.no_grad()
    def observe(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        """As `WorldModel.observe`; one frame, as beside a real environment, is one call of the kernels."""
        if frames.shape[1] != 1:
            return self.model.observe(memory, frames, actions, vectors)
        check_clip(self.model.config, memory.batch_size, frames, actions)
        vector = self._vector(memory, actions[:, 0], None if vectors is None else vectors[:, 0])
        inputs = self._following(memory, actions[:, 0], vector, 0)
        after, prediction = self._commit(inputs, self.model.patches.pad(frames[:, 0]).contiguous())
        return after, Prediction(*(field[:, None] for field in prediction))

    def _new_frames(self, memory: Memory) -> Tensor:
        config = self.model.config
        return torch.empty(memory.batch_size, *config.padded_to, config.frame_shape[2], dtype=torch.uint8)

    def _commit(
        self, inputs: _Inputs, frame: Tensor, noise: Tensor | None = None, steps: int = 0, doubt: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        """Denoise into the frame and fill the doubt of it, or read it if there are no steps, and commit it; predictions
        are (B, ...)."""
        before = inputs.memory
        layers = tuple(LayerMemory(*_like(layer)) for layer in before.layers)
        parts = _like(before.reservoir), _like(before.fast_weights)
        after = Memory(layers, torch.empty_like(before.features), before.frames + 1, *parts)
        rewards, end = (torch.empty(len(frame), *size, dtype=self.model.dtype) for size in ((2,), ()))
        self._call(inputs, frame, noise, steps, after, (rewards, end, doubt))
        return after, Prediction(self.model.reward_head.scale * rewards, end, after.features)

    def _following(self, memory: Memory, action: Tensor, vector: Tensor | None, steps: int) -> _Inputs:
        """What the kernel needs of the frame that follows a memory, to denoise it in so many steps and commit it."""
        self._check(memory, action, vector)
        prepared, dtype = self._prepare(max(steps, 1)), self.model.dtype
        vector = None if vector is None else vector.to(dtype).contiguous()
        return _Inputs(
            *prepared.modulation(memory, action, vector),
            torch.tensor(prepared.ratios, dtype=dtype),
            torch.tensor(prepared.taus, dtype=dtype),
            action,
            vector,
            None if vector is None else self.model.vector_in(vector).contiguous(),
            prepared.places(vector),
            _readable(memory, dtype),
        )

    def _call(
        self,
        inputs: _Inputs,
        frame: Tensor,
        noise: Tensor | None,
        steps: int,
        after: Memory | None = None,
        said: tuple[Tensor | None, ...] = (None, None, None),
    ) -> None:
        """The kernel; nothing is committed if there is no memory with rewards, end and perhaps doubt to fill."""
        packed, layers = self._packed, inputs.modulation if steps else inputs.modulation[-1:]  # of the commit alone
        before = inputs.memory
        net: list[Tensor | int | None] = [layers, inputs.final, inputs.rows, before.frames, noise, packed.noise]
        net += [inputs.ratios, inputs.taus, packed.position, inputs.shift, *packed.patches, frame, *packed.heads]
        pointers = [*net, None if after is None else after.features, *said]
        for i, old in enumerate(before.layers):
            pointers += packed.layers[i]
            pointers.append(None if inputs.places is None else inputs.places[i])
            pointers += [t if t.numel() else None for t in old]
            pointers += (None,) * 3 if after is None else [t if t.numel() else None for t in after.layers[i]]
        pointers += self._reservoir.pointers(before, after)
        pointers += self._fast_weights.pointers(before, inputs.action, inputs.vector, after)
        before_table, after_table = packed.sizes
        sizes = [len(frame), steps, int(after is not None), *before_table, layers.shape[1], *after_table, *packed.sides]
        sizes += [*self._reservoir.sizes, *self._fast_weights.sizes]
        self._kernels("dream", self._products, sizes, pointers)

    def _check(self, memory: Memory, action: Tensor, vector: Tensor | None) -> None:
        """Raise ValueError for what the kernels would misread: they read what the sizes say, whatever is there."""
        rows, size = memory.batch_size, self.model.config.vector_size
        if _shapes(memory) != self._shapes:
            raise ValueError("The memory has other sizes than the model's; give one that this model made.")
        if len(action) != rows or (vector is not None and vector.shape != (rows, size)):
            raise ValueError(
                f"Actions of {len(action)} rows or vectors do not fit a memory of {rows}; give each row one."
            )

    def _draw(self, memory: Memory, noise: Noise) -> Tensor:
        drawn, numbers = self.draw(noise), len(self._prepare(1).noise)
        if len(drawn) != memory.batch_size:
            raise ValueError(f"The noise of {len(drawn)} rows is not that of {memory.batch_size}; give each row one.")
        if drawn.shape != (len(drawn), *self.model.config.grid, numbers):
            raise ValueError(f"Noise of shape {tuple(drawn.shape)} does not fit the model; draw it with `draw`.")
        return drawn.to(self.model.dtype).contiguous()


class _Inputs(NamedTuple):
    """See `NativeEngine._following`; it holds what the kernel reads until the call is over."""

    modulation: Tensor
    """This and the next two are what `Prepared.modulation` gives."""
    final: Tensor
    rows: Tensor
    ratios: Tensor
    taus: Tensor
    action: Tensor
    vector: Tensor | None
    shift: Tensor | None
    """What the vector adds to every token of its frame, (B, D)."""
    places: Tensor | None
    memory: Memory
    """Contiguous, and of the model's dtype."""


def _readable(memory: Memory, dtype: torch.dtype) -> Memory:
    parts = (*memory.layers, memory.reservoir, memory.fast_weights, (memory.features,))
    if memory.frames.is_contiguous() and all(t.dtype is dtype and t.is_contiguous() for part in parts for t in part):
        return memory

    def convert(parts: Iterable[Tensor]) -> tuple[Tensor, ...]:
        return tuple(part.to(dtype).contiguous() for part in parts)

    layers = tuple(LayerMemory(*convert(layer)) for layer in memory.layers)
    (features,), parts = convert([memory.features]), (convert(memory.reservoir), convert(memory.fast_weights))
    return Memory(layers, features, memory.frames.contiguous(), *parts)


def _like(parts: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(part) for part in parts)


def _check_bf16(model: WorldModel) -> None:
    if model.dtype != torch.float32:
        raise ValueError(f"Products in bf16 are for fp32 models and this one is {model.dtype}; use engine 'native'.")
    if not bf16_products():
        raise ValueError(
            "Products in bf16 need a processor with AVX512_BF16 and a compiler that knows it; use engine 'native'."
        )


def _shapes(memory: Memory) -> list[torch.Size]:
    """Of all parts of a row."""
    parts = (*memory.layers, [memory.features], memory.reservoir, memory.fast_weights)
    return [t.shape[1:] for part in parts for t in part]


class _Packed(NamedTuple):
    """A model's weights in the kernels' order, as addresses of what `kept` holds."""

    sizes: tuple[tuple[int, ...], tuple[int, ...]]
    """Of `Sizes` in frame.h from `layers` on, before and after `table_rows`."""
    sides: tuple[int, ...]
    """(b_h, b_w) of every layer's blocks."""
    noise: int | None
    position: int | None
    patches: tuple[int | None, ...]
    """Of `Net` in dream.cpp from `compose` to `pixels_bias`."""
    heads: tuple[int | None, ...]
    """From `token_features` to `end_out_bias`."""
    layers: tuple[tuple[int | None, ...], ...]
    """Of `Packed` in frame.h, before `place`."""
    kept: tuple[Tensor, ...]


def _pack(prepared: Prepared, kernels: Kernels, products: torch.dtype) -> _Packed:
    def pack(weight: Tensor, dtype: torch.dtype = products) -> Tensor:
        return pack_panels(kernels, weight, dtype)

    def linears(*modules: nn.Module) -> tuple[Tensor, ...]:
        linear = [(m.weight.detach(), m.bias.detach()) for m in modules if isinstance(m, nn.Linear)]
        return tuple(t for weight, bias in linear for t in (pack(weight.t(), weight.dtype), bias.clone()))

    def head(head: RewardHead | ContinuationHead) -> tuple[Tensor, ...]:
        weight, bias = head.first_layer()
        told = (head.ended.detach().clone(),) if isinstance(head, RewardHead) else ()
        return pack(weight.t(), weight.dtype), bias, *told, *linears(head.mlp[2])

    kept: list[Tensor] = []

    def keep(tensors: Sequence[Tensor | None]) -> tuple[int | None, ...]:
        kept.extend(t for t in tensors if t is not None)
        return tuple(None if t is None else address(t) for t in tensors)

    model = prepared.model
    features = model.feature_mlp
    patches = (pack(prepared.compose), pack(prepared.decode), pack(prepared.embed),
               prepared.compose_bias, prepared.decode_bias)  # fmt: skip
    heads = (*linears(model.token_features, features[0], features[2]), *head(model.reward_head),
             model.reward_head.bins.to(model.dtype), *head(model.continuation_head))  # fmt: skip
    layers = [
        (*_weights(layer, pack), *_scan(layer.scan), *_attention(layer.attention), layer.up_bias, layer.down_bias)
        for layer in prepared.layers
    ]
    blocks = [(1, 1) if layer.scan is None else layer.scan.block for layer in prepared.layers]
    noise, position = keep([pack(prepared.noise), prepared.position])
    return _Packed(
        _sizes(prepared),
        tuple(side for block in blocks for side in block),
        noise,
        position,
        keep(patches),
        keep(heads),
        tuple(keep(layer) for layer in layers),
        tuple(kept),
    )


def _sizes(prepared: Prepared) -> tuple[tuple[int, ...], tuple[int, ...]]:
    model, config, first = prepared.model, prepared.model.config, prepared.layers[0]
    scan, attention, backbone = first.scan, first.attention, config.backbone
    heads, head_size = (0, 0) if scan is None else scan.y_norm.shape
    attention_size = 0 if attention is None else attention.norms.shape[1]
    before = (
        len(prepared.layers), *config.grid, backbone.width, model.patches.height, model.patches.width,
        config.frame_shape[2], len(prepared.noise),
    )  # fmt: skip
    after = (
        heads, head_size, 0 if scan is None else scan.norms.shape[1],
        0 if attention is None else backbone.width // attention_size, attention_size,
        backbone.window, first.up.shape[1],
        model.token_features.out_features, config.head_width, config.feature_size,
        config.reservoir.size, len(model.reward_head.bins), *config.frame_shape[:2],
    )  # fmt: skip
    return before, after


def _weights(layer: PreparedLayer, pack: Callable[[Tensor], Tensor]) -> tuple[Tensor | None, ...]:
    scan, attention = layer.scan, layer.attention
    return (
        *((None, None) if scan is None else (pack(scan.in_proj), pack(scan.out_proj))),
        *((None, None) if attention is None else (pack(attention.qkv), pack(attention.out_proj))),
        pack(layer.up),
        pack(layer.down),
    )


def _scan(scan: PreparedScan | None) -> tuple[Tensor | None, ...]:
    if scan is None:
        return (None,) * 6
    norms = (part.contiguous() for part in scan.norms)
    return scan.dt_bias, scan.A, *norms, scan.y_norm, scan.D


def _attention(attention: PreparedAttention | None) -> tuple[Tensor | None, ...]:
    if attention is None:
        return (None,) * 3
    norms = (part.contiguous() for part in attention.norms)
    queries = attention.bias.shape[1]
    queries_last = F.pad(attention.bias.transpose(1, 2), (0, -queries % PANEL)).contiguous()
    return *norms, queries_last
