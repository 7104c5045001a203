"""Engine "native": a dreamt frame in one call of our CPU kernels (`lssvwm_rl/native/dream.cpp`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lssvwm_rl.model.attention.causal import CausalAttention
from lssvwm_rl.model.attention.local import FrameLocalAttention
from lssvwm_rl.model.backbone import Layer
from lssvwm_rl.model.engine import Noise
from lssvwm_rl.model.memory import LayerMemory, Memory
from lssvwm_rl.model.prepared import Prepared, prepare
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.world_model import Imagined, Prediction, WorldModel
from lssvwm_rl.native.library import Kernels, load_kernels

PANEL = 64  # columns; of every processor's panels a multiple


def native_takes(model: WorldModel) -> bool:
    """Whether the kernels know the model: on the CPU, in fp32 or fp64, of any kind but `causal`."""
    kind, known = model.config.backbone.kind, (torch.float32, torch.float64)
    return model.device.type == "cpu" and model.dtype in known and kind != "causal"


class NativeEngine:
    """See `engine.Engine`. A row's frame does not depend on the rows beside it, nor on the number of threads.

    Raises:
        ValueError: if there are no kernels here, or the model is none that they know.
    """

    name = "native"

    def __init__(self, model: WorldModel):
        kernels = load_kernels()
        if kernels is None or not native_takes(model):
            raise ValueError(f"No native kernels for this {model.config.backbone.kind} model here; use engine 'torch'.")
        self.model, self._kernels = model, kernels
        self._prepared: dict[int, Prepared] = {}
        with torch.no_grad():
            self._static = _weights(model, kernels)

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        """See `Engine.draw`: (B, h * w, pixels or D)."""
        return self.model.draw_noise(generators)

    @torch.no_grad()
    def imagine(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Imagined:
        """See `Engine.imagine`."""
        vector = self._vector(memory, action, vector)
        frame = torch.empty(memory.batch_size, *self.model.config.frame_shape, dtype=torch.uint8)
        drawn = noise if isinstance(noise, Tensor) else self.draw(noise)
        after, prediction = self._run(memory, action, vector, frame, drawn, denoise_steps)
        return Imagined(frame, vector, prediction.reward, prediction.terminated, after)

    @torch.no_grad()
    def denoise(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Tensor:
        """See `Engine.denoise`."""
        vector = self._vector(memory, action, vector)
        frame = torch.empty(memory.batch_size, *self.model.config.frame_shape, dtype=torch.uint8)
        drawn = noise if isinstance(noise, Tensor) else self.draw(noise)
        self._run(memory, action, vector, frame, drawn, denoise_steps, commit=False)
        return frame

    @torch.no_grad()
    def observe(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        """See `Engine.observe`; one frame, as beside a real environment, is committed by the kernels alone."""
        if frames.shape[1] != 1:
            return self.model.observe(memory, frames, actions, vectors)
        self.model.check_clip(memory, frames, actions)
        vector = self._vector(memory, actions[:, 0], None if vectors is None else vectors[:, 0])
        after, prediction = self._run(memory, actions[:, 0], vector, frames[:, 0].contiguous(), None, 0)
        return after, Prediction(*(field[:, None] for field in prediction))

    def _vector(self, memory: Memory, action: Tensor, vector: Tensor | None) -> Tensor | None:
        if not self.model.config.vector_size:
            return None
        return self.model.next_vector(memory, action) if vector is None else vector

    def _run(
        self,
        memory: Memory,
        action: Tensor,
        vector: Tensor | None,
        frame: Tensor,
        noise: Tensor | None,
        steps: int,
        commit: bool = True,
    ) -> tuple[Memory, Prediction]:
        """Denoise `steps` times into the frame, or read it if there are none, then commit it; fields of the prediction
        are (B, ...). What is not to be committed leaves both undefined."""
        model, static, dtype = self.model, self._static, self.model.dtype
        rows = memory.batch_size
        prepared = self._prepare(max(steps, 1))
        layers, final, table = prepared.modulation(memory, action, vector)
        layers = layers if steps else layers[-1:]
        ratios = torch.tensor(prepared.ratios, dtype=dtype)
        address = [None] * len(memory.layers)
        added = None
        if vector is not None:
            vector = vector.to(dtype)
            added = model.vector_in(vector)
            address = [_place(layer, vector) for layer in static.layers]
        before = [_contiguous(layer) for layer in memory.layers]
        after = [LayerMemory(*(torch.empty_like(part) for part in layer)) for layer in before] if commit else before
        features = torch.empty(rows, model.config.feature_size, dtype=dtype)
        reward, end = torch.empty(rows, dtype=dtype), torch.empty(rows, dtype=dtype)
        weights = static.net
        net = [layers, final, table, memory.frames, noise, weights[0], ratios, weights[1], added, *weights[2:7], frame]
        pointers = [*net, *weights[7:], features, reward, end]
        for i, layer in enumerate(static.layers):
            old, new = before[i], after[i]
            pointers += [*static.weights[i], address[i], *(_or_none(t) for t in (*old, *new))]
        sizes = [rows, steps, int(commit), *static.sizes[:8], layers.shape[1], *static.sizes[8:], *static.sides]
        self._kernels("dream", dtype, sizes, pointers)
        return Memory(tuple(after), features, memory.frames + 1), Prediction(reward, end, features)

    def _prepare(self, steps: int) -> Prepared:
        if steps not in self._prepared:
            self._prepared[steps] = prepare(self.model, steps)
        return self._prepared[steps]


class _Weights(NamedTuple):
    """Of a model, in the kernels' order."""

    layers: tuple[Layer, ...]
    sizes: tuple[int, ...]
    """Of `Sizes` in frame.h, from `layers` on, without `table_rows`."""
    sides: tuple[int, ...]
    """(b_h, b_w) of every layer's blocks."""
    net: tuple[Tensor, ...]
    """Of `Net` in dream.cpp, those that do not change."""
    weights: tuple[tuple[Tensor | None, ...], ...]
    """Of `Layer` in frame.h, without the memory."""


def _weights(model: WorldModel, kernels: Kernels) -> _Weights:
    config, dtype = model.config, model.dtype
    backbone, (h, w), (_, _, channels) = config.backbone, config.grid, config.frame_shape
    layers = tuple(layer for layer in model.backbone.layers if isinstance(layer, Layer))
    scan, attention = layers[0].scan, layers[0].attention

    def pack(weight: Tensor) -> Tensor:
        N, K = weight.shape
        panels = torch.zeros(-(-N // PANEL) * PANEL * K, dtype=dtype)
        kernels("pack", dtype, [N, K], [weight.detach().contiguous(), panels])
        return panels

    def linears(*modules: nn.Module) -> list[Tensor]:
        return [t for m in modules if isinstance(m, nn.Linear) for t in (pack(m.weight), m.bias.detach())]

    noise_in = model.noise_factor().t() if config.token_noise else model.patch_in.weight
    folded = prepare(model, 1)
    sizes = (
        len(layers), h, w, backbone.width, model.patches.height, model.patches.width, channels, noise_in.shape[1],
        0 if scan is None else scan.heads, 0 if scan is None else scan.head_size, 0 if scan is None else scan.state_size,
        0 if attention is None else attention.heads, 0 if attention is None else attention.head_size,
        backbone.window, layers[0].mlp[0].out_features, model.token_features.out_features,
        config.head_width, config.feature_size, len(model.reward_head.bins),
    )  # fmt: skip
    reward, end = model.reward_head.mlp, model.continuation_head.mlp
    net = (
        pack(noise_in),
        folded.position.reshape(h * w, -1).contiguous(),
        pack(folded.compose),
        folded.compose_bias,
        *linears(model.patch_out),
        pack(model.patch_in.weight),
        *linears(model.token_features, model.feature_mlp[0], model.feature_mlp[2], reward[0], reward[2]),
        model.reward_head.bins.to(dtype),
        *linears(end[0], end[2]),
    )
    sides = [(1, 1) if layer.scan is None else layer.scan.block for layer in layers]
    return _Weights(
        layers,
        sizes,
        tuple(side for pair in sides for side in pair),
        net,
        tuple(
            (*_scan_weights(layer.scan, pack), *_attention_weights(layer.attention, pack), *linears(*layer.mlp))
            for layer in layers
        ),
    )


def _scan_weights(scan: BlockScan | None, pack: Callable[[Tensor], Tensor]) -> tuple[Tensor | None, ...]:
    if scan is None:
        return (None,) * 8
    decay = -torch.exp(scan.A_log.detach())
    vectors = (scan.dt_bias, decay, scan.B_norm.weight, scan.C_norm.weight, scan.y_norm, scan.D)
    return pack(scan.in_proj.weight), pack(scan.out_proj.weight), *(t.detach().contiguous() for t in vectors)


def _attention_weights(
    attention: FrameLocalAttention | CausalAttention | None, pack: Callable[[Tensor], Tensor]
) -> tuple[Tensor | None, ...]:
    if not isinstance(attention, FrameLocalAttention):
        return (None,) * 5
    bias = attention.bias.detach()[:, attention.offsets].transpose(1, 2).contiguous()  # queries side by side
    norms = (attention.q_norm.weight.detach(), attention.k_norm.weight.detach())
    return pack(attention.qkv.weight), pack(attention.out_proj.weight), *norms, bias


def _place(layer: Layer, vector: Tensor) -> Tensor | None:
    """(B, N), what a frame's address adds to B and C of a layer's scan."""
    return None if layer.scan is None else layer.scan.place(vector)


def _contiguous(layer: LayerMemory) -> LayerMemory:
    return LayerMemory(*(part.contiguous() for part in layer))


def _or_none(t: Tensor) -> Tensor | None:
    return t if t.numel() else None
