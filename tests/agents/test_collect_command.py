"""`lssvwm collect` of environments and with policies as people have them."""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream
from lssvwm_rl.cli import main
from lssvwm_rl.data.store import EpisodeStore
from support.peculiar import LENGTH, Peculiar, peculiar_checkpoint

IDS = {"Five-v0": {}, "Endless-v0": {"ends": False}}
TRAIN = DreamTrainConfig(total_steps=16, num_envs=2, rollout_steps=8, batch_size=8, denoise_steps=1, horizon=4)


@pytest.fixture(scope="module", autouse=True)
def registered():
    for name, settings in IDS.items():
        gym.register(name, lambda settings=settings, **kwargs: Peculiar(**settings, **kwargs))
    yield
    for name in IDS:
        del gym.registry[name]


@pytest.fixture(scope="module")
def agent(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a policy that was trained in dreams, and the checkpoint."""
    folder = tmp_path_factory.mktemp("agent")
    checkpoint = peculiar_checkpoint(folder / "model")
    train_in_dream(checkpoint, TRAIN, folder / "policy")
    return folder / "policy", checkpoint


@pytest.fixture
def collected(tmp_path):
    def run(env: str, episodes: int, *words: str) -> EpisodeStore:
        main(["collect", env, "--out", str(tmp_path / "s"), "--episodes", str(episodes), *words])
        return EpisodeStore(tmp_path / "s")

    return run


@pytest.mark.filterwarnings("ignore:How .* is made cannot be written down")
def test_trained_agents_play_with_the_memory_they_were_trained_with(agent, collected):
    words = "--policy", str(agent[0]), "--num-envs", "2"
    first = [episode.actions.tobytes() for episode in collected("Five-v0", 4, *words)]
    store = collected("Five-v0", 12, *words)
    actions = [episode.actions.tobytes() for episode in store]
    assert actions[:4] == first and len(set(actions)) > 8, "what is drawn is not drawn again"
    assert {int(action) for episode in store for action in episode.actions} == {0, 1, 2}


@pytest.mark.filterwarnings("ignore:How .* is made cannot be written down")
def test_agents_whose_model_has_moved_or_is_another(agent, collected, tmp_path, capsys):
    policy, checkpoint = agent
    shutil.copytree(checkpoint, tmp_path / "moved")
    assert len(collected("Five-v0", 2, "--policy", str(policy), "--checkpoint", str(tmp_path / "moved"))) == 2
    for other, sentence in (
        ("minigrid-memory", "the memory has"),
        (str(tmp_path / "missing"), "There is no checkpoint"),
    ):
        with pytest.raises(SystemExit):
            collected("Five-v0", 4, "--policy", str(policy), "--checkpoint", other)
        assert sentence in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:How .* is made cannot be written down")
def test_episodes_without_end_can_be_cut(collected):
    store = collected("Endless-v0", 3, "--max-episode-steps", "7")
    assert store.lengths.tolist() == [7] * 3 and all(episode.truncated for episode in store)
    assert collected("Endless-v0", 3, "--max-episode-steps", "7").lengths.tolist() == [7] * 3, "the store goes on"


def test_vector_forms_are_cut_too(collected):
    words = "--max-episode-steps", "3", "--env-kwargs", "image_size", "16"
    assert collected("lssvwm/MemoryMaze-5x5-v0", 2, *words).lengths.tolist() == [3, 3]


def test_environments_that_cannot_be_written_down_are_collected(collected):
    with pytest.warns(RuntimeWarning, match="How Five-v0 is made cannot be written down") as said:
        store = collected("Five-v0", 2)
    assert len(store) == 2 and store.header.env_spec is None and len(said) == 1


@pytest.mark.filterwarnings("ignore:How .* is made cannot be written down")
def test_training_on_one_episode_is_said_before(collected, tmp_path):
    collected("Five-v0", 1)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()  # so that no training follows
    with pytest.warns(RuntimeWarning, match="has 1 episode, and none is held out .*; collect at least two"):
        with pytest.raises(SystemExit):
            main(["train", "--data", str(tmp_path / "s"), "--out", str(tmp_path / "taken"), "--steps", "1"])
    collected("Five-v0", 2)
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        warnings.simplefilter("error")
        main(["train", "--data", str(tmp_path / "s"), "--out", str(tmp_path / "taken"), "--steps", "1"])


def test_modules_beside_the_caller_are_found(collected, tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text(
        'import gymnasium\ngymnasium.register("Mine-v0", "support.peculiar:Peculiar")\n'
    )
    monkeypatch.chdir(tmp_path)
    assert collected("my_module:Mine-v0", 2).lengths.tolist() == [LENGTH] * 2
    del gym.registry["Mine-v0"]


def test_modules_that_are_nowhere(collected, capsys):
    with pytest.raises(SystemExit):
        collected("no_such_module_here:Mine-v0", 2)
    assert "There is no module 'no_such_module_here'" in capsys.readouterr().err


def test_rewards_without_end_are_a_sentence(collected, capsys, tmp_path):
    gym.register("Bad-v0", "support.peculiar:Peculiar", kwargs={"rewards": {2: float(np.inf)}})
    with pytest.raises(SystemExit):
        collected("Bad-v0", 2)
    del gym.registry["Bad-v0"]
    assert "The reward at step 2 of episode 0 (seed 0) is inf" in capsys.readouterr().err


def test_ray_that_is_not_installed_or_not_there_is_a_sentence(collected, capsys, monkeypatch, tmp_path):
    for words, ray, said in (
        (["--ray", "one", "two"], None, "--ray takes one address, got one two"),
        (["--ray"], None, 'pip install "lssvwm-rl[ray]"'),
    ):
        monkeypatch.setitem(sys.modules, "ray", ray)
        with pytest.raises(SystemExit) as stop:
            collected("MiniGrid-MemoryS7-v0", 2, *words)
        assert stop.value.code == 2 and said in capsys.readouterr().err and not (tmp_path / "s").exists()
