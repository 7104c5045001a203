"""The `lssvwm` command: a table of strings, so that each floor is imported only when it is called.

What a row "package.commands.module:Options" needs of its module: the dataclass `Options`, whose fields become options,
`main(options)`, and `EXAMPLE`, a command that its help shows. Besides, it may have `RENAMED`, old option -> new option
or a hint, and `defaults(words)`, which gives the options that hold where the words say nothing else. A row without
`:Options` is a group, whose module has `names()`, name -> what it does, and `command(name)`, the `Command`.

What commands say goes through `lssvwm_rl.progress`: bars, `say`, and `finish` for the last line. `--quiet`, which every
command has, is read here.
"""

from __future__ import annotations

import errno
import importlib
import json
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import gymnasium as gym

from lssvwm_rl.command import QUIET, Command
from lssvwm_rl.named_paths import is_of
from lssvwm_rl.pipes import ends_where_nobody_reads
from lssvwm_rl.progress import silence
from lssvwm_rl.stopping import Stopped, stopped_by_signals

COMMANDS = {
    "quickstart": (
        "lssvwm_bench.commands.quickstart:Quickstart",
        "collect, train, dream, plan and act on MiniGrid-MemoryS7, with a report",
    ),
    "collect": ("lssvwm_agents.commands.collect:Collect", "play a Gymnasium environment and store its episodes"),
    "data import": (
        "lssvwm_rl.commands.data_import:DataImport",
        "make a store of videos, LeRobot, Minari or NPZ files that others recorded",
    ),
    "data export": ("lssvwm_rl.commands.data_export:DataExport", "write a store as a Minari data set"),
    "data inspect": ("lssvwm_rl.commands.data_inspect:DataInspect", "say what is in a store"),
    "data preview": ("lssvwm_rl.commands.data_preview:DataPreview", "write pictures of a store"),
    "data split": ("lssvwm_rl.commands.data_split:DataSplit", "make two stores of one, to train and to test on"),
    "data verify": ("lssvwm_rl.commands.data_verify:DataVerify", "name every damaged file of a store"),
    "data merge": ("lssvwm_rl.commands.data_merge:DataMerge", "make one store of several"),
    "train": ("lssvwm_rl.commands.train:Train", "learn a world model from a store"),
    "export": (
        "lssvwm_rl.commands.export:Export",
        "copy a checkpoint without what only training needs, or as ONNX graphs",
    ),
    "hub push": (
        "lssvwm_rl.commands.hub_push:HubPush",
        "share a checkpoint on the Hugging Face hub, with a model card",
    ),
    "hub pull": ("lssvwm_rl.commands.hub_pull:HubPull", "download a checkpoint of the Hugging Face hub, and check it"),
    "dream": ("lssvwm_rl.commands.dream:Dream", "write a video of a dream beside reality"),
    "play": ("lssvwm_envs.commands.play:Play", "play a world model in a browser, beside the real environment"),
    "agent train": ("lssvwm_agents.commands.agent:AgentTrain", "train an agent inside the world model"),
    "agent loop": (
        "lssvwm_agents.commands.loop:AgentLoop",
        "collect, fit, train in dreams and play by turns, until the agent holds in reality",
    ),
    "agent baseline": (
        "lssvwm_agents.commands.baseline:AgentBaseline",
        "train an agent in the real environment, to compare with",
    ),
    "report": ("lssvwm_bench.commands.report:Report", "one HTML file about any run, to look at or to send"),
    "bench": ("lssvwm_bench.commands.bench", "measure models and agents: `lssvwm bench` lists them"),
}
"""Command -> (where it is, what it does)."""

RENAMED_COMMANDS = {
    "import npz": "lssvwm data import SOURCE --format npz",
    "plan": "lssvwm bench agent --planner CHECKPOINT",
    "agent eval": "lssvwm bench agent --policy FOLDER",
}
"""Old command -> what to write now."""

# What users get wrong, or their disks, is a sentence; everything else is a bug and keeps its traceback.
USER_ERRORS = (ValueError, FileNotFoundError, FileExistsError, FloatingPointError, gym.error.Error)

DISK_ERRORS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "free some space or raise the limit of file sizes",
    errno.EIO: "look after the disk",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that you may read and write",
    errno.EPERM: "choose a folder that you may read and write",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "choose another folder",
    errno.ENOTEMPTY: "choose another folder",
    errno.EEXIST: "choose another folder",
    errno.ENOENT: "correct the path",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do about an OSError; one without a number has its own sentence."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; bad input ends with one sentence on stderr and exit code 2."""
    with ends_where_nobody_reads():
        _main(list(sys.argv[1:] if argv is None else argv))


def _main(words: list[str]) -> None:
    if words[:1] == ["--version"]:
        from lssvwm_rl import __version__

        print(f"lssvwm {__version__}")
    elif words[:1] == ["--completion"]:
        from lssvwm_rl.completion import SHELLS, script

        if words[1:] not in [[shell] for shell in SHELLS]:
            _stop(f"lssvwm: give a shell, `lssvwm --completion {'|'.join(SHELLS)}`, not {' '.join(words[1:])!r}.")
        print(script(words[1], all_commands()), end="")
    else:
        command, rest = find(words)
        run(command, rest)


def find(words: Sequence[str]) -> tuple[Command, list[str]]:
    """The command that words begin with, and the words that follow it.

    Raises:
        SystemExit: if there is no such command, after saying which ones there are.
    """
    old = _begins(words, RENAMED_COMMANDS)
    if old is not None:
        _stop(f"lssvwm: `{old}` is now `{RENAMED_COMMANDS[old]}`.")
    name = _begins(words, COMMANDS)
    if name is None:
        if words[:1] in (["-h"], ["--help"]):
            print(_usage())
            raise SystemExit(0)
        unknown = f"lssvwm: there is no command {' '.join(words[:2])!r}.\n" if words else ""
        _stop(f"{unknown}{_usage()}")
    rest = list(words[len(name.split()) :])
    if ":" in COMMANDS[name][0]:
        return _command(name), rest
    group = importlib.import_module(COMMANDS[name][0])
    known, member = group.names(), rest[0] if rest else "--help"
    if member in ("-h", "--help"):
        print(f"usage: lssvwm {name} NAME [options]   (lssvwm {name} NAME --help shows them)\n\n{listed(known)}")
        raise SystemExit(0)
    if member not in known:
        _stop(f"lssvwm: there is no {name} {member!r}.\n{listed(known)}")
    return group.command(member), rest[1:]


def all_commands() -> dict[str, Command]:
    """Every command by its name, those of groups included; imports them all."""
    found = {}
    for name, (where, _) in COMMANDS.items():
        if ":" in where:
            found[name] = _command(name)
        else:
            group = importlib.import_module(where)
            found |= {f"{name} {member}": group.command(member) for member in group.names()}
    return found


def run(command: Command, words: Sequence[str]) -> None:
    """Read options from words and call a command with them.

    Raises:
        SystemExit: with code 2, after one sentence on stderr, for bad input and for disks that cannot be written, and
            with 130 or 143 where SIGINT or SIGTERM ended the command.
    """
    program = command.program
    try:
        parsed = command.parse(words)
        with silence() if QUIET in words else nullcontext(), stopped_by_signals(), _warnings_as_sentences(program):
            command.main(parsed)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        _stop(f"{program}: {stopped}.", stopped.code, cause=error)
    except (*USER_ERRORS, OSError) as error:
        if not isinstance(error, OSError) or error.errno is None:  # those of our own have a sentence
            _stop(f"{program}: {' '.join(str(error).split())}", cause=error)
        if error.errno not in DISK_ERRORS or (error.errno == errno.ENOENT and not is_of(error, words)):
            raise
        file = f" ({error.filename})" if error.filename else ""
        _stop(f"{program}: {error.strerror}{file}; {DISK_ERRORS[error.errno]}.", cause=error)


@contextmanager
def _warnings_as_sentences(program: str) -> Iterator[None]:
    """What commands warn of, RuntimeWarnings, is for users: without the line of code that warns."""
    usual = warnings.formatwarning

    def sentence(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
        return f"{program}: {message}\n" if category is RuntimeWarning else usual(message, category, *where, **line)

    warnings.formatwarning = sentence
    try:
        yield
    finally:
        warnings.formatwarning = usual


def json_value(text: str) -> Any:
    """What an option KEY VALUE means: a JSON value, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def listed(texts: Mapping[str, str]) -> str:
    """Lines of names, and what is said of them in a second column."""
    width = max(len(name) for name in texts)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in texts.items())


def _command(name: str) -> Command:
    """That of a row which is no group."""
    where, _, options = COMMANDS[name][0].partition(":")
    module = importlib.import_module(where)
    renamed, defaults = getattr(module, "RENAMED", {}), getattr(module, "defaults", None)
    example = getattr(module, "EXAMPLE", None)
    return Command(f"lssvwm {name}", getattr(module, options), module.main, renamed, defaults, example=example)


def _begins(words: Sequence[str], names: Mapping[str, Any]) -> str | None:
    return next((name for name in names if list(words[: len(name.split())]) == name.split()), None)


def _usage() -> str:
    texts = {name if ":" in where else f"{name} NAME": text for name, (where, text) in COMMANDS.items()}
    usage = "usage: lssvwm COMMAND [options]   (lssvwm COMMAND --help shows them)"
    completion = "lssvwm --completion bash|zsh prints a script that completes commands and options in a shell."
    return f"{usage}\n\n{listed(texts)}\n\n{completion}"


def _stop(text: str, code: int = 2, cause: BaseException | None = None) -> NoReturn:
    print(text, file=sys.stderr)
    raise SystemExit(code) from cause
