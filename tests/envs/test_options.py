"""What data was made with holds for what comes after, unless something else is said, which is warned of."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from functools import partial

import gymnasium as gym
import pytest

from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import (
    EnvOptions,
    difference,
    known_setup,
    setup_of_checkpoint,
    setup_of_header,
    setup_of_store,
)
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.policy import RandomPolicy

KNOWN = EnvSetup("MiniGrid-MemoryS7-v0", {"max_steps": 7}, resize=(28, 28), seeds=("0:9",))
PLAIN = StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0})


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def pictures():
    gym.register("Pictures-v0", "support.pictures:Pictures", disable_env_checker=True)
    yield "Pictures-v0"
    del gym.registry["Pictures-v0"]


def test_what_is_not_said_is_as_it_was(quiet):
    for named in (None, KNOWN.env_id):
        assert EnvOptions().setup(named, KNOWN) == KNOWN
    assert EnvOptions().setup("MiniGrid-Empty-5x5-v0") == EnvSetup("MiniGrid-Empty-5x5-v0")
    assert EnvOptions(seeds=("9:12",)).setup(None, KNOWN) == dataclasses.replace(KNOWN, seeds=("9:12",)), "no warning"
    given = EnvOptions(env_kwargs={"max_steps": "7"}, resize=(28, 28))
    assert given.setup(None, KNOWN) == KNOWN and given.given and not EnvOptions().given


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EnvOptions(env_kwargs={"max_steps": "9"}), "with max_steps 7, not 9."),
        (EnvOptions(env_kwargs={"agent_view_size": "5"}), "with agent_view_size its default, not 5."),
        (EnvOptions(max_episode_steps=4), "with max_episode_steps its default, not 4."),
        (EnvOptions(resize=(14, 14)), r"with resize \[28, 28\], not \[14, 14\]."),
        (EnvOptions(image="rgb"), 'with image its default, not "rgb".'),
    ],
)
def test_a_difference_is_warned_of_in_one_sentence(options, said):
    with pytest.warns(RuntimeWarning, match=f"^The data of runs/a is of MiniGrid-MemoryS7-v0 {said}$") as warned:
        setup = options.setup(None, KNOWN, "the data of runs/a")
    assert len(warned) == 1 and setup.seeds == KNOWN.seeds
    assert {**KNOWN.kwargs, **setup.kwargs} == dict(setup.kwargs), "all else is as it was"


def test_another_environment_takes_nothing_over():
    with pytest.warns(RuntimeWarning, match="^The data is of MiniGrid-MemoryS7-v0, not MiniGrid-Empty-5x5-v0.$"):
        assert EnvOptions().setup("MiniGrid-Empty-5x5-v0", KNOWN) == EnvSetup("MiniGrid-Empty-5x5-v0")
    assert difference(KNOWN, dataclasses.replace(KNOWN, env_id="some.module:MiniGrid-MemoryS7-v0")) is None


def test_what_others_decide_is_not_warned_of(quiet):
    EnvOptions(env_kwargs={"max_steps": "9"}).setup(None, KNOWN, free=("max_steps",))


def test_environments_that_are_not_known_or_not_here():
    with pytest.raises(ValueError, match="environment of runs/a is not known; name one with --env"):
        EnvOptions().setup(None, None, "runs/a")
    with pytest.raises(ValueError, match="of the data, Gone-v0, is not registered here; .* as module:Gone-v0"):
        EnvOptions().setup(None, EnvSetup("Gone-v0"))
    with pytest.raises(gym.error.Error, match="no module 'nowhere_at_all'"):
        EnvOptions().setup("nowhere_at_all:Gone-v0")


@pytest.mark.parametrize("bad", [{"max_episode_steps": 0}, {"resize": (0, 4)}, {"seeds": ("a",)}])
def test_options_out_of_range(bad):
    with pytest.raises(ValueError, match="use at least 1|at least 1|names no seeds"):
        EnvOptions(**bad)


def test_stores_say_all_of_it(pictures, tmp_path):
    setup = EnvSetup(pictures, {"shapes": {"a": [3, 8, 6], "b": [9, 9]}, "max_episode_steps": 3}, "a", (4, 3), ("5:8",))
    store = collect(
        setup.make_many, lambda envs, seed: RandomPolicy(envs.single_action_space, seed), tmp_path / "contexts", 4, 2,
        env_spec=setup.spec_json(),
    )  # fmt: skip
    assert store.header.frame_shape == (4, 3, 3) and store.lengths.tolist() == [3] * 4
    assert setup_of_store(tmp_path / "contexts") == setup == setup_of_checkpoint_at(tmp_path)
    assert setup_of_store(tmp_path / "none") is None and setup_of_header(PLAIN) is None


def test_a_checkpoint_without_episodes_says_it_in_a_file(pictures, tmp_path):
    setup = EnvSetup(pictures, {"shapes": {"a": [3, 8, 6], "b": [9, 9]}}, "a", (4, 3), ("5:8",))
    assert setup_of_checkpoint_at(tmp_path) is None
    (tmp_path / "env.json").write_text(setup.spec_json())
    assert setup_of_checkpoint_at(tmp_path) == setup
    (tmp_path / "env.json").write_text('{"id": "os:system", "kwargs": {}}')
    with pytest.raises(ValueError, match="names an environment by the code 'os:system'"):
        setup_of_checkpoint_at(tmp_path)


def setup_of_checkpoint_at(folder):
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    return setup_of_checkpoint(folder)


def test_registered_limits_are_no_argument(pictures):
    gym.registry[pictures].max_episode_steps = 5
    for limit, known in ((5, {}), (6, {"max_episode_steps": 6})):
        setup = EnvSetup(pictures, {"max_episode_steps": limit})
        assert setup_of_header(dataclasses.replace(PLAIN, env_spec=setup.spec_json())) == EnvSetup(pictures, known)


def test_functions_around_an_environment_do_not_keep_it_from_being_written_down(quiet):
    setup = EnvSetup("lssvwm/PixelPendulum-v0", {"image_size": 32})
    assert setup_of_header(dataclasses.replace(PLAIN, env_spec=setup.spec_json())) == setup


def test_nothing_is_made_because_a_file_says_so(tmp_path, monkeypatch):
    """What an EnvSpec has around the environment names code: its arguments are read, it is not."""
    (tmp_path / "evil_wrapper.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    wrapper = {"name": "AsImage", "entry_point": "evil_wrapper:AsImage", "kwargs": {"image": None, "resize": [9, 9]}}
    spec = {"id": "MiniGrid-Empty-5x5-v0", "kwargs": {}, "additional_wrappers": [wrapper]}
    setup = setup_of_header(dataclasses.replace(PLAIN, env_spec=json.dumps(spec)))
    assert setup == EnvSetup("MiniGrid-Empty-5x5-v0", resize=(9, 9))
    setup.make().close()
    assert not (tmp_path / "ran").exists() and "evil_wrapper" not in sys.modules
    with pytest.raises(ValueError, match="not imported because a file says so"):
        setup_of_header(dataclasses.replace(PLAIN, env_spec=json.dumps({**spec, "id": "evil_wrapper:X-v0"})))


def test_a_file_that_names_code_says_nothing_beside_a_named_environment(quiet):
    spec = json.dumps({"id": "MiniGrid-Empty-5x5-v0", "kwargs": {"map": "folder:map"}})
    read = partial(setup_of_header, dataclasses.replace(PLAIN, env_spec=spec))
    with pytest.raises(ValueError, match="names an environment by the code 'folder:map'"):
        known_setup(None, read)
    with pytest.warns(RuntimeWarning, match="the code 'folder:map'.* Only what is given here holds."):
        assert known_setup("MiniGrid-Empty-5x5-v0", read) is None
    assert known_setup(None, lambda: KNOWN) == KNOWN


@pytest.mark.parametrize(
    "around",
    [
        {"name": "AsImage", "kwargs": {"resize": 3}},
        {"name": "AsImage", "kwargs": {"resize": ["x", "y"]}},
        {"name": "GivenSeeds", "kwargs": {"seeds": ["x"]}},
        {"name": "GivenSeeds", "kwargs": {"seeds": 4}},
        {"kwargs": {}},
        7,
    ],
)
def test_broken_specs_are_a_sentence(around):
    spec = {"id": "MiniGrid-Empty-5x5-v0", "kwargs": {}, "additional_wrappers": [around]}
    with pytest.raises(ValueError, match="cannot be used .*; name it with --env"):
        setup_of_header(dataclasses.replace(PLAIN, env_spec=json.dumps(spec)))
