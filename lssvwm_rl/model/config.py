"""WorldModelConfig: what a checkpoint's config.json holds."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from lssvwm_rl.model.backbone import BackboneConfig
from lssvwm_rl.training.objective import OBJECTIVES

FORMAT_VERSION = 1


@dataclass(frozen=True)
class WorldModelConfig:
    """What a checkpoint's config.json holds.

    Attributes:
        frame_shape: (H, W, C) of the uint8 frames.
        action_space: as `lssvwm_rl.spaces.space_to_json` writes it.
        vector_size: numbers in the low-dimensional part of an observation, 0 for none.
        grid: tokens per frame (h, w); each divides its side of the frame.
        backbone: sizes of the layers.
        objective: "two_stream", "prefix", or "mix" for either by turns (how clips are noised; the weights fit all).
        shortcut: whether the network is told the number of denoising steps, and learns to take few (`shortcut`).
        noise_shift: shifts noise levels towards noise, in training and sampling.
        rarity_power: rare colours weigh more in the frame losses, see `diffusion.rarity_weight`; 0 for equal weights.
        context_noise: half of the clips have a clean stream that is noised up to this level, and told so.
        feature_size: R, features that heads read, and policies among other things (`Memory.readout`).
        head_width: hidden width of heads and of the recall MLP.
        reward_weight, continuation_weight, vector_weight, recall_weight: of the losses beside the frame's.
        recall_pairs: (later, earlier) frames per clip that the recall loss draws.
    """

    frame_shape: tuple[int, int, int]
    action_space: dict[str, Any]
    vector_size: int = 0
    grid: tuple[int, int] = (2, 2)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    objective: str = "two_stream"
    shortcut: bool = False
    noise_shift: float = 3.0
    rarity_power: float = 0.75
    context_noise: float = 0.1
    feature_size: int = 128
    head_width: int = 256
    reward_weight: float = 1.0
    continuation_weight: float = 1.0
    vector_weight: float = 1.0
    recall_weight: float = 4.0
    recall_pairs: int = 16

    def __post_init__(self) -> None:
        (H, W, _), (h, w) = self.frame_shape, self.grid
        if H % h or W % w:
            raise ValueError(f"The token grid {self.grid} does not divide frames of {H}x{W}; choose a divisor.")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"Objective {self.objective!r} is unknown; use one of {', '.join(OBJECTIVES)}.")
        if self.shortcut and self.objective == "prefix":
            raise ValueError("Shortcut training needs a clean stream; use the objective two_stream or mix, not prefix.")

    def to_json(self) -> str:
        """Strict JSON text; without the scan's backend, which is the machine's affair."""
        plain = dataclasses.asdict(self)
        del plain["backbone"]["backend"]
        return json.dumps({"format_version": FORMAT_VERSION, **plain}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> WorldModelConfig:
        """Inverse of `to_json`.

        Raises:
            ValueError: if the text is not such a config.
        """
        try:
            d = json.loads(text)
            version = d.pop("format_version", 1)
            if version != FORMAT_VERSION:
                raise ValueError(f"format version {version}, this package reads {FORMAT_VERSION}")
            if "readout_size" in d:  # its name until 0.1
                d["feature_size"] = d.pop("readout_size")
            d["backbone"] = BackboneConfig(**{**d["backbone"], "blocks": tuple(d["backbone"]["blocks"])})
            return cls(**{**d, "frame_shape": tuple(d["frame_shape"]), "grid": tuple(d["grid"])})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"This is not a world model's config ({error}).") from error
