"""A checkpoint as ONNX graphs that need neither this library nor PyTorch, compared with it before they are kept."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.error import DependencyNotInstalled
from torch import Tensor

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.files import check_new, write_text, written_whole
from lssvwm_rl.model.checkpoints import fingerprint, load_contexts
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.onnx_graphs import AFTER, SAID, Graph, example_action, graphs, memory_names
from lssvwm_rl.model.world_model import WorldModel

ABOUT = "lssvwm.json"
MEMORY = "memory.npz"  # of rows that have seen nothing
CONTEXT = "context.npz"  # real frames to begin with
FORMAT_VERSION = 1
NEEDED = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
CHECKED = 4  # real frames that are committed to compare with PyTorch; twice as many are dreamt
SHOWN = 8  # frames in `CONTEXT`
GREY_LEVELS = 1  # by which frames may differ, as those of engines do
LARGEST = 1e-3  # difference of other numbers, as a share of the largest of its tensor, or of 1 if that is less
LOOP = (
    "memory = the arrays of memory.npz, by name; every graph also gives the next memory, each tensor with 'after.' "
    "before its name.",
    "A real frame: commit(memory, action, frame[, vector]); action is the one that led into the frame, of a first "
    "frame it is ignored.",
    "A dreamt frame: step(memory, action, noise); noise is standard normal, of its shape, new for every frame. The "
    "memory after it holds the frame already.",
    "terminated is the probability that the episode ends with the frame; rewards[:, 0] is the reward if it goes on, "
    "rewards[:, 1] if it ended. doubt is how far the last pass moved the frame.",
)


@dataclass(frozen=True)
class Differences:
    """The largest ones between ONNX Runtime and PyTorch."""

    grey_levels: int
    """Of frames."""
    relative: float
    """Of all other numbers, see `LARGEST`; where the frames are the same, since another frame leaves another memory."""
    where: str
    """Output that has it."""


def export_onnx(
    checkpoint: str | Path,
    out: Path,
    batch_size: int = 1,
    denoise_steps: int = 4,
    show: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Differences:
    """Write step.onnx, commit.onnx, `ABOUT`, `MEMORY` and, of checkpoints with episodes, `CONTEXT` to a new folder.

    Args:
        batch_size: rows B of all tensors.
        denoise_steps: passes of a dreamt frame.
        show: is called with what is done, of how much, and what comes next.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: as `graphs`; or if ONNX Runtime computes something else than PyTorch, and then nothing is written.
        gymnasium.error.DependencyNotInstalled: if one of `NEEDED` is missing.
    """
    check_new(out)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise DependencyNotInstalled(
            f"ONNX graphs need {', '.join(missing)}; install with `pip install lssvwm-rl[onnx]`."
        )
    model = WorldModel.from_pretrained(checkpoint, backend="torch").requires_grad_(False)
    made = graphs(model, batch_size, denoise_steps)
    context = _context(checkpoint, bool(model.config.vector_size))
    with written_whole(out) as partial:
        partial.mkdir()
        for i, (name, graph) in enumerate(made.items()):
            show(i, len(made) + 1, f"tracing {name}")
            _write(graph, partial / f"{name}.onnx")
        show(len(made), len(made) + 1, "comparing with PyTorch")
        found = compare(model, made, partial, context, batch_size, denoise_steps)
        if found.grey_levels > GREY_LEVELS or not found.relative <= LARGEST:
            raise ValueError(
                f"ONNX Runtime differs from PyTorch by {found.grey_levels} grey levels and {found.relative:.1e} "
                f"({found.where}), more than {GREY_LEVELS} and {LARGEST}; nothing was written: use another version of "
                "onnxruntime or torch."
            )
        memory = model.initial_memory(batch_size).tensors()
        _save(partial / MEMORY, {name: memory[name].numpy() for name in memory_names_of(made)})
        if context:
            _save(partial / CONTEXT, context)
        write_text(partial / ABOUT, json.dumps(_about(model, made, found, batch_size, denoise_steps), indent=1))
        show(len(made) + 1, len(made) + 1, "")
    return found


def memory_names_of(made: Mapping[str, Graph]) -> list[str]:
    """The memory's tensors, in the order in which the graphs take them."""
    return [name.removeprefix(AFTER) for name in made["step"].outputs if name.startswith(AFTER)]


def compare(
    model: WorldModel,
    made: Mapping[str, Graph],
    folder: Path,
    context: Mapping[str, np.ndarray],
    batch_size: int,
    denoise_steps: int,
) -> Differences:
    """Commit real frames, then dream, each time from PyTorch's memory, by the graphs in a folder and by
    `WorldModel.observe` and `WorldModel.imagine`, of which the graphs have nothing but the weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        for name in made
    }
    memory, found = model.initial_memory(batch_size), Differences(0, 0.0, "")
    rng, config = np.random.default_rng(0), model.config
    generators = [torch.Generator().manual_seed(i) for i in range(batch_size)]
    for t in range(3 * CHECKED):
        before, name = memory, "commit" if t < CHECKED else "step"
        feed, action = _known(before), example_action(config, batch_size, t)
        if name == "commit":
            feed |= _frame(model, context, t, batch_size, rng)
            vector = feed.get("vector")
            vectors = None if vector is None else vector[:, None]
            memory, said = model.observe(before, feed["frame"][:, None], action[:, None], vectors)
            expected: dict[str, Tensor] = {"rewards": said.rewards[:, 0], "terminated": said.terminated[:, 0]}
        else:
            noise = model.draw_noise(generators)
            feed["noise"] = noise
            dreamt = model.imagine(before, action, noise, denoise_steps)
            memory = dreamt.memory
            expected = {part: getattr(dreamt, part) for part in ("frame", *SAID)}
            expected |= {} if dreamt.vector is None else {"vector": dreamt.vector}
        expected |= {AFTER + n: tensor for n, tensor in _known(memory).items()}
        arrays = {n: tensor.numpy() for n, tensor in {**feed, "action": action}.items()}
        results = dict(zip(made[name].outputs, sessions[name].run(made[name].outputs, arrays), strict=True))
        found = _larger(found, expected, results)
    return found


def _known(memory: Memory) -> dict[str, Tensor]:
    tensors = memory.tensors()
    return {name: tensors[name] for name in memory_names(memory)}


def _larger(found: Differences, expected: Mapping[str, Tensor], results: Mapping[str, Any]) -> Differences:
    """What was found so far, or what is larger; the frame is the first output that there is."""
    for name, tensor in expected.items():
        ours, theirs = tensor.numpy().astype(np.float64), results[name].astype(np.float64)
        if ours.shape != theirs.shape:
            raise ValueError(f"ONNX Runtime gives {name} as {theirs.shape}, PyTorch as {ours.shape}; export it anew.")
        difference = float(np.abs(ours - theirs).max())
        if name == "frame":
            found = Differences(max(found.grey_levels, int(difference)), found.relative, found.where)
            if difference:
                return found
            continue
        relative = difference / max(1.0, float(np.abs(ours).max()))
        if not relative <= found.relative:  # also where it is no number
            found = Differences(found.grey_levels, relative, name)
    return found


def _frame(
    model: WorldModel, context: Mapping[str, np.ndarray], t: int, batch_size: int, rng: np.random.Generator
) -> dict[str, Tensor]:
    """A real frame for all rows, and its vector; frames of noise where there is none."""
    config = model.config
    if context:
        frames = context["frames"]
        parts = {"frame": frames[t % len(frames)]}
        parts |= {"vector": context["vectors"][t % len(frames)]} if config.vector_size else {}
    else:
        parts = {"frame": rng.integers(0, 256, config.frame_shape, np.uint8)}
        parts |= {"vector": rng.random(config.vector_size, np.float32)} if config.vector_size else {}
    return {name: torch.from_numpy(part).repeat(batch_size, *[1] * part.ndim) for name, part in parts.items()}


def _context(checkpoint: str | Path, with_vectors: bool) -> dict[str, np.ndarray]:
    """The first frames (T, H, W, C) of the longest of a checkpoint's episodes, actions (T[, A]) before each, and
    vectors (T, V) if wanted; nothing if it has none."""
    try:
        contexts = load_contexts(checkpoint)
    except ValueError:
        return {}
    longest = int(np.argmax(contexts.lengths))
    episode = contexts.read(longest, 0, min(SHOWN, int(contexts.lengths[longest]) + 1))
    batch = clip_batch([episode], len(episode.frames))
    vectors = {"vectors": batch.vectors[0].numpy()} if with_vectors and batch.vectors is not None else {}
    return {"frames": batch.frames[0].numpy(), "actions": batch.actions[0].numpy(), **vectors}


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    np.savez_compressed(path, allow_pickle=False, **dict(arrays))  # type: ignore[arg-type]  # names are no options


def _write(graph: Graph, path: Path) -> None:
    with _quietly(), torch.no_grad():
        torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter warns of packages and of parts of PyTorch that do not matter here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _about(
    model: WorldModel, made: Mapping[str, Graph], found: Differences, batch_size: int, denoise_steps: int
) -> dict[str, Any]:
    shapes = {name: tensor for graph in made.values() for name, tensor in graph.inputs.items()}
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint(model),
        "batch_size": batch_size,
        "denoise_steps": denoise_steps,
        "frame_shape": list(model.config.frame_shape),
        "action_space": model.config.action_space,
        "vector_size": model.config.vector_size,
        "inputs": {
            name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in shapes.items()
        },
        "memory": memory_names_of(made),
        "graphs": {
            name: {"file": f"{name}.onnx", "inputs": list(graph.inputs), "outputs": list(graph.outputs)}
            for name, graph in made.items()
        },
        "loop": list(LOOP),
        "differences": {"grey_levels": found.grey_levels, "relative": found.relative, "output": found.where},
        "model": json.loads(model.config.to_json()),
    }
