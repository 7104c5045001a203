"""The site: it builds without a warning and fetches nothing, its tutorials and notebooks run, its commands exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lssvwm_rl import cli
from support.markdown_pages import blocks, commands

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# Pages that are run; those of one line go on where the one before has ended.
RUN = [
    ("own-environment", "agent-in-a-dream"),
    ("forks",),
    ("memory-beside",),
    ("mazes",),
    ("recorded-data",),
    ("many-machines",),
]
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")


class Addresses(HTMLParser):
    """What a page fetches when it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        address = dict(attrs).get(FETCHED.get(tag, ""))
        self.found += [address] if address else []


def run_pages(folder: Path, *pages: Path) -> None:
    """Run pages in a folder of their own, as their reader would."""
    paths = [str(ROOT / part) for part in (".", "envs", "agents", "benchmarks", "tests")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    words = [sys.executable, "-m", "support.markdown_pages", *map(str, pages)]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.slow
def test_the_site_is_built_and_fetches_nothing(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        addresses = Addresses()
        addresses.feed(page.read_text())
        outside = [address for address in addresses.found if re.match(r"(https?:)?//", address)]
        assert not outside, f"{page.name} fetches {outside}"
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\((['\"]?)(https?:)?//", style.read_text()), f"{style.name} fetches something"


def test_the_tutorials_that_are_run_are_all_there_are():
    assert {name for line in RUN for name in line} == {p.stem for p in DOCS.glob("tutorials/*.md")} - {"index"}


@pytest.mark.slow
@pytest.mark.parametrize("names", RUN, ids="-".join)
def test_a_tutorial_runs(names, tmp_path):
    run_pages(tmp_path, *(DOCS / "tutorials" / f"{name}.md" for name in names))


@pytest.mark.slow
def test_the_code_of_the_faq_runs(tmp_path):
    run_pages(tmp_path, DOCS / "faq.md")


def test_what_is_not_run_is_said_on_the_page():
    for page in DOCS.glob("tutorials/*.md"):
        hidden = [block for block in blocks(page.read_text()) if not block.is_run]
        assert page.read_text().lower().count("not run") >= 2 * len(hidden), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_with_the_options_that_are_shown(page):
    """Each `lssvwm` line of a bash block is parsed as the command would, and not run."""
    for block in blocks(page.read_text()):
        for words in commands(block, "lssvwm"):
            if words[1:] != ["bench"] and not words[1].startswith("--"):  # these list and tell, and have no options
                command, rest = cli.find(words[1:])
                command.parse(rest)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    """Of all pages, those of the repository beside the site included, as GitHub shows them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        notebook_page = target.with_suffix(".ipynb")
        assert target.exists() or notebook_page.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in headings(target.read_text()), f"{page.name} links to {link}"


def headings(text: str) -> set[str]:
    """GitHub's anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    paths = [str(ROOT / part) for part in (".", "envs", "agents", "benchmarks")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    client = nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_small_pictures(path):
    text = path.read_text()
    assert '"image/png"' in text and len(text) < 400_000
    assert '"stderr"' not in text and "site-packages" not in text, "it holds paths of a machine"
    assert "find_spec" in text.split('"cell_type": "code"')[1], "the first cell installs what is missing"
