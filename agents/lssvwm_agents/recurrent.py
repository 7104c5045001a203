"""Policies with an LSTM, from sb3-contrib, which is an extra: it is imported only where such a policy is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium.error import DependencyNotInstalled
from stable_baselines3.common.policies import ActorCriticPolicy

if TYPE_CHECKING:
    from sb3_contrib import RecurrentPPO


def recurrent_ppo() -> type[RecurrentPPO]:
    """The class of sb3-contrib.

    Raises:
        gymnasium.error.DependencyNotInstalled: if it is not installed.
    """
    try:
        from sb3_contrib import RecurrentPPO
    except ImportError as error:
        raise DependencyNotInstalled(
            f'Recurrent policies need an extra ({error}); run `pip install "lssvwm-rl[baselines]"`.'
        ) from error
    return RecurrentPPO


def recurrent_policies() -> dict[str, type[ActorCriticPolicy]]:
    """The recurrent policies that can be saved, by the names that sb3-contrib gives them.

    Raises:
        gymnasium.error.DependencyNotInstalled: if it is not installed.
    """
    aliases: Any = recurrent_ppo().policy_aliases
    return dict(aliases)


def lstm_kwargs(policy: ActorCriticPolicy) -> dict[str, Any] | None:
    """The arguments that make the LSTMs of a policy again; None if it has none."""
    lstm = getattr(policy, "lstm_actor", None)
    if lstm is None:
        return None
    found: Any = policy
    return {
        "lstm_hidden_size": lstm.hidden_size,
        "n_lstm_layers": lstm.num_layers,
        "shared_lstm": found.shared_lstm,
        "enable_critic_lstm": found.enable_critic_lstm,
        "lstm_kwargs": found.lstm_kwargs,
    }
