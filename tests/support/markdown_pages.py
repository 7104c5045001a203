"""Pages of the docs as programs: python -m support.markdown_pages PAGE ... runs their blocks in the current folder.

- Python blocks of a page share their names; one with a title is written to the file of that name.
- `lssvwm` lines of bash blocks are run; other lines (pip, ray, torchrun) are not.
- `<!-- not run: WHY -->` before a block leaves it out. `<!-- in the tests: --steps 4 -->` gives its commands smaller
  settings: the last value of an option holds.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"(?:^<!-- (?P<note>.*?) -->\n)?^```(?P<head>\w.*)\n(?P<code>(?:.*\n)*?)^```$", re.MULTILINE)
LEFT_OUT, SMALLER = "not run: ", "in the tests: "


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    code: str
    note: str

    @property
    def is_run(self) -> bool:
        return not self.note.startswith(LEFT_OUT)

    @property
    def smaller(self) -> list[str]:
        """Options that hold instead of those that it shows."""
        return shlex.split(self.note.removeprefix(SMALLER)) if self.note.startswith(SMALLER) else []


def blocks(text: str) -> list[Block]:
    """All blocks of a page that name their language."""
    found = []
    for match in BLOCK.finditer(text):
        language, _, rest = match["head"].partition(" ")
        title = re.search(r'title="(.+?)"', rest)
        found.append(Block(language, title and title[1], match["code"], match["note"] or ""))
    return found


def commands(block: Block, *programs: str) -> list[list[str]]:
    """The lines of a bash block that call one of the programs, as words."""
    lines = block.code.replace("\\\n", " ").splitlines() if block.language == "bash" else []
    words = [shlex.split(line, comments=True) for line in lines]
    return [each for each in words if each and each[0] in programs]


def run_page(text: str) -> None:
    """Run all blocks of a page that are to be run."""
    from lssvwm_rl.cli import main

    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(text):
        if not block.is_run:
            continue
        if block.title:
            Path(block.title).write_text(block.code)
        elif block.language == "python":
            exec(compile(block.code, "<page>", "exec"), names)
        for words in commands(block, "lssvwm"):
            main([*words[1:], *block.smaller])


if __name__ == "__main__":
    for page in sys.argv[1:]:
        run_page(Path(page).read_text())
