"""What speed costs in accuracy: engines against the model itself, gradients in fewer bits against fp32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lssvwm_bench.speed.dreams import Imagine, engines_of, noise, seen
from lssvwm_bench.speed.rows import Line, Settings, row
from lssvwm_bench.workload import awaken, random_batch, untrained_model
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.objective import Objective, ObjectiveConfig

DREAMS, STEPS = 16, 32
END = 0.5  # probability


@row("accuracy")
def accuracy(settings: Settings) -> Iterator[Line]:
    """Frames, rewards and ends of dreams, and gradients of an update; another draw of noise gives the scale."""
    model = WorldModel.from_pretrained(settings.checkpoint, backend="torch")
    memory = seen(model, DREAMS, settings.checkpoint)
    reference = rollout(model.imagine, memory, 0)
    others = {name: rollout(e.imagine, memory, 0) for name, e in engines_of(model, settings.engines).items()}
    others["another noise"] = rollout(model.imagine, memory, 1_000)
    for name, steps in others.items():
        yield Line(f"{DREAMS} dreams of {STEPS} steps", name, besides=differences(reference, steps))
    clips, span = settings.clips
    exact = gradient("torch", clips, span, settings.frame)
    for name, backend, bf16 in (("native fp32", "native", False), ("torch bf16", "torch", True),
                                ("native bf16", "native", True)):  # fmt: skip
        error = relative_error(gradient(backend, clips, span, settings.frame, bf16), exact)
        what = f"gradient of an update, `tiny`, {clips} x {span} frames"
        yield Line(what, name, besides=f"relative error {error:.1e} against torch fp32")


def rollout(imagine: Imagine, memory: Memory, seed: int) -> list[Imagined]:
    """Free dreams of `STEPS` steps by actions that are always the same."""
    rows, steps, generators = memory.batch_size, [], noise(memory.batch_size, seed)
    actions = torch.randint(0, 3, (STEPS, rows), generator=torch.Generator().manual_seed(0))
    for action in actions:
        steps.append(imagine(memory, action, generators))
        memory = steps[-1].memory
    return steps


def differences(reference: list[Imagined], steps: list[Imagined]) -> str:
    """Grey levels (mean and largest, of the first and of all steps), rewards, and how many decisions differ."""
    greys = torch.stack([(a.frame.int() - b.frame.int()).abs() for a, b in zip(reference, steps, strict=True)])
    rewards = max(float((a.reward - b.reward).abs().max()) for a, b in zip(reference, steps, strict=True))
    ends = sum(int(((a.terminated > END) != (b.terminated > END)).sum()) for a, b in zip(reference, steps, strict=True))
    count = len(steps) * len(steps[0].reward)
    return (
        f"grey levels: first step at most {int(greys[0].max())}, all steps at most {int(greys.max())}, mean "
        f"{float(greys.float().mean()):.3f}; reward {rewards:.1e}; {ends} of {count} decisions on ends differ"
    )


def gradient(backend: str, clips: int, span: int, frame: int, bf16: bool = False) -> Tensor:
    """All gradients of an update of `tiny`, as one vector."""
    model = awaken(untrained_model("tiny", frame, backend=backend))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        batch = random_batch(model, clips, span)
        losses, *_ = Objective(model, ObjectiveConfig())(batch, None, torch.Generator().manual_seed(0))
    losses["total"].backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def relative_error(a: Tensor, b: Tensor) -> float:
    """Norm of the difference over the norm of b."""
    return float((a - b).norm() / b.norm())
