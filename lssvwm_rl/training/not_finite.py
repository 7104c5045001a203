"""What a training leaves behind when its numbers are no longer finite, for study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.files import written_whole
from lssvwm_rl.model.checkpoint_files import WEIGHTS
from lssvwm_rl.model.checkpoint_tensors import save_tensors

IN_A_ROW = 3
"""Updates without finite numbers that end a training: of one, the batch may be the reason."""
FOLDER = "not_finite"  # in a run's trainer folder


def study_folder(out: Path) -> Path:
    """Where in a run the last batch, batch-SHARE.safetensors, and the trainer's state, state.pt, are kept."""
    return out / "trainer" / FOLDER


def save_batch(out: Path, share: int, batch: Batch) -> None:
    """Write the clips of a share of a batch as tensors "frames", "actions" and so on, those of what came before the
    clips as "before.frames" and so on."""
    with written_whole(study_folder(out) / f"batch-{share}.safetensors") as path:
        save_tensors(_flat(vars(batch)), path)


def sentence(out: Path, step: int, loss: float, norm: float) -> str:
    """What happened, where it can be studied, and how to go on."""
    what = f"loss is {loss:.4g}" if not math.isfinite(loss) else f"gradient's norm is {norm:.4g}"
    folder = study_folder(out)
    kept = f"The {what} at step {step}, as in the {IN_A_ROW - 1} updates before; {folder} has the batch and the state"
    if (out / WEIGHTS).is_file():
        return (
            f"{kept}, {out} its last checkpoint: go on from that with `--weights {out}`, a lower learning rate and "
            "another --out."
        )
    return f"{kept}: look for extreme numbers in the data, or train with a lower learning rate and another --out."


def _flat(parts: Mapping[str, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, part in parts.items():
        if isinstance(part, Tensor):
            found[name] = part
        elif part is not None:
            found |= {f"{name}.{inner}": tensor for inner, tensor in _flat(part._asdict()).items()}
    return found
