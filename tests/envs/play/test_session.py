"""Sessions without any web: rewinding, forking, switching from the real environment to the dream, bounds."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
from gymnasium.error import InvalidAction

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.play.moments import KeptStates, Moment
from lssvwm_envs.play.session import ALONE, FUTURES, Session
from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from support.fp64 import fp64_models
from support.played import REAL, session_of
from support.programs import bits
from support.small_checkpoints import NEVER, save_checkpoint

ACTIONS = [2, 0, 1, 2, 2, 0]


@pytest.fixture(scope="module")
def endless(tmp_path_factory) -> str:
    """A checkpoint whose dreams do not end, of an environment that is not installed."""
    return save_checkpoint(tmp_path_factory.mktemp("endless"), "discrete", ends=NEVER)


def frames_of(session: Session) -> list[np.ndarray]:
    return [moment.frame for moment in session.shown.moments]


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("limit", "near", "left"), [(0, 0.0, 1), (10**9, 0.0, 8), (10**9, math.inf, 5)])
def test_rewound_dreams_go_on_with_the_same_bits(endless, limit, near, left):
    """Also where states were let go, or never stayed, and are computed again, over a fork and a change of passes."""
    session = session_of(endless)
    session.kept = KeptStates(limit, near)
    for action in ACTIONS[:3]:
        session.act(action)
    session.fork()
    session.change(denoise_steps=3)
    for action in ACTIONS[3:]:
        session.act(action)
    before, state = frames_of(session), session.dreamer.state_at(session.shown, session.kept)
    for at in (5, 4, 1):
        session.look_at(at)
        assert session.shown.at == at and np.array_equal(session.shown.now.frame, before[at])
    session.look_at(4)
    for action in ACTIONS[4:]:
        session.act(action)
    assert same(frames_of(session), before)
    again = session.dreamer.state_at(session.shown, session.kept)
    assert bits(again.memory.tensors()) == bits(state.memory.tensors())
    assert bits(again.noise) == bits(state.noise) and again.np_random == state.np_random
    assert len(session.kept) == left


def test_states_stay_where_it_takes_long_to_compute_them_again(endless):
    """Of steps of 0.4 s each, with states that stay at least 1 s apart, every third; and the last one."""
    session = session_of(endless)
    kept, moments = KeptStates(near=1.0), [session.shown.now]
    state = session.dreamer.state_at(session.shown, session.kept)
    kept.put(moments[0], 0, state)
    for place in range(1, 9):
        moments.append(Moment(state.frame, "dream"))
        kept.follow(*moments[-2:], place, state, 0.4)
    assert [place for place, moment in enumerate(moments) if kept.get(moment) is not None] == [0, 3, 6, 8]


def test_acting_after_rewinding_replaces_what_came_after(endless):
    session = session_of(endless)
    for action in ACTIONS:
        session.act(action)
    before = frames_of(session)
    session.look_at(2)
    session.act((ACTIONS[2] + 1) % 3)
    assert len(frames_of(session)) == 4 and same(frames_of(session)[:3], before[:3])
    assert not np.array_equal(frames_of(session)[3], before[3])


def test_forks_share_the_past_and_have_futures_of_their_own(endless):
    session = session_of(endless)
    for action in ACTIONS[:3]:
        session.act(action)
    session.look_at(2)
    session.fork()
    session.fork()
    session.drive_together(True)
    for action in ACTIONS[2:]:
        session.act(action)
    ours = [[moment.frame for moment in line.moments] for line in session.futures]
    assert all(same(each[:3], ours[0][:3]) for each in ours)
    assert not any(np.array_equal(ours[i][3], ours[j][3]) for i, j in ((0, 1), (0, 2), (1, 2)))
    session.drive_together(False)
    session.select(0)
    session.act(1)
    assert [len(line.moments) for line in session.futures] == [8, 7, 7]
    session.close(1)
    session.close(1)
    assert [line.name for line in session.futures] == ["Dream 1"] and session.selected == 0
    with pytest.raises(ValueError, match="One future stays"):
        session.close(0)
    with pytest.raises(ValueError, match="no future of that number"):
        session.select(1)


def test_as_many_futures_as_fit(endless):
    session = session_of(endless)
    for _ in range(FUTURES - 1):
        session.fork()
    with pytest.raises(ValueError, match=f"{FUTURES} futures are held"):
        session.fork()


def test_a_dream_goes_on_from_the_real_episode_with_its_memory(checkpoint):
    """As a dream that was given all frames and actions of the real episode at once; in fp64, up to rounding."""
    with fp64_models():
        session = session_of(checkpoint, "real", REAL, seed=5)
        for action in (2, 0, 2):
            session.act(action)
        session.set_mode("dream")
        session.act(1)
        reference = DreamEnv(checkpoint, denoise_steps=2)
        real = session.real.moments
        context = np.stack([moment.frame for moment in real]), np.array([2, 0, 2])
        reference.reset(seed=5, options={"context": context})
        frame, reward, *_ = reference.step(1)
        assert session.shown.now.source == "dream" and session.shown.now.steps == 1 and session.shown.at == 4
        assert np.array_equal(session.shown.now.frame, frame)
        assert abs(session.shown.now.reward - reward) < 1e-6
        ours = session.dreamer.state_at(session.shown, session.kept).memory.tensors()
        for name, theirs in reference.get_state().memory.tensors().items():
            assert (ours[name] - theirs).abs().max() < 1e-10, name


def test_real_and_dream_side_by_side(checkpoint):
    session = session_of(checkpoint, real=REAL)
    assert session.mode == "both"
    for action in (0, 1, 0):
        session.act(action)
    real, dream = session.panels()
    assert (real.line.at, dream.line.at) == (3, 3)
    assert [moment.source for moment in real.line.moments] == ["real"] * 4
    assert [moment.source for moment in dream.line.moments] == ["real", "dream", "dream", "dream"]
    session.look_at(1)
    assert [panel.line.at for panel in session.panels()] == [1, 1]
    session.act(0)
    assert session.mode == "dream" and session.notice == ALONE and len(session.real.moments) == 4
    session.set_mode("both")
    assert [panel.line.at for panel in session.panels()] == [3, 3] and session.panels()[1].line.now.source == "real"


def test_the_real_line_can_be_computed_again_too(checkpoint):
    session = session_of(checkpoint, "real", REAL)
    for action in (0, 1, 0, 0):
        session.act(action)
    state = session.dreamer.state_at(session.real, session.kept)
    session.kept.let_go(session.real.moments)
    again = session.dreamer.state_at(session.real, session.kept)
    assert bits(again.memory.tensors()) == bits(state.memory.tensors()) and bits(again.noise) == bits(state.noise)


def test_horizon_and_end_stop_a_dream(endless, tmp_path):
    session = session_of(endless, horizon=2)
    session.act(0)
    session.act(0)
    with pytest.raises(ValueError, match="horizon of 2 steps"):
        session.act(0)
    session.change(horizon=3)
    session.act(0)
    ending = session_of(save_checkpoint(tmp_path, "discrete", ends=-NEVER))
    ending.act(0)
    assert ending.shown.now.terminated and ending.shown.now.end > 0.5
    with pytest.raises(ValueError, match="has ended; rewind"):
        ending.act(0)


def test_seeds_choose_worlds(checkpoint):
    first, again, other = (session_of(checkpoint, "real", REAL, seed=seed) for seed in (3, 3, 4))
    assert same(frames_of(first), frames_of(again))
    first.begin_next()
    assert first.settings.seed == 4 and same(frames_of(first), frames_of(other))


def test_a_checkpoint_without_episodes_begins_in_its_environment(checkpoint, tmp_path):
    shutil.copytree(resolve_checkpoint(checkpoint), tmp_path / "alone", ignore=shutil.ignore_patterns("contexts"))
    (tmp_path / "alone" / "env.json").write_text(REAL.spec_json())
    session = session_of(str(tmp_path / "alone"))
    with REAL.make() as env:
        assert np.array_equal(session.shown.moments[0].frame, env.reset(seed=0)[0])
    session.act(0)
    assert session.mode == "both" and session.real.at == session.shown.at == 1


def test_a_checkpoint_without_episodes_and_environment_waits_for_a_picture(tmp_path):
    session = session_of(save_checkpoint(tmp_path, "grey", contexts=False))
    assert session.shown is None and not session.panels() and "picture or a state file" in session.notice
    for does in (lambda: session.act(0), session.fork, session.save, session.video):
        with pytest.raises(ValueError, match="Nothing has begun yet"):
            does()
    with pytest.raises(ValueError, match=r"\(16, 16, 3\) uint8 does not fit"):
        session.begin_with(np.zeros((16, 16, 3), np.uint8))
    session.begin_with(np.full((16, 16, 1), 9, np.uint8))
    session.act(1)
    assert session.shown.at == 1 and session.shown.moments[0].frame.max() == 9


@pytest.mark.parametrize("value", [7, -1, 1.5, "left", None, [0], {"a": 1}, 10**30, float("nan")])
def test_what_is_no_action_changes_nothing(endless, value):
    session = session_of(endless)
    with pytest.raises(InvalidAction):
        session.act(value)
    assert session.shown.at == 0


@pytest.mark.parametrize(
    "settings", [{"horizon": 0}, {"denoise_steps": 33}, {"seed": -1}, {"horizon": True}, {"seed": 1.0}, {"seed": "1"}]
)
def test_settings_out_of_range_change_nothing(endless, settings):
    session = session_of(endless)
    before = session.settings
    with pytest.raises(ValueError, match="must be a whole number from"):
        session.change(**settings)
    assert session.settings is before


def test_modes_and_moments_that_are_none(endless):
    session = session_of(endless)
    with pytest.raises(ValueError, match="no real environment"):
        session.set_mode("real")
    with pytest.raises(ValueError, match="no mode of that name"):
        session.set_mode("awake")
    with pytest.raises(ValueError, match="whole number"):
        session.look_at("3")
    with pytest.raises(ValueError, match="start `lssvwm play` with --out"):
        session.record(True)
