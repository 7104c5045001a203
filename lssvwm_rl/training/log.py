"""The TensorBoard log of a run, with previews of dreams."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import scalar

from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.predict import dream_video
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.pictures import FPS, gif, write_video


def open_log(folder: Path, step: int) -> FileWriter:
    """TensorBoard events of a run that continues at `step`."""
    return FileWriter(str(folder), filename_suffix=f".{step}")


def log_scalars(log: FileWriter, values: Mapping[str, float], step: int) -> None:
    """One scalar per value."""
    for name, value in values.items():
        if name != "step":
            log.add_summary(scalar(f"train/{name}", value), step)


def log_preview(log: FileWriter, model: WorldModel, episode: Episode, step: int, folder: Path) -> None:
    """A video real | dreamt in TensorBoard, and as preview.mp4 in the run folder."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    context = min(8, len(episode) // 2 + 1)
    frames = dream_video(model, episode, context, len(episode.frames) - context, seed=0)
    image = Summary.Image(
        height=frames.shape[1], width=frames.shape[2], colorspace=3, encoded_image_string=gif(frames, FPS)
    )
    log.add_summary(Summary(value=[Summary.Value(tag="preview/real_and_dream", image=image)]), step)
    write_video(folder / "preview.mp4", frames)
