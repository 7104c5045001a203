"""What does the memory know? Probes read the maze and where its objects are from the memory's features, after the
offline probing benchmark of Memory Maze (Pasukonis et al. 2022)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.model.predict import observe_batch
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Update

HIDDEN = ("maze_layout", "targets_pos", "agent_pos", "agent_dir")  # what a trial has to tell
# Names of features that no model reads: all that is hidden, and the agent's place alone, which is no memory of the maze
# but tells which way its middle is.
PRIVILEGED, POSE = "privileged", "pose alone"
POINTS = 25  # of the curves over time


@dataclass(frozen=True)
class ProbeConfig:
    """How probes are trained."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the MLP's hidden layers."""
    updates: int = 5000
    """At most."""
    check: int = 100
    """Updates between looks at held-out worlds."""
    patience: int = 10
    """Looks without an improvement, after which the best state is taken."""
    batch: int = 512
    """Frames per update."""
    learning_rate: float = 1e-3
    """Adam's."""
    seed: int = 0
    """Decides weights and batches."""


@dataclass(frozen=True)
class Subject:
    """A world model whose features are probed; it is given the vectors made of these keys, if it has any."""

    name: str
    model: WorldModel
    vector_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probed:
    """E episodes of T frames, as probes need them."""

    features: dict[str, Tensor]
    """Name of a subject, POSE or PRIVILEGED -> (E, T, F) float32."""
    layout: Tensor
    """(E, T, n * n) float32, 1 floor, 0 wall."""
    objects: Tensor
    """(E, T, 2 * K) float32, see `agent_centric`."""


@dataclass(frozen=True)
class ProbeReport:
    """What was measured, and what the first subject's MLP reads in the first test episode."""

    rows: list[dict[str, Any]]
    """JSON values: "features", "probe", "accuracy", "accuracy_error", "distance", "distance_error" (the "_error" ones
    are standard errors over test worlds) and "over_time", a list of {"frame", "accuracy", "distance"}."""
    layout: np.ndarray
    """(T, n, n) float32, probability of floor."""
    objects: np.ndarray
    """(T, K, 2) float32, see `agent_centric`."""


def agent_centric(targets: np.ndarray, position: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Where things are, as an agent at `position` that looks into `direction` sees them.

    Args:
        targets: (..., K, 2), x and y in cells, y down.
        position: (..., 2).
        direction: (..., 2), unit vectors.

    Returns:
        (..., K, 2) float32: cells ahead, and cells to the right.
    """
    offset, direction = targets - position[..., None, :], direction[..., None, :]
    ahead = offset[..., 0] * direction[..., 0] + offset[..., 1] * direction[..., 1]
    right = offset[..., 1] * direction[..., 0] - offset[..., 0] * direction[..., 1]
    return np.stack([ahead, right], axis=-1).astype(np.float32)


def read_memory(subject: Subject, trials: Sequence[Trial]) -> Tensor:
    """The features (B, T, R) float32 at every frame of trials of one length, each observed from an empty memory.

    Raises:
        ValueError: if frames, actions or vectors are not the model's.
    """
    batch = clip_batch([trial.episode for trial in trials], len(trials[0].episode.frames))
    vectors = _vectors(subject, trials) if subject.model.config.vector_size else None
    _, prediction = observe_batch(subject.model, replace(batch, vectors=vectors))
    return prediction.features.cpu()


def prepare(groups: Iterable[Sequence[Trial]], subjects: Sequence[Subject]) -> Probed:
    """Let every subject observe trials of one length; a group is observed side by side, and then forgotten.

    Raises:
        ValueError: if the trials do not tell what is hidden, or do not fit a subject.
    """
    features: dict[str, list[Tensor]] = {name: [] for name in (*(s.name for s in subjects), POSE, PRIVILEGED)}
    layouts, objects = [], []
    for trials in groups:
        hidden = {key: np.stack([hidden_values(trial, key) for trial in trials]) for key in HIDDEN}
        E, T = hidden["maze_layout"].shape[:2]
        flat = [torch.from_numpy(hidden[key].reshape(E, T, -1).astype(np.float32)) for key in HIDDEN]
        for subject in subjects:
            features[subject.name].append(read_memory(subject, trials))
        features[POSE].append(torch.cat(flat[2:], dim=2))
        features[PRIVILEGED].append(torch.cat(flat, dim=2))
        layouts.append(flat[0])
        seen = agent_centric(hidden["targets_pos"], hidden["agent_pos"], hidden["agent_dir"])
        objects.append(torch.from_numpy(seen).flatten(2))
    return Probed({name: torch.cat(parts) for name, parts in features.items()}, torch.cat(layouts), torch.cat(objects))


class Probe(nn.Module):
    """A network on standardised features that begins as the best constant: (..., F) -> (..., G), logits if binary."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: Tensor, targets: Tensor, binary: bool, hidden: Sequence[int]):
        super().__init__()
        mean, spread = features.mean(dim=0), features.std(dim=0)
        self.register_buffer("mean", mean)
        # What never changes tells nothing, and must not blow up where it changes after all.
        self.register_buffer("scale", torch.where(spread > 1e-4, 1 / spread, 0.0))
        widths = [features.shape[1], *hidden]
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(before, after), nn.ReLU()]
        last = nn.Linear(widths[-1], targets.shape[1])
        nn.init.zeros_(last.weight)
        level = targets.mean(dim=0)
        with torch.no_grad():
            last.bias.copy_(torch.logit(level, eps=1e-4) if binary else level)
        self.binary, self.layers = binary, nn.Sequential(*layers, last)

    def forward(self, features: Tensor) -> Tensor:
        """(..., F) -> (..., G)."""
        return self.layers((features - self.mean) * self.scale)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy or squared error, a scalar."""
        error = F.binary_cross_entropy_with_logits if self.binary else F.mse_loss
        return error(self(features), targets)


def fit_probe(features: Tensor, targets: Tensor, binary: bool, hidden: Sequence[int], config: ProbeConfig) -> Probe:
    """Train a probe with Adam; every tenth episode is held out and decides when to stop.

    Args:
        features: (E, T, F) float32.
        targets: (E, T, G) float32, in {0, 1} if `binary`.
        hidden: widths of the hidden layers; none make it linear.

    Raises:
        ValueError: for fewer than two episodes.
    """
    if len(features) < 2:
        raise ValueError(f"Probes need at least 2 episodes, one of them held out, got {len(features)}; play more.")
    held = torch.zeros(len(features), dtype=torch.bool)
    held[range(min(9, len(features) - 1), len(features), 10)] = True
    x, y, held_x, held_y = (t[rows].flatten(0, 1) for rows in (~held, held) for t in (features, targets))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        probe = Probe(x, y, binary, hidden)
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(probe.parameters(), lr=config.learning_rate)
    best, best_loss, waited = copy.deepcopy(probe.state_dict()), _mean_loss(probe, held_x, held_y), 0
    for update in range(1, config.updates + 1):
        rows = torch.randint(len(x), (config.batch,), generator=generator)
        optimizer.zero_grad()
        probe.loss(x[rows], y[rows]).backward()
        optimizer.step()
        if update % config.check and update != config.updates:
            continue
        loss = _mean_loss(probe, held_x, held_y)
        waited = 0 if loss < best_loss else waited + 1
        if loss < best_loss:
            best, best_loss = copy.deepcopy(probe.state_dict()), loss
        if waited == config.patience:
            break
    probe.load_state_dict(best)
    return probe.eval()


def probe_features(
    fit: Probed, test: Probed, config: ProbeConfig | None = None, progress: Update | None = None
) -> ProbeReport:
    """Train linear and MLP probes of all features on some worlds and test them on others.

    Scores are means over the second half of the test episodes, when there has been time to see the maze. "accuracy" is
    the share of the layout's cells that are read right, "distance" the mean distance in cells between where an object
    is, seen from the agent, and where the probe reads it.

    Raises:
        ValueError: for fewer than two episodes to fit on.
    """
    config = config or ProbeConfig()
    E, T = test.layout.shape[:2]
    constant = (fit.layout.mean(dim=(0, 1)) >= 0.5).float(), fit.objects.mean(dim=(0, 1))
    rows = [_scores("constant", "", test, *(c.expand(E, T, -1) for c in constant))]
    pictures = None
    for name, inputs in fit.features.items():
        for kind, hidden in (("linear", ()), ("MLP", config.hidden)):
            if progress is not None:
                progress(len(rows) - 1, 2 * len(fit.features), f"{name}: {kind}")
            walls = fit_probe(inputs, fit.layout, True, hidden, config)
            places = fit_probe(inputs, fit.objects, False, hidden, config)
            with torch.no_grad():
                layout, objects = walls(test.features[name]).sigmoid(), places(test.features[name])
            rows.append(_scores(name, kind, test, layout, objects))
            if pictures is None and kind == "MLP":
                pictures = layout[0], objects[0]
    assert pictures is not None
    n = math.isqrt(test.layout.shape[2])
    return ProbeReport(rows, pictures[0].view(T, n, n).numpy(), pictures[1].view(T, -1, 2).numpy())


def hidden_values(trial: Trial, key: str) -> np.ndarray:
    """What a trial's environment hid from the agent under a key, (T, ...).

    Raises:
        ValueError: if it did not say.
    """
    if key not in trial.hidden:
        known = ", ".join(sorted(trial.hidden)) or "nothing"
        raise ValueError(
            f"The environment does not tell {key!r}, only {known}; probe a maze, lssvwm/MemoryMaze-9x9-v0."
        )
    return trial.hidden[key]


def _vectors(subject: Subject, trials: Sequence[Trial]) -> Tensor:
    """(B, T, V) float32."""
    frames = len(trials[0].episode.frames)
    parts = [
        np.concatenate(
            [np.zeros((frames, 0)), *(hidden_values(t, k).reshape(frames, -1) for k in subject.vector_keys)], axis=1
        )
        for t in trials
    ]
    vectors = torch.from_numpy(np.stack(parts).astype(np.float32))
    size = subject.model.config.vector_size
    if vectors.shape[2] != size:
        keys = ", ".join(subject.vector_keys) or "no vectors"
        raise ValueError(
            f"{subject.name} takes vectors of {size} numbers, but {keys} make {vectors.shape[2]}; probe it in the "
            "environment it was trained on."
        )
    return vectors


@torch.no_grad()
def _mean_loss(probe: Probe, x: Tensor, y: Tensor) -> float:
    parts = zip(x.split(8192), y.split(8192), strict=True)
    return sum(float(probe.loss(a, b)) * len(a) for a, b in parts) / len(x)


def _scores(features: str, kind: str, test: Probed, layout: Tensor, objects: Tensor) -> dict[str, Any]:
    """A row of `ProbeReport`, of probabilities (E, T, n * n) and places (E, T, 2 * K)."""
    E, T = layout.shape[:2]
    accuracy = ((layout >= 0.5) == (test.layout >= 0.5)).float().mean(dim=2)
    distance = (objects - test.objects).view(E, T, -1, 2).norm(dim=3).mean(dim=2)
    row: dict[str, Any] = {"features": features, "probe": kind}
    for name, values in (("accuracy", accuracy), ("distance", distance)):
        late = values[:, T // 2 :].mean(dim=1)
        row[name] = float(late.mean())
        row[f"{name}_error"] = float(late.std() / E**0.5) if E > 1 else 0.0
    row["over_time"] = [
        {
            "frame": float(frames.mean()),
            "accuracy": float(accuracy[:, frames].mean()),
            "distance": float(distance[:, frames].mean()),
        }
        for frames in np.array_split(np.arange(T), min(POINTS, T))
    ]
    return row
