"""Two collectors that write to one store at a time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.data.verify import verify_store
from soak.kills import COLLECT
from soak.outcome import Outcome
from soak.processes import begin

EPISODES = 12


def soak_neighbours(stores: int, seed: int, folder: Path) -> Outcome:
    """Start two collectors on each of so many stores, the second up to 0.3 seconds after the first."""
    outcome, rng = Outcome("two `lssvwm collect` on one store"), np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(stores):
        out = folder / f"store-{number}"
        words = [*COLLECT, str(EPISODES), "--out", str(out)]
        texts = [folder / f"said-{number}-{k}" for k in range(2)]
        first = begin(words, texts[0])
        time.sleep(float(rng.uniform(0, 0.3)))
        second = begin(words, texts[1])
        codes = []
        for process in (first, second):
            process.join()
            codes.append(process.exitcode)
        outcome.tried += 1
        found = list(_wrong(out, codes, [path.read_text() if path.exists() else "" for path in texts]))
        outcome.wrong += [f"{out.name} {what}" for what in found]
        if not found:
            outcome.count("whole, one of them refused" if 2 in codes else "whole, one after the other")
    return outcome


def _wrong(out: Path, codes: list[int | None], said: list[str]) -> list[str]:
    wrong = list(verify_store(out).damaged)
    seeds = sorted(EpisodeStore(out).seeds.tolist())
    if seeds != list(range(EPISODES)):
        wrong.append(f"has the seeds {seeds}")
    if sorted(map(str, codes)) not in (["0", "0"], ["0", "2"]):
        wrong.append(f"was left with exit codes {codes}: {said}")
    for code, text in zip(codes, said, strict=True):
        sentences = [line for line in text.splitlines() if line.startswith("lssvwm collect:")]
        if code and (len(sentences) != 1 or "Another process is writing to the store" not in sentences[0]):
            wrong.append(f"was refused with {text!r}")
    return wrong
