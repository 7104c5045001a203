"""Window attention: masked SDPA, which the model uses, against FlexAttention with the same bias and window.

    python benchmarks/speed/attention.py [--preset small] [--frames 32]

FlexAttention is compiled; the compiler needs a minute. Both are checked to agree. Without gradients, since
FlexAttention has no backward pass on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import tyro
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from lssvwm_bench.stopwatch import seconds_of
from lssvwm_rl.model.attention.local import FrameLocalAttention, project
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.presets import PRESETS


@dataclass(frozen=True)
class Args:
    """Sizes of the comparison."""

    preset: str = "small"
    frames: int = 32
    batch: int = 1
    repeats: int = 20
    threads: int = 2
    device: str = "cpu"


def flex_layer(layer: FrameLocalAttention, T: int, device: str) -> Callable[[Tensor, tuple], Tensor]:
    """The layer's function for T frames behind a full window, by FlexAttention over all T + k - 1 frames at once."""
    n, past = layer.tokens, layer.window - 1
    table, offsets = layer.bias, layer.offsets

    def in_window(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        back = query // n + past - key // n
        return (back >= 0) & (back <= past)

    def add_bias(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        back = (query // n + past - key // n).clamp(0, past)
        return score + table[h, offsets[query % n, (past - back) * n + key % n]]

    block_mask = create_block_mask(in_window, None, None, T * n, (T + past) * n, device=device)
    attend = torch.compile(flex_attention, dynamic=False)

    def run(tokens: Tensor, cache: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = project(layer.qkv, layer.q_norm.weight, layer.k_norm.weight, tokens, layer.head_size)
        k, v = (torch.cat([old, new], dim=1) for old, new in zip(cache, (k, v), strict=True))
        q, k, v = (t.flatten(1, 2).transpose(1, 2).contiguous() for t in (q, k, v))
        y = attend(q, k, v, score_mod=add_bias, block_mask=block_mask)
        return layer.out_proj(y.transpose(1, 2).reshape(tokens.shape))

    return run


@torch.no_grad()
def main(args: Args) -> None:
    """Print times for one frame against the cache and for a clip."""
    torch.set_num_threads(args.threads)
    tune_process()
    torch.manual_seed(0)
    sizes, grid = PRESETS[args.preset].model.backbone, PRESETS[args.preset].model.grid
    layer = FrameLocalAttention(sizes.width, grid, sizes.attention_head_size, sizes.window).to(args.device)
    torch.nn.init.normal_(layer.bias)
    cache = tuple(torch.randn_like(t) for t in layer.initial_cache(args.batch))
    seen = torch.full((args.batch,), sizes.window, device=args.device)
    for T in (1, args.frames):
        tokens = torch.randn(args.batch, T, 1, *grid, sizes.width, device=args.device)
        flex, mask = flex_layer(layer, T, args.device), layer.mask(seen, 1, 1) if T == 1 else None
        ways = {
            "SDPA": lambda tokens=tokens, mask=mask: layer(tokens, cache, mask, seen, write=mask is None)[0],
            "FlexAttention": lambda tokens=tokens, flex=flex: flex(tokens, cache),
        }
        torch.testing.assert_close(ways["FlexAttention"](), ways["SDPA"](), rtol=1e-3, atol=1e-4)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.repeats):
            for name, way in ways.items():
                times[name].append(seconds_of(way, args.device))
        found = ", ".join(f"{name} {1e3 * median(seconds):.2f} ms" for name, seconds in times.items())
        print(f"{args.preset}, {T} frame(s): {found}")


if __name__ == "__main__":
    main(tyro.cli(Args))
