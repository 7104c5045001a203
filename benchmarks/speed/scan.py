"""Our scans against transformers' Mamba-2 in plain PyTorch and against a naive loop, alone and as a mixer.

    python benchmarks/speed/scan.py [--length 512] [--batch 16]

Mixers have the same width, heads, head size, state and chunk; both run forward and backward. transformers' one has a
short convolution besides, which is a small part of its time. What is compared alternates, since the machine's speed
drifts; times are the shortest of several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import tyro
from torch import Tensor

from lssvwm_bench.stopwatch import seconds_of
from lssvwm_bench.workload import stepwise_scan
from lssvwm_rl.model.scan import ssd
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.scan.ssd import CHUNK_SIZE
from lssvwm_rl.native import scan_functions
from lssvwm_rl.native.library import kernels_for


@dataclass(frozen=True)
class Args:
    """Sizes of the comparison."""

    batch: int = 16
    length: int = 512
    width: int = 128
    head_size: int = 32
    state_size: int = 32
    repeats: int = 5
    threads: int = 2


def best_seconds(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Shortest time of each, after one run of each to warm up."""
    for run in runs.values():
        run()
    rounds = [{name: seconds_of(run) for name, run in runs.items()} for _ in range(repeats)]
    return {name: min(times[name] for times in rounds) for name in runs}


def main(args: Args) -> None:
    """Print times and ratios."""
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    Z, L, N, P = args.batch, args.length, args.state_size, args.head_size
    H = 2 * args.width // P
    x, dt = torch.randn(Z, L, H, P, requires_grad=True), torch.rand(Z, L, H)
    A, B, C, state = -torch.rand(H), torch.randn(Z, L, N), torch.randn(Z, L, N), torch.zeros(Z, H, P, N)

    def reference() -> Tensor:
        result = mamba2_chunk_scan(x, dt, A, B[:, :, None], C[:, :, None], CHUNK_SIZE)
        return result[0] if isinstance(result, tuple) else result

    torch.testing.assert_close(reference().float(), ssd.chunked_scan(x, dt, A, B, C, state)[0], rtol=1e-3, atol=1e-3)

    inputs = (x, dt, A, B, C, state)
    runs: dict[str, Callable[[], object]] = {
        "transformers": lambda: reference().sum().backward(),
        "naive loop": lambda: stepwise_scan(*inputs)[0].sum().backward(),
        "torch": lambda: ssd.chunked_scan(*inputs)[0].sum().backward(),
    }
    kernels = kernels_for(*inputs)
    if kernels is not None:
        runs["native"] = lambda: scan_functions.chunked_scan(kernels, *inputs)[0].sum().backward()
    print(f"{Z} sequences of {L} tokens, {H} heads of {P}, state {N}, {args.threads} threads, forward and backward")
    show("scan", best_seconds(runs, args.repeats))
    show("mixer", best_seconds(mixers(args), args.repeats))


def mixers(args: Args) -> dict[str, Callable[[], object]]:
    """Forward and backward of whole mixers."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    N, P = args.state_size, args.head_size
    config = Mamba2Config(
        hidden_size=args.width, num_heads=2 * args.width // P, head_dim=P, state_size=N, n_groups=1, expand=2,
        chunk_size=CHUNK_SIZE,
    )  # fmt: skip
    theirs = Mamba2Mixer(config, layer_idx=0)
    tokens = torch.randn(args.batch, args.length, args.width, requires_grad=True)
    frames = tokens.view(args.batch, args.length, 1, 1, 1, args.width)
    runs: dict[str, Callable[[], object]] = {"transformers": lambda: theirs(tokens).sum().backward()}
    for backend in ("torch", "native"):
        ours = BlockScan(args.width, (1, 1), (1, 1), N, P, expand=2, backend=backend)
        runs[backend] = partial(both_ways, ours, frames)
    return runs


def both_ways(mixer: BlockScan, frames: Tensor) -> None:
    """Forward and backward from an empty state."""
    mixer(frames, mixer.initial_state(len(frames)))[0].sum().backward()


def show(what: str, seconds: dict[str, float]) -> None:
    """A line for each of ours, with its ratios."""
    for name in ("torch", "native"):
        if name in seconds:
            ours = seconds[name]
            others = (f"{other} {s * 1e3:8.1f} ms, {s / ours:5.1f} x" for other, s in seconds.items() if other != name)
            print(f"{what:6} {name:6} {ours * 1e3:8.1f} ms   " + "   ".join(others))


if __name__ == "__main__":
    main(tyro.cli(Args))
