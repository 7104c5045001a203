"""Weights, their average and the optimizers' moments spread over the devices (FSDP2, `torch.distributed.fsdp`).

Every device keeps a share of each, cut along the first dimension. A layer's weights are gathered when it runs, forward
and backward; those outside of layers from the forward to the end of the backward pass.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import DoublePrecision
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from lssvwm_rl.model.backbone import Layer
from lssvwm_rl.model.heads import ContinuationHead, RewardHead
from lssvwm_rl.model.world_model import WorldModel

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "bf16-true")


def sharding(precision: str) -> tuple[ModelParallelStrategy, dict[str, Any]]:
    """Fabric's strategy, and its arguments for a precision.

    Raises:
        ValueError: for one whose losses would have to be scaled, which Fabric does not do for shares of weights.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"strategy fsdp trains in {', '.join(PRECISIONS)}, not {precision}; use one of them or ddp.")
    # Of the group sizes the mesh is made anew below: Fabric would take one process per machine for data.
    strategy = ModelParallelStrategy(_sharded)
    # Fabric knows no fp64 here by name, but takes it as an object.
    return strategy, {"plugins": DoublePrecision()} if precision == "64-true" else {"precision": precision}


def is_sharded(fabric: Fabric) -> bool:
    """Whether the processes of a training share its weights."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def set_up_shards(
    fabric: Fabric, losses: nn.Module, optimizers: Sequence[Optimizer], average: nn.Module
) -> tuple[Any, Any]:
    """Spread a module over the devices; whole optimizers over its parameters, and an average of the module's model,
    follow with all that they have learnt.

    Returns:
        The module and the first optimizer, as Fabric runs them.
    """
    whole: list[Tensor] = list(losses.parameters())
    module = fabric.setup_module(losses)
    shards = dict(zip(whole, losses.parameters(), strict=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [shards[p] for p in group["params"]]
        states = [(shards[p], state) for p, state in optimizer.state.items()]
        optimizer.state = defaultdict(
            dict, {p: {name: _shard_like(p, value) for name, value in state.items()} for p, state in states}
        )
    mine = iter(losses.parameters())
    _replace(average, lambda p: nn.Parameter(_shard_like(next(mine), p.data), p.requires_grad))
    return module, fabric.setup_optimizers(optimizers[0])


def gathered(tree: Any, keep: bool = True) -> Any:
    """Nested dicts and lists with whole tensors instead of shares, on the CPU; every process has to ask, one tensor
    after the other is put together, and those that do not `keep` them get None instead."""
    if isinstance(tree, DTensor):
        whole = tree.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(tree, Mapping):
        return {name: gathered(value, keep) for name, value in tree.items()}
    return [gathered(value, keep) for value in tree] if isinstance(tree, list) else tree


def whole_model(model: WorldModel, keep: bool = True) -> WorldModel | None:
    """A model with whole weights, of one whose weights are shares; every process has to ask, and those that do not
    `keep` it hold one whole tensor at a time and get None."""
    if not keep:
        for _, _, parameter in _places(model):
            if isinstance(parameter, DTensor):
                parameter.full_tensor()
        return None
    found = copy.deepcopy(model)
    _replace(found, lambda p: nn.Parameter(p.full_tensor() if isinstance(p, DTensor) else p.data, p.requires_grad))
    return found


def _sharded(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Layers one by one, heads (which are rehearsed by themselves), and the rest together."""
    mesh = init_device_mesh(mesh.device_type, (mesh.size(),))
    for part in list(module.modules()):
        if isinstance(part, (Layer, RewardHead, ContinuationHead)):
            fully_shard(part, mesh=mesh)
        if isinstance(part, (RewardHead, ContinuationHead)):
            register_fsdp_forward_method(part, "loss")
    fully_shard(module, mesh=mesh)
    return module


def _shard_like(parameter: Tensor, value: Any) -> Any:
    """A value's share that belongs to a parameter's share, if it has a number for each of the parameter's."""
    assert isinstance(parameter, DTensor)
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    mesh = parameter.device_mesh
    return distribute_tensor(value.to(mesh.device_type), mesh, parameter.placements)


def _replace(module: nn.Module, new: Callable[[nn.Parameter], nn.Parameter]) -> None:
    """Other parameters under the same names, in the order of `parameters`."""
    for part, name, parameter in list(_places(module)):
        setattr(part, name, new(parameter))


def _places(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            yield part, name, parameter
