"""How much an update computes: what its speed is compared with the machine's by."""

from __future__ import annotations

from statistics import mean

from torch import nn

from lssvwm_rl.model.config import KINDS
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import two_stream
from lssvwm_rl.training.objective import OBJECTIVES, ObjectiveConfig


def update_flops(model: WorldModel, objective: ObjectiveConfig, clips: int, span: int) -> float:
    """Floating-point operations of an update on so many clips of `span` frames, forward and backward.

    An estimate by parameters and tokens, whatever computes them: passes that a shortcut's targets take, and layers that
    run again to save memory, do not count.
    """
    (h, w), layers = model.config.grid, model.backbone.layers
    tokens = h * w
    streams = mean(2 if way is two_stream.noised else 1 for way in OBJECTIVES[objective.name])
    condition = sum(_weights(module) for name, module in layers.named_modules() if name.endswith("modulation"))
    per_token = _weights(layers) - condition + _mixing(model, span)
    pixels, hidden = _weights(model.patch_in), _weights(model.token_features)
    heads = _weights(model) - _weights(layers) - _weights(model.recall) - 2 * pixels - hidden
    # Frames and noise are both embedded; what is embedded needs no gradient, so that two thirds are left.
    embedding = 2 * pixels * 2 / 3
    frame = streams * (tokens * per_token + condition) + tokens * (embedding + pixels + hidden) + heads
    pairs = clips * objective.recall_pairs if objective.recall_weight else 0
    narrow = _weights(model.recall.narrow_in) + _weights(model.recall.narrow_out)
    recall = tokens * (2 * pixels + narrow) + _weights(model.recall.mlp)
    return 6 * (clips * span * frame + pairs * recall)


def _mixing(model: WorldModel, span: int) -> float:
    """Products per token that have no weights, all layers: of attention with its keys, of scans with their states."""
    (h, w), sizes = model.config.grid, model.config.backbone
    scan, attention = KINDS[sizes.kind]
    frames = {"window": min(sizes.window, span), "all": (span + 1) / 2, None: 0}[attention]
    state = 2 * sizes.state_size * sizes.expand * sizes.width if scan else 0
    return len(sizes.blocks) * (2 * sizes.width * h * w * frames + state)


def _weights(module: nn.Module) -> int:
    """Numbers in the matrices of a module's linear layers."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))
