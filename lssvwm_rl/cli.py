"""The `lssvwm` command: a table of strings, so that each floor is imported only when it is called.

What a row "package.commands.module:Options" needs of its module: the dataclass `Options`, whose fields become options,
and `main(options)`. Besides, it may have `RENAMED`, old option -> new option or a hint, and `defaults(words)`, which
gives the options that hold where the words say nothing else. A row without `:Options` names a group of commands, of
which its `main(words)` gives one to `run`.
"""

from __future__ import annotations

import errno
import importlib
import io
import json
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from traceback import extract_tb
from typing import Any, NoReturn

import gymnasium as gym

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
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do about an OSError; one without a number has its own sentence."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; bad input ends with one sentence on stderr and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        from lssvwm_rl import __version__

        print(f"lssvwm {__version__}")
        return
    old = _command(words, RENAMED_COMMANDS)
    if old is not None:
        _stop(f"lssvwm: `{old}` is now `{RENAMED_COMMANDS[old]}`.")
    name = _command(words, COMMANDS)
    if name is None:
        wanted = bool(words) and words[0] in ("-h", "--help")
        unknown = f"lssvwm: there is no command {' '.join(words[:2])!r}.\n" if words and not wanted else ""
        _stop(f"{unknown}{_usage()}", 0 if wanted else 2)
    module_name, _, options = COMMANDS[name][0].partition(":")
    module, rest = importlib.import_module(module_name), words[len(name.split()) :]
    if not options:
        module.main(rest)
        return
    renamed, defaults = getattr(module, "RENAMED", {}), getattr(module, "defaults", None)
    run(f"lssvwm {name}", getattr(module, options), module.main, rest, renamed, defaults)


def run(
    program: str,
    options: Any,
    command: Callable[[Any], None],
    words: Sequence[str],
    renamed: Mapping[str, str] | None = None,
    defaults: Callable[[list[str]], Any] | None = None,
    about: str | None = None,
) -> None:
    """Read options from words and call a command with them.

    Args:
        program: what stands before the words.
        options: dataclass; every field is an option, those of a nested dataclass with its name before them.
        command: called with an instance.
        renamed: old option -> new option, or a hint. "--name" -> "--name VALUE" is for a flag that takes a value now.
        defaults: from the words, the instance that holds where they say nothing else.
        about: text of the help, if not the docstring of `options`.

    Raises:
        SystemExit: with code 2, after one sentence on stderr, for bad input and for disks that cannot be written, and
            with 130 or 143 where SIGINT or SIGTERM ended the command.
    """
    words = list(words)
    try:
        _check_renamed(words, renamed or {})
        default = {} if defaults is None else {"default": defaults(words)}
        parsed = _parse(program, options, words, about, default)
        with stopped_by_signals(), _warnings_as_sentences(program):
            command(parsed)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        _stop(f"{program}: {stopped}.", stopped.code, cause=error)
    except USER_ERRORS as error:
        _stop(f"{program}: {' '.join(str(error).split())}", cause=error)
    except OSError as error:
        if error.errno is None:
            _stop(f"{program}: {' '.join(str(error).split())}", cause=error)
        if error.errno not in DISK_ERRORS:
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


def _parse(program: str, options: Any, words: list[str], about: str | None, default: dict[str, Any]) -> Any:
    import tyro

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            parsed = tyro.cli(options, args=words, prog=program, description=about, **default)
    except SystemExit as stop:
        error: BaseException | None = stop
        # tyro draws a box around what a nested dataclass says about its values, and adds how it calls that.
        while error is not None:
            calls = {call.name for call in extract_tb(error.__traceback__)}
            if isinstance(error, ValueError) and "__post_init__" in calls:
                raise error from None
            error = error.__context__
        print(said.getvalue(), end="", file=sys.stderr)
        raise
    print(said.getvalue(), end="", file=sys.stderr)
    return parsed


def _check_renamed(words: Sequence[str], renamed: Mapping[str, str]) -> None:
    """Raise ValueError for an old option: `--old value`, `--old=value`, with `_` or `-`."""
    for at, word in enumerate(words):
        old, equals, _ = word.partition("=")
        old = old.replace("_", "-")
        if old not in renamed:
            continue
        has_value = equals or (at + 1 < len(words) and not words[at + 1].startswith("--"))
        if not (has_value and renamed[old].startswith(f"{old} ")):
            new = f"now `{renamed[old]}`." if renamed[old].startswith("--") else f"gone: {renamed[old]}"
            raise ValueError(f"`{old}` is {new}")


def _command(words: Sequence[str], names: Mapping[str, Any]) -> str | None:
    return next((name for name in names if list(words[: len(name.split())]) == name.split()), None)


def _usage() -> str:
    texts = {name if ":" in where else f"{name} NAME": text for name, (where, text) in COMMANDS.items()}
    return f"usage: lssvwm COMMAND [options]   (lssvwm COMMAND --help shows them)\n\n{listed(texts)}"


def _stop(text: str, code: int = 2, cause: BaseException | None = None) -> NoReturn:
    print(text, file=sys.stderr)
    raise SystemExit(code) from cause
