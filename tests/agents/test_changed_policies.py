"""A policy whose weights have a changed byte is refused; those of earlier versions are read."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO

from lssvwm_agents.policies import CONFIG_FILE, WEIGHTS_FILE, TrainingCost, load_policy, save_policy, set_cost
from lssvwm_rl.checked_text import CHECKSUMS, is_checked
from support.changed_bytes import one_bit_changed
from support.earlier import as_earlier_versions


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]})
    return model.policy.state_dict(), save_policy(model, tmp_path / "policy")


def same(folder, wanted) -> bool:
    found = load_policy(folder).policy.state_dict()
    return set(found) == set(wanted) and all(torch.equal(found[k], wanted[k]) for k in found)


def test_a_changed_byte_is_an_error_or_changes_nothing(saved):
    wanted, folder = saved
    assert same(folder, wanted) and {p.name for p in folder.iterdir()} == {"policy.json", CHECKSUMS, WEIGHTS_FILE}
    refused = 0
    for at in one_bit_changed(folder / WEIGHTS_FILE, 60):
        try:
            assert same(folder, wanted), at
        except ValueError as error:
            assert f"The policy at {folder} cannot be read" in str(error)
            refused += 1
    assert refused > 50
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:9])
    with pytest.raises(ValueError, match=rf"The policy at {folder} cannot be read \({WEIGHTS_FILE}: Safetensor"):
        load_policy(folder)


@pytest.mark.parametrize(("name", "refused_at_least"), [("policy.json", 1), (CHECKSUMS, 0.6)])
def test_a_changed_byte_of_its_texts_is_an_error_or_changes_nothing(saved, name, refused_at_least):
    """Of the checksums, the name of the file may be another one; then nothing is known of it."""
    wanted, folder = saved
    about, tried, refused = dataclasses.replace(load_policy(folder), policy=None), 0, 0
    for at in one_bit_changed(folder / name, 0, first=10_000, every=5):
        tried += 1
        try:
            found = load_policy(folder)
            assert same(folder, wanted) and dataclasses.replace(found, policy=None) == about, at
        except ValueError as error:
            assert (
                f"The policy at {folder} cannot be read (ValueError: {name} has changed" in str(error)
                or name == CHECKSUMS
            )
            assert CHECKSUMS in str(error)
            refused += 1
    assert refused >= refused_at_least * tried > 5


def test_what_a_policy_took_is_written_with_its_checksum(saved):
    _, folder = saved
    set_cost(folder, TrainingCost(real_steps=5))
    assert load_policy(folder).cost.real_steps == 5
    as_earlier_versions(folder, WEIGHTS_FILE)
    set_cost(folder, TrainingCost(real_steps=6))
    assert load_policy(folder).cost.real_steps == 6
    assert is_checked(folder / CONFIG_FILE)


@pytest.mark.parametrize("text", [None, "", "{}\n"])
def test_a_policy_whose_checksums_are_gone_is_named(saved, text):
    _, folder = saved
    (folder / CHECKSUMS).unlink() if text is None else (folder / CHECKSUMS).write_text(text)
    with pytest.raises(
        ValueError, match=rf"{folder} cannot be read \(ValueError: {CHECKSUMS} (is missing|has changed|does not)"
    ):
        load_policy(folder)


def test_policies_of_before_are_read_if_they_are_finite(saved):
    wanted, folder = saved
    path = folder / WEIGHTS_FILE
    tensors = load_file(path)
    save_file(tensors, path)
    assert same(folder, wanted)
    save_file({**tensors, "action_net.bias": torch.full_like(tensors["action_net.bias"], float("nan"))}, path)
    with pytest.raises(ValueError, match="action_net.bias holds numbers that are not finite"):
        load_policy(folder)
