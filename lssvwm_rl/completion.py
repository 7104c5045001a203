"""Completion in shells of commands, options and their choices: a script that needs no Python while one types.

For bash, `lssvwm --completion bash > ~/.local/share/bash-completion/completions/lssvwm`; for zsh,
`lssvwm --completion zsh > ~/.lssvwm-completion` and `source ~/.lssvwm-completion` at the end of `~/.zshrc`. Writing it
takes seconds, since all commands are imported. It knows the version that wrote it: write it again after an update.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from lssvwm_rl.command import QUIET, Command

SHELLS = ("bash", "zsh")
FIRST = "--help --version --completion"

TEMPLATE = """\
_lssvwm() {{
    local now="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    local name="${{COMP_WORDS[1]}}" length=1
    case "$name" in
        {groups}) name="$name ${{COMP_WORDS[2]}}"; length=2 ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{first}"
    elif [ "$COMP_CWORD" -le "$length" ]; then
        case "${{COMP_WORDS[1]}}" in
{seconds}
        esac
    elif [ "${{now#-}}" != "$now" ]; then
        case "$name" in
{options}
        esac
    else
        case "$name $before" in
{choices}
        esac
    fi
    COMPREPLY=( $(compgen -W "$words" -- "$now") )
}}
complete -o default -F _lssvwm lssvwm
"""
"""Runs in bash, and in zsh through bashcompinit. Where it proposes nothing, the shell proposes files."""


def script(shell: str, commands: Mapping[str, Command]) -> str:
    """The text of the script.

    Args:
        shell: one of `SHELLS`.
        commands: by name, of one word or two.
    """
    seconds: dict[str, list[str]] = {}
    options: dict[str, str] = {}
    choices: dict[str, list[str]] = {" ".join(SHELLS): ["--completion --completion"]}
    for name, command in commands.items():
        first, _, second = name.partition(" ")
        seconds.setdefault(first, []).extend([second] if second else [])
        found = options_of(command)
        options[name] = " ".join([*found, QUIET])
        for option, values in found.items():
            choices.setdefault(" ".join(values), []).append(f"{name} {option}")
    choices.pop("", None)
    groups = {first: " ".join(names) for first, names in seconds.items() if names}
    text = TEMPLATE.format(
        first=f"{' '.join(seconds)} {FIRST}",
        groups="|".join(groups),
        seconds="\n".join(_case(f'"{first}"', names) for first, names in groups.items()),
        options="\n".join(_case(f'"{name}"', words) for name, words in options.items()),
        choices="\n".join(_case("|".join(f'"{word}"' for word in at), values) for values, at in choices.items()),
    )
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text


def options_of(command: Command) -> dict[str, tuple[str, ...]]:
    """Options of a command, and the values that each may have where they are few."""
    import tyro

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro has no other way to say what it would read
        parser = tyro.extras.get_parser(command.options, **command.settings([]))
    return {name: _choices(action) for action in parser._actions for name in action.option_strings if name[:2] == "--"}


def _choices(action: Any) -> tuple[str, ...]:
    if action.choices is not None:
        return tuple(map(str, action.choices))
    shown = action.metavar if isinstance(action.metavar, str) else ""
    return tuple(shown.split("|")) if re.fullmatch(r"[a-z_][\w-]*(\|[\w-]+)+", shown) else ()


def _case(pattern: str, words: str) -> str:
    return f'            {pattern}) words="{words}" ;;'
