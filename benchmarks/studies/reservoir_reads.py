"""How well does an untrained reservoir tell what must be remembered? A small network on what it reads at last frames.

    python benchmarks/studies/reservoir_reads.py --data data/memory-s7 [--reservoir.blocks 2 8 --grid 8 8]

No world model is trained: the reservoir is fitted to the store, takes in whole episodes, and an MLP of one layer learns
from what is read at their last frames whether the last reward is above zero. Prints the balanced accuracy (0.5 is
chance) on every sixth episode after 100 and 400 updates, mean and spread over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.reservoir import ReservoirConfig
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.fit import fit_fixed
from lssvwm_rl.training.presets import model_config

GROUP = 50  # episodes at a time
UPDATES = (100, 400)


@dataclass(frozen=True)
class Args:
    """What is read, of what."""

    data: Path
    episodes: int = 2000
    seeds: int = 4
    grid: tuple[int, int] = (2, 2)
    reservoir: ReservoirConfig = field(default_factory=lambda: ReservoirConfig(blocks=(1, 2)))


def read_last(args: Args) -> tuple[Tensor, Tensor]:
    """What is read at the last frame (episodes, size), and whether its reward is above zero (episodes,)."""
    store = EpisodeStore(args.data)
    count = min(args.episodes, len(store))
    model = WorldModel(model_config("tiny", store.header, grid=args.grid, reservoir=args.reservoir))
    fit_fixed(model, store, range(count))
    reservoir, reads, paid = model.recollection.reservoir, [], []
    assert reservoir is not None
    for start in range(0, count, GROUP):
        episodes = [store[i] for i in range(start, min(start + GROUP, count))]
        batch = clip_batch(episodes, max(len(e) for e in episodes) + 1)
        read, _ = reservoir(model.patches.from_frames(batch.frames), reservoir.initial_state(len(episodes)))
        reads.append(read[torch.arange(len(episodes)), batch.mask.sum(dim=1) - 1])
        paid += [float(e.rewards[-1] > 0) for e in episodes]
    return torch.cat(reads), torch.tensor(paid)


def accuracies(reads: Tensor, paid: Tensor, seed: int) -> list[float]:
    """Balanced, on every sixth episode, after each of UPDATES."""
    torch.manual_seed(seed)
    test = torch.arange(len(reads)) % 6 == 0
    known, answers = reads[~test], paid[~test]
    net = nn.Sequential(nn.Linear(reads.shape[1], 192), nn.SiLU(), nn.Linear(192, 1))
    optimizer, found = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.1), []
    share = answers.mean()
    weigh = torch.where(answers > 0, 0.5 / share, 0.5 / (1 - share))
    for update in range(1, UPDATES[-1] + 1):
        rows = torch.randint(0, len(known), (256,))
        loss = F.binary_cross_entropy_with_logits(net(known[rows])[:, 0], answers[rows], weigh[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update in UPDATES:
            right = ((net(reads[test])[:, 0] > 0).float() == paid[test]).float()
            found.append(float((right[paid[test] > 0].mean() + right[paid[test] == 0].mean()) / 2))
    return found


def main(args: Args) -> None:
    """Print the accuracies."""
    reads, paid = read_last(args)
    found = torch.tensor([accuracies(reads, paid, seed) for seed in range(args.seeds)])
    for updates, column in zip(UPDATES, found.T, strict=True):
        print(f"{updates} updates: {column.mean():.3f} ({column.min():.3f} to {column.max():.3f})")


if __name__ == "__main__":
    main(tyro.cli(Args))
