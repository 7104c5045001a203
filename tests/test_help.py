"""The help of every command shows an example that the command's own parser reads."""

from __future__ import annotations

import shlex

import pytest

from lssvwm_bench.bench import bench_summaries
from lssvwm_rl.cli import COMMANDS, all_commands, find
from lssvwm_rl.command import QUIET

NAMES = [name for name, (where, _) in COMMANDS.items() if ":" in where] + [f"bench {n}" for n in bench_summaries()]


def test_all_commands_are_known():
    assert set(all_commands()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_is_read(name):
    command, _ = find(name.split())
    assert command.example is not None, f"the module of `lssvwm {name}` has no EXAMPLE"
    assert command.example.startswith(f"lssvwm {name}") and len(command.example) <= 78, "one line of a terminal"
    found, words = find(shlex.split(command.example)[1:])
    assert found.program == command.program == f"lssvwm {name}"
    assert isinstance(found.parse(words), getattr(found.options, "__origin__", found.options))


@pytest.mark.parametrize("name", NAMES)
def test_the_help_shows_the_example_and_how_to_be_quiet(name, capsys):
    command, _ = find(name.split())
    with pytest.raises(SystemExit) as stop:
        command.parse(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and f"  {command.example}\n" in shown and QUIET in shown
