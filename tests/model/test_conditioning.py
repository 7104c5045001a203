"""Actions of a Box are told as far apart, before anything is learnt, as Discrete ones are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lssvwm_rl.model.conditioning import ActionEmbedding
from lssvwm_rl.spaces import space_to_json

WIDTH = 64


def spread(space, actions):
    """Mean variance of the embedding's numbers over actions (N[, A])."""
    torch.manual_seed(0)
    embedding = ActionEmbedding(space_to_json(space), WIDTH)
    with torch.no_grad():
        embedded = embedding(actions[None], torch.zeros(1, len(actions), dtype=torch.bool))
    return float(embedded[0].var(dim=0).mean())


@pytest.mark.parametrize("size", [1, 2, 6])
def test_actions_of_a_box_differ_as_much_as_discrete_ones(size):
    low, high = np.full(size, -2.0, np.float32), np.full(size, 6.0, np.float32)
    draw = torch.rand(5_000, size, generator=torch.Generator().manual_seed(1))
    box = spread(spaces.Box(low, high), 8 * draw - 2)
    discrete = spread(spaces.Discrete(500), torch.arange(500))
    assert box == pytest.approx(discrete, rel=0.15)


def test_weights_of_a_box_have_the_names_and_shapes_of_earlier_checkpoints():
    embedding = ActionEmbedding(space_to_json(spaces.Box(-1, 1, (2,))), WIDTH)
    shapes = {name: tuple(weight.shape) for name, weight in embedding.state_dict().items()}
    assert shapes == {
        "null": (WIDTH,),
        "embed.0.weight": (WIDTH, 2),
        "embed.0.bias": (WIDTH,),
        "embed.2.weight": (WIDTH, WIDTH),
        "embed.2.bias": (WIDTH,),
    }
