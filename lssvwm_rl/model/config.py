"""The architecture of a world model: what a checkpoint's config.json holds, and nothing of how it was trained."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from lssvwm_rl.model.backends import BACKENDS
from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.reservoir import ReservoirConfig

FORMAT_VERSION = 2
RENAMED = {"readout_size": "feature_size"}
# Of format 1, where training was part of the model's config; now `training.objective_config.ObjectiveConfig`.
TRAINING_FIELDS = (
    "objective",
    "rarity_power",
    "context_noise",
    "reward_weight",
    "continuation_weight",
    "vector_weight",
    "recall_weight",
    "recall_pairs",
)


class Kind(NamedTuple):
    """What a layer mixes frames with."""

    scan: Literal["blocks", "tokens", "frame"] | None
    """One state per block of the layer's side, per token (the ablation of blocks), or for the whole frame."""
    attention: Literal["window", "all"] | None
    """To the last k frames, or to all past ones."""


KINDS: dict[str, Kind] = {
    "block_ssm": Kind("blocks", "window"),
    "block1_ssm": Kind("tokens", "window"),
    "ssm_local": Kind("frame", "window"),
    "ssm": Kind("frame", None),
    "window": Kind(None, "window"),
    "causal": Kind(None, "all"),
}


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes of the stack.

    Raises:
        ValueError: for an unknown kind, no layers, or an empty window.
    """

    kind: str = "block_ssm"
    """A name in `KINDS`."""
    width: int = 128
    """D."""
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    """Block side (b_h = b_w) of every layer, so also the number of layers; small first, large last. A side larger than
    the grid means the whole frame. For kinds whose scan is not over blocks only their number counts."""
    state_size: int = 32
    """N of the scan."""
    scan_head_size: int = 32
    """P of the scan."""
    expand: int = 2
    """Inner width of the scan over D."""
    window: int = 4
    """k, frames visible to local attention, the own one included."""
    attention_head_size: int = 32
    """Divides the width."""
    condition_width: int = 64
    """Width of the per-frame conditioning."""
    mlp_ratio: int = 4
    """Hidden width of the MLP over D."""
    backend: str = "auto"
    """What computes the layers: "auto", "torch", "native" or "mamba", see `backends`. It depends on the machine, so
    checkpoints do not hold it."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"The kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}.")
        if self.backend not in BACKENDS:
            raise ValueError(f"Scan backend {self.backend!r} does not exist; choose one of {', '.join(BACKENDS)}.")
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(f"blocks {self.blocks} must name a side of at least 1 for every layer.")
        scan, attention = KINDS[self.kind]
        if self.window < 1 and attention == "window":
            remedy = "use at least 1" if scan is None else "use kind 'ssm' for a scan without attention"
            raise ValueError(f"A window of {self.window} frames does not even show the own frame; {remedy}.")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What one chooses of a world model's architecture; the data decide the rest.

    Raises:
        ValueError: for token noise and shortcuts in one model.
    """

    grid: tuple[int, int] = (2, 2)
    """Tokens per frame (h, w); frames that they do not divide are padded inside the model (`padded_to`)."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Sizes of the layers."""
    shortcut: bool = False
    """Whether the network hears the number of denoising steps, and so can learn to take few (`training.shortcut`)."""
    noise_shift: float = 3.0
    """Shifts the noise levels of sampling towards noise, and those of training unless the objective has its own."""
    feature_size: int = 128
    """R, features that heads read, and policies among other things (`Memory.readout`)."""
    head_width: int = 256
    """Hidden width of heads and of the recall MLP."""
    token_noise: bool = False
    """Whether noise is drawn in token space: the same distribution as pixel noise after the embedding, from fewer
    draws."""

    reservoir: ReservoirConfig = field(default_factory=ReservoirConfig)
    """Of fixed features of all that was seen, beside the trained ones; policies then read these instead of sketches."""
    fast_weights: FastWeightsConfig = field(default_factory=FastWeightsConfig)
    """Of the associative memory that tells the denoiser what followed, when this happened before."""

    @property
    def features(self) -> int:
        """Numbers that heads read: `feature_size` and those of the reservoir."""
        return self.feature_size + self.reservoir.size

    def __post_init__(self) -> None:
        if self.token_noise and self.shortcut:
            raise ValueError(
                "Shortcut training needs the noise of pixels, which token_noise does not draw; use one of the two."
            )


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig(ModelConfig):
    """A world model for the frames, actions and vectors of some data.

    Raises:
        ValueError: for a grid or frames without tokens or pixels, blocks that do not divide the grid, a scale that is
            none, and as `ModelConfig`.
    """

    frame_shape: tuple[int, int, int]
    """(H, W, C) of the uint8 frames."""
    action_space: dict[str, Any]
    """As `lssvwm_rl.spaces.space_to_json` writes it."""
    vector_size: int = 0
    """V, numbers in the low-dimensional part of an observation; 0 for none."""
    reward_scale: float = 1.0
    """Rewards of the data that are one unit of the reward head, which tells them apart up to 147 units. Training learns
    it from the data where this one does not suit them (`training.reward_scale`); what the model says is in the rewards'
    own units, whatever it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(*self.grid, *self.frame_shape) < 1:
            raise ValueError(f"A grid {self.grid} of frames {self.frame_shape} is empty; use sides of at least 1.")
        for side in self.backbone.blocks if KINDS[self.backbone.kind].scan == "blocks" else ():
            h, w = self.grid
            if h % min(side, h) or w % min(side, w):
                raise ValueError(
                    f"A block ({side}, {side}) does not divide the token grid {self.grid}; choose a grid or blocks "
                    "that do, such as --model.grid 4 4."
                )
        if not 0 < self.reward_scale < math.inf:
            raise ValueError(f"reward_scale must be positive and finite, got {self.reward_scale}.")

    @property
    def padded_to(self) -> tuple[int, int]:
        """(H', W'), the least multiples of the grid's sides: frames get so large inside the model (`Patches`), and are
        of their own size again outside."""
        return padded_to(self.frame_shape[:2], self.grid)

    def to_json(self) -> str:
        """Strict JSON text; without the scan's backend, which depends on the machine."""
        plain = dataclasses.asdict(self)
        del plain["backbone"]["backend"]
        if not self.token_noise:  # so that checkpoints from before it keep their fingerprint
            del plain["token_noise"]
        if not self.reservoir.blocks:
            del plain["reservoir"]
        if not self.fast_weights.size:
            del plain["fast_weights"]
        if self.reward_scale == 1:
            del plain["reward_scale"]
        if self.padded_to != self.frame_shape[:2]:
            plain["padded_to"] = self.padded_to
        return json.dumps({"format_version": FORMAT_VERSION, **plain}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> WorldModelConfig:
        """Inverse of `to_json`; what format 1 said of training is left out.

        Raises:
            ValueError: if the text is not such a config.
        """
        try:
            d = json.loads(text)
            version = d.pop("format_version", 1)
            if version not in (1, FORMAT_VERSION):
                raise ValueError(f"format version {version}, this package reads 1 to {FORMAT_VERSION}")
            if version == 1:
                d = {RENAMED.get(name, name): value for name, value in d.items() if name not in TRAINING_FIELDS}
            old = [name for name in d if name in RENAMED]
            if old:
                raise ValueError(f"{old[0]} is now {RENAMED[old[0]]}")
            d["backbone"] = BackboneConfig(**{**d["backbone"], "blocks": tuple(d["backbone"]["blocks"])})
            if "reservoir" in d:
                sizes = d["reservoir"]
                lists = {name: tuple(sizes[name]) for name in ("blocks", "half_lives")}
                d["reservoir"] = ReservoirConfig(**{**sizes, **lists})
            if "fast_weights" in d:
                d["fast_weights"] = FastWeightsConfig(**d["fast_weights"])
            padded = d.pop("padded_to", None)
            config = cls(**{**d, "frame_shape": tuple(d["frame_shape"]), "grid": tuple(d["grid"])})
            if padded is not None and tuple(padded) != config.padded_to:
                raise ValueError(f"frames are padded to {padded}, which this package pads to {config.padded_to}")
            return config
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"This is not a world model's config ({error}).") from error


def padded_to(size: tuple[int, ...], grid: tuple[int, int]) -> tuple[int, int]:
    """The least multiples of the grid's sides (h, w) that are not below the sides of a frame (H, W)."""
    (H, W), (h, w) = size, grid
    return -(-H // h) * h, -(-W // w) * w


def attention_reach(config: BackboneConfig) -> int | None:
    """Frames, the own one included, that attention passes on through all layers; None if there is no limit."""
    attention = KINDS[config.kind].attention
    if attention == "window":
        return (config.window - 1) * len(config.blocks) + 1
    return None if attention == "all" else 1
