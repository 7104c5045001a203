"""The whole chain in one run: collect, train, remember, dream, plan, act; every number measured on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lssvwm_agents.baselines import BaselineConfig, train_baseline
from lssvwm_agents.evaluate import EvaluationResult, evaluate_policy
from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream
from lssvwm_agents.offline import OfflineConfig
from lssvwm_agents.planning import CEMConfig, planner_policy
from lssvwm_agents.policies import load_policy
from lssvwm_bench.quickstart_report import write_report
from lssvwm_bench.report import write_report as write_page
from lssvwm_bench.stopwatch import measure
from lssvwm_envs.explorers import make_explorer
from lssvwm_envs.make import env_spec_json, image_envs, make_image_env
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.checked_text import read_checked
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.measures.memory_reward import memory_reward_accuracy
from lssvwm_rl.measures.rollouts import one_step_psnr, rollout_psnr
from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.model.predict import dream_video
from lssvwm_rl.phases import claim, find_phase, run_phase
from lssvwm_rl.pictures import enlarge, frame_strip, write_image, write_video
from lssvwm_rl.policy import Policy, RandomPolicy
from lssvwm_rl.progress import Say, Update, progress_bar, say
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.log import Progress
from lssvwm_rl.training.presets import PRESETS, model_config
from lssvwm_rl.training.run_folder import steps_of_data
from lssvwm_rl.training.trainer import train

DATA_SEED = 1_000_000  # away from the seeds that the shipped checkpoint was trained on
IMAGE_PPO: dict[str, Any] = {
    "network": "nature",
    "num_envs": 8,
    "rollout_steps": 128,
    "batch_size": 512,
    "learning_rate": 5e-4,
}
"""Settings of the baseline on images."""
LOOP = "minigrid-loop"
"""Checkpoint of the last round of a loop, which comes with its agent and with what all of its pieces came to."""
TEST_SEED, PLAY_SEED = 2_000_000, 3_000_000  # of the test split


@dataclass(frozen=True)
class QuickstartConfig:
    """How much of everything; a run folder holds one config."""

    checkpoint: str = "minigrid-memory"
    """World model that dreams and plans."""
    env: str = "MiniGrid-MemoryS7-v0"
    """Real environment."""
    episodes: int = 1_500
    """Collected to train the small model."""
    minutes: float = 3.0
    """Training time of the small model."""
    test_episodes: int = 300
    """Collected to measure memory and dreams on; no model has seen them."""
    psnr_episodes: int = 60
    """Of these, for frame errors."""
    play_episodes: int = 100
    """Played by every policy but the planner."""
    plan_episodes: int = 5
    """Played by the planner."""
    offline_updates: int = 10_000
    """Gradient steps of the agent on the collected episodes, read with the memory of the small model."""
    image_steps: int = 150_000
    """Real steps of PPO on images, some five times those that the agent learns from."""
    planner: CEMConfig = CEMConfig(horizon=8, samples=16, elites=4, iterations=2)
    """How hard the planner searches; each of its steps costs samples * iterations * horizon dreamt ones."""
    smoke: bool = False
    """Everything tiny; the numbers mean nothing."""

    @classmethod
    def smoke_test(cls) -> QuickstartConfig:
        """The same path in under a minute."""
        return cls(
            episodes=24,
            minutes=0.1,
            test_episodes=24,
            psnr_episodes=4,
            play_episodes=4,
            plan_episodes=2,
            planner=CEMConfig(horizon=2, samples=2, elites=1, iterations=1),
            offline_updates=32,
            image_steps=256,
            smoke=True,
        )


Phase = Callable[[], dict[str, Any]]


def quickstart(out: Path, config: QuickstartConfig, say: Say = say) -> tuple[Path, Path]:
    """Run all phases into `out` and write report.md, report.json and report/report.html; phases that are there already
    are reused.

    Returns:
        report.md and report.html.

    Raises:
        ValueError: if `out` holds a quickstart of another config.
        FileNotFoundError: if there is no such checkpoint.
    """
    resolve_checkpoint(config.checkpoint)
    tune_process()
    claim(out, asdict(config), "quickstart")
    phases: list[tuple[str, str, Phase]] = [
        ("collect", f"Collecting {config.episodes} + {config.test_episodes} episodes", partial(_collect, out, config)),
        ("train", f"Training a tiny world model for {config.minutes:g} minutes", partial(_train, out, config)),
        ("memory", "Measuring memory", partial(_memory, out, config)),
        ("dream", "Dreaming", partial(_dream, out, config)),
        ("plan", f"Planning in {config.plan_episodes} real episodes", partial(_plan, out, config)),
        ("agent", "Teaching an agent with the small model's memory", partial(_agent, out, config)),
        ("images", "Training PPO on real images, without memory", partial(_images, out, config)),
        ("play", f"Playing {config.play_episodes} real episodes", partial(_play, out, config)),
    ]
    results: dict[str, dict[str, Any]] = {}
    for number, (name, text, phase) in enumerate(phases, 1):
        reused = find_phase(out, name) is not None
        say(f"[{number}/{len(phases)}] {text}{': reused' if reused else ''}")
        results[name] = run_phase(out, name, partial(_measured, phase))
    report = write_report(out, asdict(config), results)
    return report, write_page(out)


def _measured(phase: Phase) -> dict[str, Any]:
    with measure() as cost:
        result = phase()
    return {"result": result, "seconds": cost.seconds, "peak_bytes": cost.peak_bytes}


def _collect(out: Path, config: QuickstartConfig) -> dict[str, Any]:
    result = {}
    with make_image_env(config.env) as env:
        spec = env_spec_json(env)
    # Memory is measured where there is something to remember: in the test episodes every walk sees the object.
    parts = (
        ("data", config.episodes, "train", DATA_SEED, make_explorer),
        ("test", config.test_episodes, "test", TEST_SEED, partial(make_explorer, blind=0.0)),
    )
    for name, episodes, split, seed, explorer in parts:
        done = 0
        with progress_bar(f"collect {name}", "episodes") as bar:

            def count(_: Episode, bar: Update = bar, episodes: int = episodes) -> None:
                nonlocal done
                done += 1
                bar(done, episodes)

            store = collect(
                image_envs(config.env),
                explorer,
                out / name,
                episodes,
                seed=seed,
                split=split,
                env_spec=spec,
                policy_name="explore",
                on_episode=count,
            )
        success = float(np.mean([episode.rewards[-1] > 0 for episode in store]))
        result[name] = {"episodes": len(store), "steps": int(store.lengths.sum()), "success": success}
    return result


def _train(out: Path, config: QuickstartConfig) -> dict[str, Any]:
    store = EpisodeStore(out / "data")
    settings = replace(PRESETS["tiny"].train, steps=1_000_000, minutes=config.minutes, device="cpu")
    if config.smoke:
        settings = replace(settings, batch_size=4, preview_every=0)
    last: Progress | None = None
    with progress_bar("train", "updates") as bar:

        def show(at: Progress) -> None:
            nonlocal last
            last = at
            speed = f"{at.frames_per_second:.0f} frames/s  {at.gemm_share:.0%} of GEMM"
            bar(at.step, at.expected, f"loss {at.loss:.3f}  {speed}")

        model = model_config("tiny", store.header)
        train(store, out / "world-model", model, config=settings, on_progress=show)
    return {"updates": 0 if last is None else last.step, "minutes": config.minutes}


def _memory(out: Path, config: QuickstartConfig) -> dict[str, Any]:
    episodes = list(EpisodeStore(out / "test"))
    with progress_bar("shipped model", "episodes") as bar:
        shipped = memory_reward_accuracy(load_world_model(config.checkpoint), episodes, progress=bar)
    with progress_bar("three-minute model", "episodes") as bar:
        short = memory_reward_accuracy(load_world_model(out / "world-model"), episodes, progress=bar)
    return {
        "shipped": shipped.accuracy,
        "shipped_memory_wiped": shipped.wiped,
        "three_minute_model": short.accuracy,
        "three_minute_model_memory_wiped": short.wiped,
        "chance": 0.5,
        "episodes": shipped.episodes,
    }


def _dream(out: Path, config: QuickstartConfig) -> dict[str, Any]:
    model = load_world_model(config.checkpoint)
    episodes = list(EpisodeStore(out / "test"))
    context, horizon = (4, 32) if any(len(e.frames) >= 36 for e in episodes) else (1, min(map(len, episodes)))
    longest = max(episodes, key=len)
    with progress_bar("dream", "frames") as bar:
        video = dream_video(model, longest, 8 if len(longest) > 16 else 1, len(longest), seed=0, progress=bar)
    write_video(out / "dream.mp4", video)
    _picture(out / "dream.png", model.config.frame_shape[1], video[: 4 * 6])
    chosen = episodes[: config.psnr_episodes]
    long = sorted(episodes, key=len, reverse=True)[: config.psnr_episodes]
    found = {}
    with progress_bar("next frame", "episodes") as bar:
        found["one_step"] = one_step_psnr(model, chosen, progress=bar)
    with progress_bar(f"frame {horizon} steps on", "episodes") as bar:
        found[f"{horizon}_step"] = rollout_psnr(model, long, horizon, context, progress=bar)
    with progress_bar("next frame, three-minute model", "episodes") as bar:
        found["three_minute_model_one_step"] = one_step_psnr(
            load_world_model(out / "world-model"), chosen, progress=bar
        )
    return found


def _picture(path: Path, width: int, video: np.ndarray) -> None:
    """Every fourth frame of a video real | dream: reality in the first row, the dream below."""
    frames = video[::4]
    rows = np.concatenate([frames[:, :, :width], frames[:, :, width:]])
    write_image(path, enlarge(frame_strip(rows, len(frames))[None])[0])


def _plan(out: Path, config: QuickstartConfig) -> dict[str, Any]:
    model = load_world_model(config.checkpoint)
    policy = planner_policy(model, config.planner)
    return {"planner": _evaluate(policy, config, config.plan_episodes, "planner").to_json()}


def _agent(out: Path, config: QuickstartConfig) -> dict[str, Any]:
    # What `lssvwm agent loop` does before its first dream; dreams after it do an agent no good in the first round.
    offline = OfflineConfig(updates=config.offline_updates)
    settings = DreamTrainConfig(total_steps=0, contexts=str(out / "data"), offline=offline)
    policy = out / "agent"
    shutil.rmtree(policy, ignore_errors=True)  # of an interrupted phase
    with progress_bar("learn from episodes", "updates") as bar:
        train_in_dream(str(out / "world-model"), settings, policy, bar)
    return {"updates": config.offline_updates, "real_steps": steps_of_data(out / "world-model")}


def _images(out: Path, config: QuickstartConfig) -> dict[str, Any]:
    settings = BaselineConfig(env=config.env, total_steps=config.image_steps, **IMAGE_PPO)
    with progress_bar("PPO on images", "steps") as bar:
        train_baseline(settings, out / "image-agent", bar)
    return {"real_steps": config.image_steps}


def _play(out: Path, config: QuickstartConfig) -> dict[str, Any]:
    with make_image_env(config.env) as env:
        random = RandomPolicy(env.action_space, PLAY_SEED)
    wrap = partial(VectorMemoryObservation, checkpoint=str(out / "world-model"))
    loop, inside = resolve_checkpoint(LOOP), partial(VectorMemoryObservation, checkpoint=LOOP)
    torch.manual_seed(PLAY_SEED)  # Stable-Baselines3's stochastic policies draw from torch's global generator
    episodes = config.play_episodes
    return {
        "random": _evaluate(random, config, episodes, "random").to_json(),
        "taught_agent": _evaluate(load_policy(out / "agent"), config, episodes, "agent", wrap).to_json(),
        "loop_agent": _evaluate(load_policy(loop / "agent"), config, episodes, "loop agent", inside).to_json(),
        "loop_pieces": json.loads(read_checked(loop / "pieces.json")),
        "ppo_images_no_memory": _evaluate(load_policy(out / "image-agent"), config, episodes, "image agent").to_json(),
    }


def _evaluate(
    policy: Policy, config: QuickstartConfig, episodes: int, name: str, wrap: Callable | None = None
) -> EvaluationResult:
    with progress_bar(name, "episodes") as bar:
        return evaluate_policy(
            policy,
            lambda: make_image_env(config.env),
            episodes,
            num_envs=10,
            seed=PLAY_SEED,
            wrap_vector=wrap,
            progress=bar,
        )
