"""A training's run: everything that an update changes, and how it is kept in the run folder."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.model.checkpoint_weights import weights_as_now
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import not_finite, run_folder
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.devices import agreed, joined, means, own_shares
from lssvwm_rl.training.log import Sums, Update
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from lssvwm_rl.training.optimizer import learning_rate, load_optimizer, make_average, make_optimizer
from lssvwm_rl.training.rehearsal import KEPT, Reading, Rehearsal
from lssvwm_rl.training.sharding import gathered, is_sharded, set_up_shards, whole_model


class Losses(nn.Module):
    """An objective with plain dicts in and out: Fabric, which casts what passes a module to the precision of the run,
    takes no frozen dataclasses."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective

    def forward(
        self, batch: dict[str, Any], memory: dict[str, Tensor] | None, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None, Reading | None]:
        """As `Objective.forward`."""
        start = None if memory is None else Memory.from_tensors(memory)
        losses, after, reading = self.objective(Batch(**batch), start, generator)
        return losses, None if after is None else after.tensors(), reading


class Run:
    """Everything that an update changes.

    Args:
        initial: weights to start from.
        fit: what is done to a new model before its first update.
    """

    def __init__(
        self,
        fabric: Fabric,
        model_config: WorldModelConfig,
        objective: ObjectiveConfig,
        config: TrainConfig,
        out: Path,
        initial: dict[str, Tensor] | None,
        fit: Callable[[WorldModel], None],
    ):
        torch.manual_seed(config.seed)
        self.fabric, self.objective, self.config, self.out = fabric, objective, config, out
        self.shares = own_shares(config, fabric)
        self.model = WorldModel(model_config)
        if config.precision in ("64-true", "64"):  # Fabric would do so after the state has been rounded
            self.model.double()
        state = run_folder.load_state(out)
        if initial is not None:
            self.model.load_state_dict(initial)
        elif state is None:
            fit(self.model)
        optimizer = make_optimizer(self.model, config)
        self.rehearsal = Rehearsal(self.model.reward_head, self.model.continuation_head)
        self.ema = make_average(self.model, config.ema_decay)
        self.step, self.seconds = 0, 0.0
        self.memory: Memory | None = None  # of the clips of all own shares, one after the other
        self.sums = Sums(0)
        self.settled = -1  # the step after which weights for inference were settled
        self.skipped = 0  # updates in a row, until now
        if state is not None:
            self._go_on_from(state, optimizer)
        self.ema.eval()
        losses = Losses(Objective(self.model, objective, config.activation_checkpointing))
        if is_sharded(fabric):
            parts = [optimizer, self.rehearsal.optimizer]
            self.losses, self.optimizer = set_up_shards(fabric, losses, parts, self.ema)
        else:
            self.losses, self.optimizer = fabric.setup(losses, optimizer)
        self.ema.to(fabric.device)
        self.generator = torch.Generator(fabric.device)
        self._before, self._began = self.seconds, time.monotonic()
        self._saved = self._began

    def _go_on_from(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        self.model.load_state_dict(weights_as_now(state["model"]))
        self.ema.load_state_dict(weights_as_now(state["ema"]))
        load_optimizer(optimizer, state["optimizer"], self.model.reward_head.ended)
        if "rehearsal" in state:
            self.rehearsal.load_state_dict(state["rehearsal"])
        self.step, self.seconds, self.settled = state["step"], state["seconds"], state.get("settled", -1)
        self.sums = Sums(**state.get("sums", {"since": self.step}))
        self.skipped = state.get("skipped", 0)
        if "memory" in state:
            rows = torch.arange(self.shares.start * self.config.batch_size, self.shares.stop * self.config.batch_size)
            memory = Memory.from_tensors(state["memory"])
            if memory.batch_size < rows[-1] + 1:
                raise ValueError(
                    f"The stream of {self.out} has {memory.batch_size} clips, needed are {int(rows[-1]) + 1}; go on "
                    "with as many devices as before."
                )
            self.memory = memory.select(rows).to(self.fabric.device)

    def average(self) -> WorldModel:
        """The averaged weights; where processes share them, put together anew, so that all have to ask."""
        model = cast(WorldModel, self.ema.module)
        return cast(WorldModel, whole_model(model)) if is_sharded(self.fabric) else model

    def written_average(self) -> WorldModel | None:
        """`average` in the process that writes and shows it, None in all others, which have to ask, too."""
        model, first = cast(WorldModel, self.ema.module), self.fabric.is_global_zero
        if is_sharded(self.fabric):
            return whole_model(model, first)
        return model if first else None

    @property
    def done(self) -> float:
        """The share of the training in [0, 1], by steps or by time, whichever is further."""
        by_time = 0.0 if self.config.minutes is None else self.seconds / (60 * self.config.minutes)
        return min(1.0, max(self.step / self.config.steps, by_time))

    def update(self, batches: Sequence[Batch]) -> Update:
        """One step of the optimizer; none where the loss or the gradient is not finite.

        Args:
            batches: of each of the own shares, on the device.

        Raises:
            FloatingPointError: if it was not finite three times in a row; the batch and the state are kept for study.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.done)
        self.optimizer.zero_grad()
        start = self._start(batches) if self.config.stream else None
        parts = [self._backward(k, batch, start) for k, batch in enumerate(batches)]
        norm = float(self._clipped())
        names = list(parts[0][0])
        found = means(self.fabric, [sum(float(losses[n]) for losses, *_ in parts) / len(parts) for n in names])
        values = dict(zip(names, found, strict=True))
        taken = self._takes(values["total"], norm)
        if taken:
            self.optimizer.step()
            self._rehearse([reading for *_, reading in parts if reading is not None])
            self.ema.update_parameters(self.model)
        if start is not None:  # clips go on, whether something was learnt of them or not
            memory = Memory.concatenate([after for _, after, _ in parts if after is not None])
            self.memory = memory if taken else memory.where(_finite_rows(memory), start)
        self.skipped = 0 if taken else self.skipped + 1
        if self.skipped >= not_finite.IN_A_ROW:
            self._leave(batches, values["total"], norm)
        self.step += 1
        self.seconds = self._before + time.monotonic() - self._began
        return Update(values, taken)

    def _start(self, batches: Sequence[Batch]) -> Memory:
        """The memory before a stream's clips."""
        first = torch.cat([batch.first[:, 0] for batch in batches])
        start = self.model.initial_memory(len(first))
        return start if self.memory is None else start.where(first, self.memory)

    def _backward(
        self, k: int, batch: Batch, memory: Memory | None
    ) -> tuple[dict[str, Tensor], Memory | None, Reading | None]:
        """Losses and gradients of the k-th of the own shares; gradients are added, and averaged over all devices."""
        self._seed(self.shares[k])
        start = None
        if memory is not None:
            rows = torch.arange(k * self.config.batch_size, (k + 1) * self.config.batch_size)
            start = memory.select(rows).tensors() if len(self.shares) > 1 else memory.tensors()
        waits = self.fabric.world_size > 1 and k < len(self.shares) - 1
        with self.fabric.no_backward_sync(self.losses) if waits else nullcontext():
            with self.fabric.autocast():  # without it, Fabric rounds what comes out in fp64
                losses, after, reading = self.losses(vars(batch), start, self.generator)
            self.fabric.backward(losses["total"] / len(self.shares))
        losses = {name: value.detach() for name, value in losses.items()}
        return losses, None if after is None else Memory.from_tensors(after), reading

    def _seed(self, share: int) -> None:
        """Have random numbers be a function of seed, share and step, so that a resumed run has the same."""
        self.generator.manual_seed((self.config.seed + share) * 1_000_003 + self.step)

    def _clipped(self) -> Tensor:
        """The norm of the gradient, before it is clipped."""
        norm = self.fabric.clip_gradients(
            self.losses, self.optimizer, max_norm=self.config.grad_clip, error_if_nonfinite=False
        )
        assert norm is not None  # as for every max_norm
        return gathered(norm)

    def _takes(self, loss: float, norm: float) -> bool:
        """Whether the weights follow the gradient, which all devices have to say alike."""
        # In fp16 the loss is scaled until gradients overflow, and the scaler passes over those by itself.
        fine = math.isfinite(loss) and (math.isfinite(norm) or self.config.precision in ("16-mixed", "16"))
        return not agreed(self.fabric, float(not fine))[0]

    def _rehearse(self, readings: Sequence[Reading]) -> None:
        """Have the heads learn what they read, on all devices the same."""
        if not readings:
            return
        most = KEPT // max(1, len(self.shares) * self.fabric.world_size)
        parts = zip(Reading._fields, zip(*readings, strict=True), strict=True)
        own = {name: torch.cat([part[-most:] for part in each]) for name, each in parts}
        reading = Reading(**joined(self.fabric, own))
        if not len(reading.features):
            return
        if len(self.shares) * self.fabric.world_size > 1:
            self._seed(-1)  # no share's
        rate = self.optimizer.param_groups[0]["lr"] / self.config.learning_rate
        self.rehearsal.look(reading)
        self.rehearsal.go(reading.readings(), rate, self.generator)

    def _leave(self, batches: Sequence[Batch], loss: float, norm: float) -> None:
        """Keep what can be studied, and raise FloatingPointError."""
        for share, batch in zip(self.shares, batches, strict=True):
            not_finite.save_batch(self.out, share, batch)
        state = self._state()
        if self.fabric.is_global_zero:
            run_folder.write_state(not_finite.study_folder(self.out) / "state.pt", state)
        raise FloatingPointError(not_finite.sentence(self.out, self.step, loss, norm))

    def checkpoint_if_due(self) -> bool:
        """`checkpoint`, unless the last one is recent; whether it was due."""
        due = time.monotonic() - self._saved > 60 * self.config.checkpoint_minutes
        due = bool(agreed(self.fabric, float(due))[0])
        if due:
            self.checkpoint()
            self._saved = time.monotonic()
        return due

    def agree(self, signals: Sequence[int]) -> int:
        """Have all devices be as far as the slowest; the number of a signal that one of them got, or 0."""
        signal, self.seconds = agreed(self.fabric, signals[0] if signals else 0, self.seconds)
        return int(signal)

    def checkpoint(self, settle: Callable[[WorldModel], None] | None = None) -> None:
        """Write the averaged weights for inference, and what resumes the training.

        Args:
            settle: improves the weights for inference; a training that goes on later knows nothing of it.
        """
        state, averaged = self._state(), self.written_average()
        if averaged is None:
            return
        if settle is not None:
            averaged, self.settled = copy.deepcopy(averaged), self.step
            settle(averaged)
        averaged.save_pretrained(self.out)
        run_folder.save_state(self.out, {**state, "settled": self.settled})

    def _state(self) -> dict[str, Any]:
        modules = {"model": self.model, "ema": self.ema, "optimizer": self.optimizer}
        state: dict[str, Any] = {name: module.state_dict() for name, module in modules.items()}
        if is_sharded(self.fabric):
            state = gathered(state, self.fabric.is_global_zero)
        if self.memory is not None:
            state["memory"] = joined(self.fabric, self.memory.tensors())
        if self.model.config.reservoir.blocks:
            state["rehearsal"] = gathered(self.rehearsal.state_dict(), self.fabric.is_global_zero)
        state |= {"step": self.step, "seconds": self.seconds, "settled": self.settled, "skipped": self.skipped}
        return {**state, "sums": dataclasses.asdict(self.sums)}


def _finite_rows(memory: Memory) -> Tensor:
    """(B,) bool."""
    return torch.stack(
        [tensor.flatten(1).isfinite().all(dim=1) for tensor in memory.tensors().values() if tensor.ndim > 1]
    ).all(dim=0)
