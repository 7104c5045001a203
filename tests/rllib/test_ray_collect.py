"""`lssvwm collect --ray` on a cluster of two nodes: every seed once, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lssvwm_rl.cli import main
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.data.verify import verify_store

pytestmark = pytest.mark.rllib

ROOT = Path(__file__).parents[2]
AGENT = "lssvwm_rl/assets/minigrid-loop/agent"
MORTAL = "support.mortal:Mortal-v0"


@pytest.fixture(scope="module")
def cluster():
    """The address of two nodes with a core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=os.pathsep)  # where the actors find `support`
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        yield nodes.address
        nodes.shutdown()


def collected(out: Path, env: str, episodes: int, *words: str) -> EpisodeStore:
    main(["collect", env, "--out", str(out), "--episodes", str(episodes), *words])
    return EpisodeStore(out)


def mortal(notes: Path, **seeds: list[int]) -> list[str]:
    notes.mkdir(exist_ok=True)
    words = [word for name, numbers in seeds.items() for word in (name, json.dumps(numbers))]
    return ["--env-kwargs", "notes", str(notes), *words]


def contents(store: EpisodeStore) -> dict[int, tuple]:
    """Everything of every episode, by its seed."""
    whole = {}
    for e in store:
        vectors = None if e.vectors is None else e.vectors.tobytes()
        arrays = (array.tobytes() for array in (e.frames, e.actions, e.rewards))
        whole[e.seed] = (*arrays, vectors, e.terminated, e.truncated)
    return whole


def test_killed_actors_leave_the_episodes_that_there_are_without_them(cluster, tmp_path):
    words = ["--num-envs", "2", "--vector", "pose", "--seed", "3", *mortal(tmp_path / "notes", once=[6, 19])]
    store = collected(tmp_path / "s", MORTAL, 24, *words, "--ray", cluster)
    assert sorted(store.seeds.tolist()) == list(range(3, 27)) and not verify_store(tmp_path / "s").damaged
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "s"], "no parts are left"
    processes = [path.name for path in (tmp_path / "notes").iterdir()]
    assert len(processes) == 4, "two of them were killed"
    assert len({name.split("-")[0] for name in processes}) == 2, "both nodes played"

    alone = collected(tmp_path / "alone", MORTAL, 24, *words)
    assert contents(store) == contents(alone) and store.header == alone.header
    more = collected(tmp_path / "s", MORTAL, 30, *words, "--ray", cluster)
    assert sorted(more.seeds[24:].tolist()) == list(range(27, 33))


def test_seeds_that_always_kill_are_a_sentence(cluster, tmp_path, capsys):
    words = [*mortal(tmp_path / "notes", always=[7]), "--num-envs", "1", "--ray", cluster]
    with pytest.raises(SystemExit) as stop:
        collected(tmp_path / "s", MORTAL, 8, *words)
    assert stop.value.code == 2
    assert "3 collectors were killed while they played the seeds 6 to 7" in capsys.readouterr().err
    assert EpisodeStore(tmp_path / "s").seeds.tolist() == list(range(6)), "parts that were finished are kept"


def test_what_an_environment_gives_wrong_is_the_sentence_of_one_process(cluster, tmp_path, capsys):
    said = []
    for words in ([], ["--ray", cluster]):
        with pytest.raises(SystemExit):
            collected(tmp_path / "s", "MiniGrid-MemoryS7-v0", 4, "--vector", "nowhere", "--num-envs", "1", *words)
        said.append(capsys.readouterr().err.splitlines()[-1])
    assert said[0] == said[1] and "nowhere" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_addresses_without_a_cluster_are_a_sentence(tmp_path, capsys):
    with socket.socket() as free, pytest.raises(SystemExit) as stop:
        free.bind(("127.0.0.1", 0))  # and nobody listens
        collected(tmp_path / "s", "MiniGrid-MemoryS7-v0", 2, "--ray", f"127.0.0.1:{free.getsockname()[1]}")
    assert stop.value.code == 2 and "There is no Ray cluster at '127.0.0.1:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_ends_early_loses_nothing_that_was_stored(cluster, tmp_path, number):
    words = ["MiniGrid-MemoryS7-v0", "--policy", "random", "--num-envs", "1", "--ray", cluster]
    command = ["collect", *words, "--out", str(tmp_path / "s"), "--episodes", "120"]
    with subprocess.Popen([sys.executable, "-m", "lssvwm_rl", *command], cwd=ROOT) as driver:
        while not list(tmp_path.glob("s-parts/part-*/shard-*")):
            assert driver.poll() is None, "it ended before it was stopped"
            time.sleep(0.02)
        driver.send_signal(number)
    assert driver.returncode == (143 if number == signal.SIGTERM else -9)
    if number == signal.SIGTERM:
        assert [p.name for p in tmp_path.iterdir()] == ["s"] and len(EpisodeStore(tmp_path / "s")) >= 1
    for attempt in range(60):  # until Ray has ended the actors of a driver that is no more
        try:
            main(command)
            break
        except SystemExit:
            assert attempt < 59
            time.sleep(0.5)
    assert sorted(EpisodeStore(tmp_path / "s").seeds.tolist()) == list(range(120))
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_policy_on_memory_is_loaded_by_its_path(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = "--policy", AGENT, "--num-envs", "2"
    store = collected(tmp_path / "s", "MiniGrid-MemoryS7-v0", 4, *words, "--ray", cluster)
    assert store.seeds.tolist() == [0, 1, 2, 3] and store.header.policy == AGENT
    for seed in (0, 3):  # four parts of one episode
        alone = collected(tmp_path / f"alone{seed}", "MiniGrid-MemoryS7-v0", 1, *words, "--seed", str(seed))
        assert contents(alone)[seed] == contents(store)[seed]
