"""Evaluation counts whole episodes; agents train in the dream, are kept without pickle, and act in the real env."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from lssvwm_agents.commands.agent import RENAMED
from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_agents.imagination import DreamTrainConfig, Returns, train_in_dream
from lssvwm_agents.offline import OfflineConfig
from lssvwm_agents.policies import check_reads, load_policy, save_policy
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.make import EnvSetup, make_image_env
from lssvwm_envs.sb3 import DreamVecEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.cli import main
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from lssvwm_rl.model.checkpoints import load_contexts, load_world_model
from lssvwm_rl.model.predict import observe_episodes
from lssvwm_rl.training.run_folder import export

ENV_ID = "MiniGrid-MemoryS7-v0"
TINY = {"total_steps": 32, "num_envs": 2, "rollout_steps": 8, "batch_size": 8, "epochs": 1}


def make():
    return make_image_env(ENV_ID, max_steps=25)


class Forward:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        steps = np.zeros(len(observation), int) if state is None else np.where(episode_start, 0, state)
        return np.where(steps % 3 == 2, 1, 2), steps + 1


def test_evaluation_plays_the_same_whole_episodes_whatever_runs_beside():
    results = [evaluate_policy(Forward(), make, 7, num_envs=n, seed=5) for n in (1, 3)]
    assert np.array_equal(results[0].returns, results[1].returns)
    assert np.array_equal(results[0].lengths, results[1].lengths)
    for j in range(7):
        env, total, steps, done = make(), 0.0, 0, False
        env.reset(seed=split_seed("test", 5 + j))
        while not done:
            _, reward, terminated, truncated, _ = env.step(1 if steps % 3 == 2 else 2)
            total, steps, done = total + float(reward), steps + 1, terminated or truncated
        assert (results[0].returns[j], results[0].lengths[j]) == (pytest.approx(total), steps)


def test_a_dream_trained_policy_is_kept_and_acts_in_the_real_env(checkpoint, tmp_path):
    config = DreamTrainConfig(**TINY, hidden=(16,), horizon=6)
    model = train_in_dream(checkpoint, config, tmp_path / "agent")
    loaded = load_policy(tmp_path / "agent")
    assert loaded.checkpoint == checkpoint
    assert loaded.cost.real_steps is None and loaded.cost.dreamt_steps == 32 and loaded.cost.seconds > 0
    observations = np.random.default_rng(0).uniform(-1, 1, (5, *model.observation_space.shape)).astype(np.float32)
    ours, theirs = (p.predict(observations, deterministic=True)[0] for p in (model, loaded))
    assert np.array_equal(ours, theirs)
    result = evaluate_policy(loaded, make, 2, wrap_vector=partial(VectorMemoryObservation, checkpoint=checkpoint))
    assert (result.lengths > 0).all()
    check_reads(loaded, shared_engine(checkpoint).model)
    with pytest.raises(ValueError, match="the memory has 384 numbers"):
        check_reads(loaded, shared_engine("minigrid-memory").model)
    with pytest.raises(FileExistsError, match="exists already"):
        train_in_dream(checkpoint, config, tmp_path / "agent")
    (tmp_path / "agent" / "policy.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="cannot be read"):
        load_policy(tmp_path / "agent")


def test_a_policy_belongs_to_one_world_model_and_can_go_on_in_another(checkpoint, tmp_path):
    config = DreamTrainConfig(**TINY, hidden=(16,), horizon=6)
    train_in_dream(checkpoint, config, tmp_path / "agent")
    saved, model = load_policy(tmp_path / "agent"), load_world_model(checkpoint)
    export(Path(checkpoint), tmp_path / "exported")
    check_reads(saved, load_world_model(tmp_path / "exported"))  # the same in half precision
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    check_reads(saved, model, same_model=False)
    with pytest.raises(ValueError, match="The policy was trained with world model"):
        check_reads(saved, model)
    none = dataclasses.replace(config, total_steps=16, learning_rate=0.0)
    again = train_in_dream(checkpoint, none, start=tmp_path / "agent")
    ours, theirs = again.policy.state_dict(), saved.policy.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_policies_read_standardised_memories_and_keep_the_moments(checkpoint, tmp_path):
    config = DreamTrainConfig(**{**TINY, "learning_rate": 0.0}, hidden=(16,), horizon=6)
    train_in_dream(checkpoint, config, tmp_path / "agent")
    engine, read = shared_engine(checkpoint).engine, []
    for episode in load_contexts(checkpoint):  # alone, and each prefix anew
        read += [observe_episodes(engine, [episode.cut(0, t)]).readout() for t in range(1, len(episode.frames) + 1)]
    mean, deviation = torch.cat(read).double().mean(0), torch.cat(read).double().std(0, correction=0) + 0.01
    kept = load_policy(tmp_path / "agent").policy.features_extractor
    torch.testing.assert_close(kept.mean.double(), mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(kept.deviation.double(), deviation, atol=1e-4, rtol=1e-3)
    seen = kept(torch.cat(read))
    assert seen.mean(0).abs().max() < 0.1 and 0.1 < seen.std(0).median() < 1.1


def test_a_policy_with_other_layers_goes_on_as_it_is(checkpoint, tmp_path):
    config = DreamTrainConfig(**{**TINY, "learning_rate": 0.0}, hidden=(16,), horizon=6)
    envs = DreamVecEnv(checkpoint, 2, observation="memory", horizon=6)
    plain = PPO("MlpPolicy", envs, policy_kwargs={"net_arch": [8]})
    save_policy(plain, tmp_path / "plain", checkpoint)
    again = train_in_dream(checkpoint, config, start=tmp_path / "plain")
    ours, theirs = again.policy.state_dict(), plain.policy.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_real_and_dreamt_rows_train_together_and_are_told_apart(checkpoint):
    returns, notes = Returns(), []
    config = DreamTrainConfig(**{**TINY, "num_envs": 4, "total_steps": 64 * 4}, horizon=6, real_share=0.25)
    train_in_dream(
        checkpoint, config, None, lambda *_, note: notes.append(note), real_env=EnvSetup(ENV_ID), returns=returns
    )
    assert returns.real_steps == 64 and len(returns.dreamt) >= 3 * 64 // 6 - 3
    assert ", real " in notes[-1] and notes[-1].startswith("return ")
    alone = Returns()
    train_in_dream(checkpoint, dataclasses.replace(config, real_share=0.0), returns=alone)
    assert alone.real_steps == 0 and not alone.real and "real" not in alone.note()
    for broken in ({"real_env": None}, {"real_env": EnvSetup(ENV_ID), "config": DreamTrainConfig(**TINY)}):
        with pytest.raises(ValueError, match="give both, or neither"):
            train_in_dream(checkpoint, **{"config": config, **broken})
    with pytest.raises(ValueError, match="share of real rows"):
        DreamTrainConfig(real_share=1.0)


def test_the_agent_of_the_shipped_loop_holds_in_reality():
    saved = load_policy(resolve_checkpoint("minigrid-loop") / "agent")
    check_reads(saved, load_world_model("minigrid-loop"))
    assert saved.checkpoint == "minigrid-loop" and saved.cost.real_steps == 101_907
    torch.manual_seed(0)
    wrap = partial(VectorMemoryObservation, checkpoint="minigrid-loop")
    result = evaluate_policy(saved, lambda: make_image_env(ENV_ID), 25, num_envs=25, seed=500, wrap_vector=wrap)
    assert result.success_rate >= 0.96  # 400 of 400 were right; a guess is worth 0.5


def test_every_setting_of_ppo_in_the_dream_is_an_option(checkpoint, tmp_path, capsys):
    settings = {
        **TINY,
        "learning_rate": 0.01,
        "start": 0.5,
        "hidden": 8,
        "context_length": 2,
        "horizon": 4,
        "denoise_steps": 1,
        "temperature": 0.5,
    }
    words = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    main(["agent", "train", "--checkpoint", checkpoint, "--out", str(tmp_path / "agent"), *words])
    assert load_policy(tmp_path / "agent").policy.net_arch == [8]
    with pytest.raises(SystemExit):
        main(["agent", "train", "--help"])
    shown = capsys.readouterr().out
    fields = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(DreamTrainConfig)} - {"--offline"}
    fields |= {f"--offline.{field.name.replace('_', '-')}" for field in dataclasses.fields(OfflineConfig)}
    assert all(f"{option} " in shown for option in fields | set(RENAMED.values()))
    assert not fields & set(RENAMED)
