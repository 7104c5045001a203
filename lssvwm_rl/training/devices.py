"""Training on several devices: who computes which share of a batch, and what all processes have to agree on.

A batch has `TrainConfig.devices` shares, each with clips and noise of its own, that depend on nothing but the share's
number. Every process computes as many shares as the others, one after the other, so that the losses are those of one
process that computes them all, but for the order in which they are added.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel as _DDP

from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.precision import resolve_precision
from lssvwm_rl.training.sharding import sharding


def make_fabric(config: TrainConfig, all_weights: bool) -> Fabric:
    """What computes, launched: the processes that `torchrun` or `fabric run` has started, or those that Fabric starts,
    one per device.

    Args:
        all_weights: whether every weight has a part in every loss; if not, processes have to look for those that have.

    Raises:
        ValueError: if the processes that were started cannot share the batches evenly, or not in this precision.
    """
    precision: Any = resolve_precision(config.precision, config.device)  # Fabric checks the name
    devices: Any = config.devices
    nodes = 1
    started = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    if started:
        world = int(os.environ["WORLD_SIZE"])
        if config.devices not in (1, world) and config.devices % world:
            raise ValueError(
                f"The batches of {config.devices} devices cannot be shared evenly by {world} processes; start as many."
            )
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = world // devices
    by_fabric = "LT_CLI_USED" in os.environ  # it asks for the same numbers in its own way, and launches by itself
    strategy: Any = "auto"
    how: dict[str, Any] = {"precision": precision}
    chosen = os.environ.get("LT_STRATEGY", "auto")  # by `fabric run`, which takes options for its own up to a `--`
    if not chosen.startswith(("auto", "ddp")) or (chosen != "auto" and config.strategy == "fsdp"):
        raise ValueError(
            f"`fabric run --strategy {chosen}` is none that a world model is trained with; write `fabric run [OPTIONS] "
            "-- SCRIPT train --strategy ddp` or fsdp, with the two dashes."
        )
    if devices * nodes > 1 and config.strategy == "fsdp":
        strategy, how = sharding(precision)
    elif devices * nodes > 1 and "LT_STRATEGY" not in os.environ:
        # Buffers are computed by every process from the same numbers.
        name = next(n for n in ("forward_sync_buffers", "broadcast_buffers") if n in signature(_DDP).parameters)
        options: dict[str, Any] = {"find_unused_parameters": not all_weights, name: False}
        strategy = DDPStrategy(**options)
    fabric = Fabric(
        accelerator=config.device,
        strategy=strategy,
        devices="auto" if by_fabric else devices,
        num_nodes=1 if by_fabric else nodes,
        **how,
    )
    if not by_fabric:
        fabric.launch()
    return fabric


def is_first() -> bool:
    """Whether this is the process that writes, of those in which a training has run."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def own_shares(config: TrainConfig, fabric: Fabric) -> range:
    """Numbers of the shares that this process computes; with the default of one device every process has one."""
    count = max(config.devices, fabric.world_size) // fabric.world_size
    return range(fabric.global_rank * count, (fabric.global_rank + 1) * count)


def agreed(fabric: Fabric, *values: float) -> list[float]:
    """The largest of what each process gives, so that all do the same."""
    if fabric.world_size == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    return _tensor(fabric.all_reduce(tensor, reduce_op="max")).tolist()


def means(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """The means of what each process gives."""
    if fabric.world_size == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    return _tensor(fabric.all_reduce(tensor, reduce_op="mean")).tolist()


def joined(fabric: Fabric, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The rows of tensors (M, ...) of all processes, in order; M may differ from process to process, but for one
    process not from tensor to tensor."""
    if fabric.world_size == 1:
        return dict(tensors)
    first = next(iter(tensors.values()))
    counts = _tensor(fabric.all_gather(torch.tensor([len(first)], device=fabric.device))).flatten().tolist()
    found = {}
    for name, tensor in tensors.items():
        plain = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor
        padded = plain.new_zeros(max(counts), *plain.shape[1:])
        padded[: len(plain)] = plain
        gathered = _tensor(fabric.all_gather(padded))
        rows = torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])
        found[name] = rows.to(tensor.dtype)
    return found


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)  # as what was given
    return value
