"""A command: how its words are read, and what it does."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from inspect import getdoc
from traceback import extract_tb
from typing import Any

QUIET = "--quiet"
ABOUT_QUIET = f"{QUIET}: no progress, only the last line."


@dataclass(frozen=True)
class Command:
    """How the words of a command are read, and what it does.

    Attributes:
        program: what stands before the words, for example "lssvwm train".
        options: dataclass; every field is an option, those of a nested dataclass with its name before them.
        main: called with an instance.
        renamed: old option -> new option, or a hint. "--name" -> "--name VALUE" is for a flag that takes a value now.
        defaults: from the words, the instance that holds where they say nothing else.
        about: text of the help, if not the docstring of `options`.
        example: a whole command line, which the help shows.
    """

    program: str
    options: Any
    main: Callable[[Any], None]
    renamed: Mapping[str, str] = field(default_factory=dict)
    defaults: Callable[[list[str]], Any] | None = None
    about: str | None = None
    example: str | None = None

    def parse(self, words: Sequence[str]) -> Any:
        """The options that words give, an instance of `options`.

        Raises:
            ValueError: for an old option, or values that do not suit.
            SystemExit: for what tyro finds wrong, which is said on stderr, and after the help.
        """
        words = [word for word in words if word != QUIET]
        _check_renamed(words, self.renamed)
        return _parse(self, words)

    def settings(self, words: list[str]) -> dict[str, Any]:
        """What tyro needs besides the words."""
        parts = [self.about or getdoc(self.options) or "", ABOUT_QUIET]
        if self.example is not None:
            parts.insert(1, f"Example:\n  {self.example}")
        default = {} if self.defaults is None else {"default": self.defaults(words)}
        return {"prog": self.program, "description": "\n\n".join(parts), **default}


def _parse(command: Command, words: list[str]) -> Any:
    import tyro

    said, settings = io.StringIO(), command.settings(words)
    try:
        with redirect_stderr(said):
            parsed = tyro.cli(command.options, args=words, **settings)
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
