"""Environments as people bring them: shown as images, refused in a sentence, or remembered as they are."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import Autoreset
from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper, RGBImgObsWrapper, SymbolicObsWrapper, ViewSizeWrapper

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.make import env_spec_json, image_envs, import_module_of, make_image_env
from lssvwm_envs.memory_maze.vector import MemoryMazeVectorEnv
from lssvwm_envs.rows import row_of
from lssvwm_envs.wrappers import MemoryObservation, VectorMemoryObservation
from support.peculiar import LENGTH, OwnMaze, Peculiar, peculiar

GRIDS = {
    "Own": OwnMaze,
    "OwnFull": lambda **kwargs: FullyObsWrapper(OwnMaze(size=8, **kwargs)),
    "OwnPixels": lambda **kwargs: RGBImgObsWrapper(OwnMaze(size=8, **kwargs), tile_size=4),
    "OwnCodes": lambda **kwargs: ImgObsWrapper(OwnMaze(**kwargs)),
    "OwnSymbols": lambda **kwargs: SymbolicObsWrapper(OwnMaze(**kwargs)),
    "OwnView": lambda **kwargs: ViewSizeWrapper(OwnMaze(**kwargs), agent_view_size=5),
}
LIARS = {
    "(16, 16, 3) float64": lambda frame: frame / 255,
    "(16, 16, 3) int64": lambda frame: frame.astype(np.int64),
    "(16, 16, 4) uint8": lambda frame: np.concatenate([frame, frame[..., :1]], -1),
    "(32, 16, 3) uint8": lambda frame: np.repeat(frame, 2, 0),
    "a list": lambda frame: frame.tolist(),
}


@pytest.fixture
def registered():
    """Registers an id, until the test is over."""
    ids: list[str] = []

    def register(name, entry_point, **settings):
        gym.register(f"{name}-v0", entry_point, disable_env_checker=True, **settings)
        ids.append(f"{name}-v0")
        return ids[-1]

    yield register
    for each in ids:
        del gym.registry[each]


def test_own_minigrids_under_any_id_are_seen_as_pixels(registered):
    partial = make_image_env(registered("Own", GRIDS["Own"]))
    observation, info = partial.reset(seed=0)
    assert np.array_equal(observation, partial.unwrapped.get_frame(tile_size=8, agent_pov=True))
    assert observation.shape == (56, 56, 3) and info["pose"].shape == (4,)
    full = make_image_env(registered("OwnFull", GRIDS["OwnFull"]))
    observation, _ = full.reset(seed=0)
    assert np.array_equal(observation, full.unwrapped.get_frame(tile_size=8))
    pixels = make_image_env(registered("OwnPixels", GRIDS["OwnPixels"]))
    observation, _ = pixels.reset(seed=0)
    assert np.array_equal(observation["image"], pixels.unwrapped.get_frame(tile_size=4))


@pytest.mark.parametrize("name", ["OwnCodes", "OwnSymbols", "OwnView"])
def test_codes_that_cannot_be_shown_are_refused(registered, name):
    with pytest.raises(ValueError, match="Wrapper makes of .* is codes, not pixels; leave that out, or put RGBImg"):
        make_image_env(registered(name, GRIDS[name]))


@pytest.mark.parametrize("got", LIARS)
@pytest.mark.parametrize("after", [0, 3])
def test_images_that_are_not_as_declared(registered, got, after):
    """From the first frame on, or all of a sudden."""

    class Liar(Peculiar):
        def _observe(self):
            frame = super()._observe()
            return LIARS[got](frame) if self.t >= after else frame

    sentence = f"declares images (16, 16, 3) uint8 and gives {'list' if got == 'a list' else got}; let it give"
    for envs in (make_image_env(registered("Liar", Liar)), image_envs("Liar-v0")(2)):
        with pytest.raises(ValueError) as said:
            envs.reset(seed=0)
            for _ in range(LENGTH):
                envs.step(envs.action_space.sample())
        assert sentence in str(said.value)
        envs.close()


def test_what_cannot_be_written_down_is_said_once(registered):
    for name, entry, kwargs in (
        ("ByClass", Peculiar, {}),
        ("ByArray", "support.peculiar:Peculiar", {"poses": {0: np.zeros(2)}}),
    ):
        env = make_image_env(registered(name, entry, kwargs=kwargs))
        with pytest.warns(RuntimeWarning, match=f"How {name}-v0 is made cannot be written down"):
            assert env_spec_json(env) is None
    plain = registered("Plain", "support.peculiar:Peculiar")
    written = env_spec_json(make_image_env(plain))
    assert written is not None and gym.envs.registration.EnvSpec.from_json(written) == gym.make(plain).spec


def test_modules_are_looked_for_here_only_if_asked(tmp_path, monkeypatch):
    (tmp_path / "lies_here_only.py").write_text("import gymnasium\nFOUND = True\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path not in ("", str(tmp_path))])
    for attempt in (import_module_of, make_image_env, lambda env_id: image_envs(env_id)(1)):
        with pytest.raises(
            gym.error.Error, match="no module 'lies_here_only', which .* needs; go to its folder, or put"
        ):
            attempt("lies_here_only:X-v0")
    import_module_of("lies_here_only:X-v0", also_here=True)
    with pytest.raises(gym.error.Error, match="no module 'nor_here'"):
        import_module_of("nor_here:X-v0", also_here=True)


def test_memory_forgets_where_an_environment_resets_itself(worlds):
    """Frames in the memory are those of the episode, and an observation is that of the frames alone."""
    env = MemoryObservation(Autoreset(Peculiar()), worlds["discrete"])
    seen = [env.reset(seed=0)[0]]
    counts, frames = [1], [env._frames]
    for t in range(2 * LENGTH + 1):
        observation, *_ = env.step(t % 3)
        seen.append(observation)
        counts.append(int(env._memory.frames))
        frames.append(env._frames)
    assert counts == [1, 2, 3, 4, 5, 6] * 2
    blank, _ = env._reader.blank(1)
    first = env._reader.observe(env._reader.commit(blank, frames[6], None, None), frames[6])
    assert np.array_equal(seen[6], first[0])


def test_states_keep_that_an_episode_has_ended(worlds):
    env = MemoryObservation(Autoreset(Peculiar()), worlds["discrete"])
    env.reset(seed=0)
    for _ in range(LENGTH):
        env.step(1)
    state = env.get_state()
    assert state.ended.tolist() == [True]
    expected = env.step(2)[0]
    assert int(env._memory.frames) == 1
    env.step(0)
    env.set_state(state)
    assert np.array_equal(env.step(2)[0], expected) and int(env._memory.frames) == 1


@pytest.mark.parametrize("kind", ["memory", "both"])
def test_other_keys_are_kept_on_request(worlds, kind):
    keep = ("mission", "speed")
    single = MemoryObservation(Peculiar(texts=True), worlds["discrete"], kind, keep=keep)
    observation, _ = single.reset(seed=0)
    assert set(observation) == {*keep, "memory"} | ({"image"} if kind == "both" else set())
    assert single.observation_space.contains(observation) and observation["mission"] == "GoToTheBall"
    assert single.observation_space.contains(single.step(0)[0])
    plain = MemoryObservation(Peculiar(texts=True), worlds["discrete"], "memory")
    assert np.array_equal(plain.reset(seed=0)[0], MemoryObservation(Peculiar(texts=True), worlds["discrete"],
                                                                     keep=keep).reset(seed=0)[0]["memory"])  # fmt: skip
    envs = VectorMemoryObservation(
        peculiar(2, AutoresetMode.SAME_STEP, texts=True), worlds["discrete"], kind, keep=keep
    )
    observation, _ = envs.reset(seed=0)
    for t in range(1, LENGTH + 1):
        assert envs.observation_space.contains(observation)
        observation, *_, info = envs.step([0, 1])
        assert observation["speed"].tolist() == [[t % LENGTH] * 2] * 2
    for last in info["final_obs"]:
        assert envs.single_observation_space.contains(last) and last["speed"].tolist() == [LENGTH] * 2
    assert row_of(observation, 0)["mission"] == "GoToTheBall"


def test_keys_that_cannot_be_kept(worlds):
    for keep in (["misson"], ["frame"]):
        with pytest.raises(ValueError, match=f"no '{keep[0]}' to keep in Dict.*; use mission, speed"):
            MemoryObservation(Peculiar(texts=True), worlds["discrete"], keep=keep)
    with pytest.raises(ValueError, match="to keep in Box.*; use none"):
        MemoryObservation(Peculiar(), worlds["discrete"], keep=["speed"])
    with pytest.raises(ValueError, match="keep is the text 'speed'; give a list"):
        MemoryObservation(Peculiar(texts=True), worlds["discrete"], keep="speed")


def test_memories_are_not_made_of_images_that_lie(worlds):
    env = MemoryObservation(Peculiar(gives=LIARS["(16, 16, 3) float64"]), worlds["discrete"])
    with pytest.raises(ValueError, match=r"declares images \(16, 16, 3\) uint8 and gives \(16, 16, 3\) float64"):
        env.reset(seed=0)


def test_dreams_find_what_was_named_wherever_the_process_goes(worlds, tmp_path, monkeypatch):
    expected = DreamEnv(worlds["discrete"], denoise_steps=1).reset(seed=0)[0]
    (tmp_path / "here").symlink_to(worlds["discrete"])
    monkeypatch.chdir(tmp_path)
    envs = [DreamEnv("here", denoise_steps=1), DreamEnv("here", denoise_steps=1, contexts="here/contexts")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for env in envs:
        assert np.array_equal(env.reset(seed=0)[0], expected)


def test_mazes_show_nothing_before_their_first_reset():
    settings = {"size": 5, "image_size": 16, "render_mode": "rgb_array"}
    single, envs = gym.make("lssvwm/MemoryMaze-5x5-v0", **settings).unwrapped, MemoryMazeVectorEnv(2, **settings)
    for each in (single, envs):
        for show in (each.render, each.surfaces):
            with pytest.raises(ResetNeeded, match=rf"not begun; call reset\(\) before {show.__name__}\(\)"):
                show()
    half = {"reset_mask": np.array([True, False])}
    before = [generator.bit_generator.state for generator in envs._rows.generators]
    with pytest.raises(ResetNeeded, match=r"rows \[1\] have not begun; reset all rows before some"):
        envs.reset(seed=4, options=half)
    assert before == [generator.bit_generator.state for generator in envs._rows.generators], "nothing is changed"
    envs.reset(seed=4)
    envs.reset(options=half)
    assert len(envs.render()) == len(envs.surfaces()) == 2
