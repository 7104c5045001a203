"""Everything in a state is checked before anything is changed."""

from __future__ import annotations

from functools import partial

import pytest

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv
from support.broken_states import broken, whole


@pytest.mark.parametrize("kind", ["block_ssm", "window", "causal"])
def test_states_with_a_broken_part_change_nothing(untrained, kind):
    checkpoint = untrained(kind)
    env, envs = DreamEnv(checkpoint, denoise_steps=1), DreamVectorEnv(checkpoint, 2, denoise_steps=1)
    for each, action in ((env, 1), (envs, [1, 2])):
        each.reset(seed=3)
        each.step(action)
    before = [whole(env.get_state()), *(whole(envs.get_state(row)) for row in range(2))]
    for what, (state, sentence) in broken(env.get_state()).items():
        attempts = [partial(env.set_state, state), partial(envs.set_state, 1, state), partial(envs.fork, state, seed=9)]
        attempts += [partial(each.reset, seed=5, options={"state": state}) for each in (env, envs)]
        for attempt in attempts:
            with pytest.raises(ValueError, match=sentence):
                attempt()
        after = [whole(env.get_state()), *(whole(envs.get_state(row)) for row in range(2))]
        assert after == before, what
    for each in (env, envs):
        each.reset(seed=5, options={"state": env.get_state()})
