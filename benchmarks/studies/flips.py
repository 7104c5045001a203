"""How often does a dream change while nothing should? Over passes per frame and temperatures, on the same moments.

python benchmarks/studies/flips.py --data STORE --still-action 6 [--checkpoint minigrid-memory] [--moments 600]

Dreams begin at random moments of real episodes, follow the real actions for `--lead` steps and then repeat an action
that changes nothing. A moment counts as guessed if the led frames depend on the noise, in dreams of 4 passes and
temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from lssvwm_bench.figures import markdown_table
from lssvwm_rl.data.likeness import shares_off
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.measures.flips import CHANGED_ABOVE, StillDreams, Way, draw_moments, measure_flips
from lssvwm_rl.model.checkpoints import check_fits, load_engine

REFERENCE = (4, 1.0)  # passes and temperature of dreams by default


@dataclass(frozen=True)
class Args:
    """What is dreamt, and in which ways."""

    data: Path
    """Store of episodes that the checkpoint was not trained on."""
    still_action: int
    """A Discrete action that changes nothing in reality, 6 in MiniGrid."""
    checkpoint: str = "minigrid-memory"
    episodes: int = 300
    """At most so many, the last ones of the store."""
    moments: int = 600
    """At most so many, drawn from all."""
    lead: int = 1
    """Steps along the real actions."""
    still: int = 12
    """Steps with the action that changes nothing."""
    denoise_steps: tuple[int, ...] = (1, 2, 4, 8)
    """Network passes per frame, in the rows of the table."""
    temperatures: tuple[float, ...] = (1.0, 0.5, 0.0)
    """Times the noise, for each number of passes."""
    seeds: int = 8
    """That tell whether the led frames of a moment depend on the noise."""
    above: float = CHANGED_ABOVE
    """Share of pixels off by more than 32 of 255 that is a change."""
    seed: int = 0
    """Of the moments."""
    threads: int = 1


def main(args: Args) -> None:
    """Print the table.

    Raises:
        FileNotFoundError: if there is no such checkpoint or store.
        ValueError: if the store is another environment's, the action is none of its space, or numbers are out of range.
    """
    torch.set_num_threads(args.threads)
    store, engine = EpisodeStore(args.data), load_engine(args.checkpoint)
    check_fits(engine.model.config, store.header.frame_shape, store.header.action_space, str(args.data))
    space = store.header.action_space
    start = space.get("start", 0)
    if space["type"] != "Discrete" or not start <= args.still_action < start + space["n"]:
        raise ValueError(f"Action {args.still_action} is none of {space}; name a Discrete one that changes nothing.")
    episodes = [store[i] for i in range(max(0, len(store) - args.episodes), len(store))]
    moments = draw_moments(episodes, args.moments, args.lead, args.seed)
    settings = [REFERENCE]
    settings += [(n, t) for n in args.denoise_steps for t in args.temperatures if (n, t) != REFERENCE]
    found = measure_flips(
        [Way(engine, *setting) for setting in settings], episodes, moments, args.still_action, args.lead, args.still,
        args.seeds, args.above,
    )  # fmt: skip
    changed, times = real_changes(episodes, args.still_action, args.above)
    print(f"{args.checkpoint}, {args.data}: {len(moments)} moments of {len(episodes)} episodes, led by {args.lead}")
    print(f"In the data, action {args.still_action} changed the frame {changed} of {times} times.")
    print(flips_table(settings, found))


def real_changes(episodes: Sequence[Episode], action: int, above: float) -> tuple[int, int]:
    """How often an action changed the real frame, of how many times."""
    changed = [
        shares_off(episode.frames[1:][taken], episode.frames[:-1][taken]) > above
        for episode in episodes
        if (taken := episode.actions == action).any()
    ]
    return (int(np.concatenate(changed).sum()), len(np.concatenate(changed))) if changed else (0, 0)


def flips_table(settings: Sequence[tuple[int, float]], found: Sequence[StillDreams]) -> str:
    """Markdown, one row per number of passes and temperature; those of the reference in their place."""
    guessed = found[0].guessed
    groups = {"all": np.ones(len(guessed), bool), "guessed": guessed, "known": ~guessed}
    headings = [
        f"{name} ({chosen.sum()}): {what}" for name, chosen in groups.items() for what in ("flip", "per dream", "wrong")
    ]
    rows = []
    for (steps, temperature), dreams in sorted(zip(settings, found, strict=True), key=lambda e: (e[0][0], -e[0][1])):
        cells = []
        for chosen in groups.values():
            shares = dreams.shares(chosen) if chosen.any() else None
            cells += ["-"] * 3 if shares is None else [
                f"{shares['flip']:.1%}", f"{shares['flips']:.2f}", f"{shares['wrong']:.1%}"
            ]  # fmt: skip
        rows.append([f"{steps}", f"{temperature:g}", *cells])
    return markdown_table(["passes", "temperature", *headings], rows)


if __name__ == "__main__":
    main(tyro.cli(Args))
