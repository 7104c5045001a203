"""The chunked scan against transformers' Mamba-2 in plain PyTorch and against a naive loop, alone and as a mixer.

    python benchmarks/speed/scan.py [--length 512] [--batch 16]

Mixers have the same width, heads, head size, state and chunk; both run forward and backward. transformers' one has a
short convolution besides, which is a small part of its time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

from lssvwm_bench.stopwatch import seconds_of
from lssvwm_bench.workload import stepwise_scan
from lssvwm_rl.model.scan.block import BlockScan
from lssvwm_rl.model.scan.ssd import CHUNK_SIZE, chunked_scan


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


def best_seconds(run: Callable[[], object], repeats: int) -> float:
    """Shortest of several runs, after one to warm up."""
    run()
    return min(seconds_of(run) for _ in range(repeats))


def main(args: Args) -> None:
    """Print times and ratios."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer, mamba2_chunk_scan

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    Z, L, N, P = args.batch, args.length, args.state_size, args.head_size
    H = 2 * args.width // P
    x, dt = torch.randn(Z, L, H, P, requires_grad=True), torch.rand(Z, L, H)
    A, B, C, state = -torch.rand(H), torch.randn(Z, L, N), torch.randn(Z, L, N), torch.zeros(Z, H, P, N)
    chunked = best_seconds(lambda: chunked_scan(x, dt, A, B, C, state)[0].sum().backward(), args.repeats)

    def reference() -> Tensor:
        result = mamba2_chunk_scan(x, dt, A, B[:, :, None], C[:, :, None], CHUNK_SIZE)
        return result[0] if isinstance(result, tuple) else result

    torch.testing.assert_close(reference().float(), chunked_scan(x, dt, A, B, C, state)[0], rtol=1e-3, atol=1e-3)
    theirs_scan = best_seconds(lambda: reference().sum().backward(), args.repeats)
    loop = best_seconds(lambda: stepwise_scan(x, dt, A, B, C, state)[0].sum().backward(), args.repeats)

    ours = BlockScan(args.width, (1, 1), (1, 1), N, P, expand=2)
    config = Mamba2Config(
        hidden_size=args.width, num_heads=H, head_dim=P, state_size=N, n_groups=1, expand=2, chunk_size=CHUNK_SIZE
    )
    theirs = Mamba2Mixer(config, layer_idx=0)
    tokens = torch.randn(Z, L, args.width, requires_grad=True)
    frames = tokens.view(Z, L, 1, 1, 1, args.width)
    empty = ours.initial_state(Z)
    block = best_seconds(lambda: ours(frames, empty)[0].sum().backward(), args.repeats)
    mamba = best_seconds(lambda: theirs(tokens).sum().backward(), args.repeats)

    print(f"{Z} sequences of {L} tokens, {H} heads of {P}, state {N}, {args.threads} threads, forward and backward")
    print(
        f"scan   ours    {chunked * 1e3:8.1f} ms   transformers {theirs_scan * 1e3:8.1f} ms   "
        f"ratio {theirs_scan / chunked:5.1f}"
    )
    print(f"scan   ours    {chunked * 1e3:8.1f} ms   naive loop   {loop * 1e3:8.1f} ms   ratio {loop / chunked:5.1f}")
    print(f"mixer  ours    {block * 1e3:8.1f} ms   transformers {mamba * 1e3:8.1f} ms   ratio {mamba / block:5.1f}")


if __name__ == "__main__":
    main(tyro.cli(Args))
