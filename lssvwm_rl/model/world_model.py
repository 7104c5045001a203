"""WorldModel: predicts the next frame, reward and end of episode from the whole history of frames and actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.model.backbone import Backbone, Masks, Pass, modulate
from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from lssvwm_rl.model.checkpoint_weights import load_weights, read_checkpoint, write_checkpoint
from lssvwm_rl.model.checks import check_clip
from lssvwm_rl.model.conditioning import ActionEmbedding, NoiseEmbedding, VectorEmbedding
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.flow import FINEST, Noise, embedded_noise, euler_sample, movement, steps_index
from lssvwm_rl.model.heads import ContinuationHead, RewardHead, vector_head
from lssvwm_rl.model.memory import LayerMemory, Memory
from lssvwm_rl.model.outputs import Imagined, Prediction
from lssvwm_rl.model.patches import Patches
from lssvwm_rl.model.precision import at_least_fp32, state_zeros
from lssvwm_rl.model.recall import EpisodicRecall
from lssvwm_rl.model.recollection import Recollection
from lssvwm_rl.model.sketch import SKETCH_SIZE


class WorldModel(nn.Module):
    """The learned model; holds weights only, all state is in `Memory`."""

    def __init__(self, config: WorldModelConfig):
        super().__init__()
        self.config = config
        (h, w), width = config.grid, config.backbone.width
        self.patches = Patches.of(config)
        pixels = self.patches.height * self.patches.width * config.frame_shape[2]
        condition = config.backbone.condition_width
        self.patch_in = nn.Linear(pixels, width)
        self.position = nn.Parameter(0.02 * torch.randn(h, w, width))
        self.noise_embedding = NoiseEmbedding(condition)
        self.action_embedding = ActionEmbedding(config.action_space, condition)
        if config.shortcut:
            self.step_embedding = nn.Embedding(FINEST + 1, condition)
        self.backbone = Backbone(config.backbone, config.grid, config.vector_size)
        self.final_modulation = nn.Linear(condition, 2 * width)
        nn.init.zeros_(self.final_modulation.weight)
        nn.init.zeros_(self.final_modulation.bias)
        self.patch_out = nn.Linear(width, pixels)
        nn.init.zeros_(self.patch_out.weight)
        nn.init.zeros_(self.patch_out.bias)
        per_token = max(8, config.head_width // (h * w))
        self.token_features = nn.Linear(width, per_token)
        self.feature_mlp = nn.Sequential(
            nn.Linear(h * w * per_token, config.head_width),
            nn.SiLU(),
            nn.Linear(config.head_width, config.feature_size),
        )
        self.recollection = Recollection(config, pixels)
        features, focus = config.features, bool(config.reservoir.blocks)
        self.reward_head = RewardHead(features, config.head_width, focus, config.reward_scale)
        self.continuation_head = ContinuationHead(features, config.head_width, focus)
        self.recall = EpisodicRecall(h * w, width, features, config.head_width)
        if config.vector_size:
            self.vector_in = VectorEmbedding(config.vector_size, width)
            self.vector_condition = VectorEmbedding(config.vector_size, condition)
            self.vector_head = vector_head(features + condition, config.head_width, config.vector_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.position.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: frames and noise are brought to it."""
        return self.position.dtype

    @property
    def readout_size(self) -> int:
        """Numbers in `Memory.readout`: the features, and the reservoir's or a sketch of every scan."""
        sketches = 0 if self.config.reservoir.blocks else len(self.backbone.block_grids())
        return self.config.features + SKETCH_SIZE * sketches

    def initial_memory(self, batch_size: int) -> Memory:
        """The memory of B rows that have seen nothing."""
        features = state_zeros(self.position, batch_size, self.config.features)
        frames = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        layers = self.backbone.initial_memory(batch_size)
        return Memory(layers, features, frames, **self.recollection.initial_state(batch_size))

    @torch.no_grad()
    def observe(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        """Commit T real frames.

        Args:
            memory: B rows.
            frames: (B, T, H, W, C) uint8.
            actions: (B, T[, A]), the action just before each frame; ignored where a frame is a row's first.
            vectors: (B, T, V) float32; if the model has vectors and None is given, it predicts them.

        Returns:
            The memory after the last frame, and what the heads read from every frame.

        Raises:
            ValueError: if shapes or dtypes do not fit the model.
        """
        self.check_clip(memory, frames, actions)
        if self.config.vector_size and vectors is None:
            parts = []
            for t in range(frames.shape[1]):
                vector = self.next_vector(memory, actions[:, t])
                memory, prediction = self.observe(memory, frames[:, t : t + 1], actions[:, t : t + 1], vector[:, None])
                parts.append(prediction)
            return memory, Prediction(*(torch.cat(field, dim=1) for field in zip(*parts, strict=True)))
        return self.commit(memory, frames, actions, vectors)

    def commit(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None, masks: Masks | None = None
    ) -> tuple[Memory, Prediction]:
        """As `observe`, without its checks and with the vectors known; masks as in `denoise`."""
        x = self.patches.from_frames(frames, self.dtype)
        tau = x.new_zeros(*x.shape[:2], 1)
        recalled, written = self.recollection(x, actions, self.no_action(memory, x.shape[1]), vectors, memory)
        tokens = self.patch_in(x) if recalled.tokens is None else self.patch_in(x) + recalled.tokens
        hidden, _, layers = self.run(tokens[:, :, None], tau, actions, vectors, memory, masks=masks)
        features = self.features_of(hidden[:, :, 0], written.reads)
        prediction = Prediction(self.reward_head.both(features), self.continuation_head(features), features)
        seen = memory.frames + frames.shape[1]
        return Memory(layers, features[:, -1], seen, written.reservoir, written.fast_weights), prediction

    @torch.no_grad()
    def imagine(
        self, memory: Memory, action: Tensor, noise: Noise, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Imagined:
        """Dream one step: denoise the next frame from memory, quantise it, commit it.

        This is what `engine.Engine`s compute faster.

        Args:
            memory: B rows; left as it is.
            action: (B,) or (B, A).
            noise: one generator per row, so that a row's dream does not depend on its neighbours, or what `draw_noise`
                made of them.
            denoise_steps: network passes per frame, at least 1.
            vector: (B, V) of the frame; a model that has vectors predicts it if None.

        Raises:
            ValueError: if shapes do not fit the model.
        """
        vector = self.next_vector(memory, action) if self.config.vector_size and vector is None else vector
        vectors = None if vector is None else vector[:, None]
        masks = self.backbone.masks(memory.frames)
        passes = self.predictions(memory, action, vectors, noise, denoise_steps, masks)
        before, frame = memory, self.patches.to_frames(passes[-1])
        memory, prediction = self.commit(before, frame[:, None], action[:, None], vectors, masks)
        if memory.fast_weights:  # these know a dreamt frame from a real one
            _, expected = self.recollection.expect(action, before.frames == 0, vector, before)
            x = self.patches.from_frames(frame, self.dtype)
            written = self.recollection.write(expected, x, before.reservoir, before.fast_weights, dreamt=True)
            memory = replace(memory, fast_weights=written.fast_weights)
        rewards, end, doubt = prediction.rewards[:, 0], prediction.terminated[:, 0], self._doubt(frame, passes)
        return Imagined(frame, vector, rewards, end, memory, doubt)

    @torch.no_grad()
    def imagine_frame(
        self, memory: Memory, action: Tensor, vectors: Tensor | None, noise: Noise, denoise_steps: int = 4
    ) -> Tensor:
        """The frame of `imagine` (B, H, W, C) uint8, with the vectors (B, 1, V) given and nothing committed."""
        return self.patches.to_frames(self.predictions(memory, action, vectors, noise, denoise_steps)[-1])

    def predictions(
        self,
        memory: Memory,
        action: Tensor,
        vectors: Tensor | None,
        noise: Noise,
        denoise_steps: int = 4,
        masks: Masks | None = None,
    ) -> list[Tensor]:
        """Clean patches (B, h, w, pixels) as each pass over the frame predicts them; the last are the frame itself."""
        drawn, steps, shift = self.draw_noise(noise), steps_index(denoise_steps), self.config.noise_shift
        if len(drawn) != memory.batch_size:
            raise ValueError(f"The noise of {len(drawn)} rows is not that of {memory.batch_size}; give each row one.")
        masks = self.backbone.masks(memory.frames) if masks is None else masks
        weight, predictions = self.patch_in.weight, list[Tensor]()
        vector = None if vectors is None else vectors[:, 0]
        recalled, _ = self.recollection.expect(action, memory.frames == 0, vector, memory)
        bias = self.patch_in.bias if recalled.tokens is None else self.patch_in.bias + recalled.tokens

        def denoise(embedded: Tensor, tau: Tensor) -> Tensor:
            predicted = self.denoise(embedded + bias, tau, steps, action, vectors, memory, masks)
            picture = recalled.picture
            predictions.append(predicted if picture is None else predicted + tau.view(-1, 1, 1, 1) * picture)
            return predictions[-1]

        if self.config.token_noise:  # the flow of embedded frames W x, without the bias
            euler_sample(denoise, drawn @ self.noise_factor(), denoise_steps, shift, lambda x: F.linear(x, weight))
        else:
            euler_sample(lambda x, tau: denoise(F.linear(x, weight), tau), drawn, denoise_steps, shift)
        return predictions

    def _doubt(self, frame: Tensor, predictions: list[Tensor]) -> Tensor:
        """`Imagined.doubt` (B,) of a frame (B, H, W, C) uint8 and what `predictions` gave of it."""
        x = self.patches.from_frames(frame, self.dtype)
        moved = x - (predictions[-2] if len(predictions) > 1 else x)
        return movement(F.linear(moved, self.patch_in.weight))

    def draw_noise(self, generators: Noise) -> Tensor:
        """Standard normal noise of one frame per generator: (B, h, w, pixels), or (B, h, w, r) for `noise_factor`.

        What has been drawn already comes back.
        """
        if isinstance(generators, Tensor):
            return generators
        numbers, width = self.patch_in.in_features, self.config.backbone.width
        shape = (*self.config.grid, min(numbers, width) if self.config.token_noise else numbers)
        return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators]).to(self.position)

    def noise_factor(self) -> Tensor:
        """(r, D): noise (..., r) times it has the distribution of `patch_in` of pixel noise, without the bias."""
        return embedded_noise(self.patch_in.weight)

    def denoise(
        self,
        tokens: Tensor,
        tau: Tensor,
        steps: int,
        action: Tensor,
        vectors: Tensor | None,
        memory: Memory,
        masks: Masks | None = None,
    ) -> Tensor:
        """One network pass over the frame that follows a memory, which is only read.

        Args:
            tokens: (B, h, w, D), the noised patches after `patch_in`, and what is recalled of the frame.
            tau: (B,), its noise level.
            steps: index of the schedule, see `flow.steps_index`.
            action: (B,) or (B, A).
            vectors: (B, 1, V), or None for models without.
            memory: before the frame.
            masks: `Backbone.masks` of the frame; made here if None.

        Returns:
            The predicted clean patches (B, h, w, pixels).
        """
        level = tau[:, None, None]
        schedule = torch.full_like(level, steps, dtype=torch.int64)
        patches = tokens[:, None, None]
        hidden, condition, _ = self.run(patches, level, action[:, None], vectors, memory, schedule, masks, write=False)
        return self.predict(hidden, condition)[:, 0, 0]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors; each appears whole or not at all."""
        write_checkpoint(Path(folder), self.config, self.state_dict())

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, backend: str = "auto") -> WorldModel:
        """Load a run folder, a packaged checkpoint or "hub:owner/name"; on the CPU, in evaluation mode.

        Args:
            backend: what computes the layers: "auto", "torch", "native" or "mamba", see `backends`.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if it is broken.
        """
        folder = resolve_checkpoint(checkpoint)
        config, weights = read_checkpoint(folder, cls)
        model = cls(replace(config, backbone=replace(config.backbone, backend=backend)))
        load_weights(model, weights, folder)
        return model.eval()

    def next_vector(self, memory: Memory, action: Tensor) -> Tensor:
        """The predicted vector (B, V) of the frame that follows a memory, of models that have vectors."""
        return self.predict_vector(memory.features[:, None], action[:, None], self.no_action(memory, 1))[:, 0]

    def run(
        self,
        patches: Tensor,
        tau: Tensor,
        actions: Tensor,
        vectors: Tensor | None,
        memory: Memory,
        steps: Tensor | None = None,
        masks: Masks | None = None,
        write: bool = True,
        recompute: bool = False,
    ) -> tuple[Tensor, Tensor, tuple[LayerMemory, ...]]:
        """Run the backbone over T frames: actions and vectors as in `observe`, masks, write and recompute as in `Pass`.

        Args:
            patches: embedded patches (B, T, S, h, w, D), and what is recalled of each frame.
            tau: noise levels (B, T, S).
            memory: before the first frame.
            steps: (B, T, S) int64, index of the denoising schedule (`flow.steps_index`); the finest if None.

        Returns:
            Hidden tokens (B, T, S, h, w, D), condition (B, T, S, condition_width), the layers' memory after frame T.
        """
        if self.config.vector_size and vectors is None:
            raise ValueError(f"The model has vectors of {self.config.vector_size} numbers; give the frames' vectors.")
        tokens = patches + self.position
        condition = self.noise_embedding(tau)
        condition = condition + self.action_embedding(actions, self.no_action(memory, tau.shape[1]))[:, :, None]
        if self.config.shortcut:
            finest = torch.full_like(tau, FINEST, dtype=torch.int64)
            condition = condition + self.step_embedding(finest if steps is None else steps)
        address = vectors if self.config.vector_size else None
        if address is not None:
            tokens = tokens + self.vector_in(address)[:, :, None, None, None]
            condition = condition + self.vector_condition(address)[:, :, None]
        how = Pass(memory.frames, masks, write, address, recompute)
        hidden, layers = self.backbone(tokens, condition, memory.layers, how)
        return hidden, condition, layers

    def no_action(self, memory: Memory, T: int) -> Tensor:
        """(B, T) bool: True for the frame that is a row's first, which no action led into."""
        return memory.frames[:, None] + torch.arange(T, device=self.device) == 0

    def predict(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """Hidden tokens (B, T, S, h, w, D) -> predicted clean patches (B, T, S, h, w, pixels)."""
        shift, scale = self.final_modulation(F.silu(condition))[:, :, :, None, None].chunk(2, dim=-1)
        return self.patch_out(modulate(hidden, shift, scale))

    def features_of(self, hidden: Tensor, reads: Tensor | None) -> Tensor:
        """What heads read: features (B, T, R) float32 in [-1, 1] of the hidden tokens (B, T, h, w, D) of the clean
        stream, and then the reservoir's."""
        features = self.trained_features(hidden)
        return features if reads is None else torch.cat([features, reads], dim=-1)

    def trained_features(self, hidden: Tensor) -> Tensor:
        """Hidden tokens of the clean stream (..., h, w, D) -> features (..., feature_size) float32 in [-1, 1]."""
        tokens = F.silu(self.token_features(F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6)))
        features = at_least_fp32(self.feature_mlp(tokens.flatten(-3)))
        # Without the norm, the heads' growing confidence drives every unit to +-1, and no gradient passes any more.
        return F.layer_norm(features, features.shape[-1:], eps=1e-6).tanh()

    def predict_vector(self, features: Tensor, actions: Tensor, none: Tensor) -> Tensor:
        """Vectors (B, T, V) of frames, from the features (B, T, R) of the frame before each and the action since."""
        return at_least_fp32(self.vector_head(torch.cat([features, self.action_embedding(actions, none)], dim=-1)))

    def check_clip(self, memory: Memory, frames: Tensor, actions: Tensor) -> None:
        """Raise ValueError unless `observe` can take these."""
        check_clip(self.config, memory.batch_size, frames, actions)
