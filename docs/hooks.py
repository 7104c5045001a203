"""What the site has beside the pages in this folder: CONTRIBUTING and CHANGELOG of the repository, and the notebooks.

MkDocs calls the functions by their names (see `hooks` in mkdocs.yml).
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
INTO_DOCS = re.compile(r"\]\(docs/")
NOTEBOOK = re.compile(r"(\]\([\w./-]+)\.ipynb\)")
OUT_OF_DOCS = re.compile(rf"\]\((?:\.\./)+({'|'.join(map(re.escape, PAGES))})")


def on_config(config: Any) -> Any:
    """Anchors as GitHub makes them."""
    config["mdx_configs"]["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in this folder."""
    for name in PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        name = file.src_uri.removesuffix(".ipynb")
        page, pictures = notebook_page(json.loads(Path(str(file.abs_src_path)).read_text()), Path(name).name)
        files.append(File.generated(config, f"{name}.md", content=page))
        for number, picture in enumerate(pictures):
            files.append(File.generated(config, f"{name}-{number}.png", content=picture))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between pages of this folder and those of the repository, as they are on the site."""
    if page.file.src_uri in PAGES:
        return INTO_DOCS.sub("](", markdown)
    if not page.file.src_uri.startswith("notebooks/"):
        markdown = NOTEBOOK.sub(r"\1.md)", markdown)
    return OUT_OF_DOCS.sub(rf"]({'../' * page.file.src_uri.count('/')}\1", markdown)


def notebook_page(notebook: dict[str, Any], name: str) -> tuple[str, list[bytes]]:
    """A notebook as Markdown, and the PNG files NAME-0.png, NAME-1.png, ... that it shows."""
    parts, pictures = [], list[bytes]()
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![What the cell shows]({name}-{len(pictures)}.png)")
                pictures.append(base64.b64decode("".join(data["image/png"])))
            elif text := "".join(output.get("text", data.get("text/plain", ""))).strip():
                parts.append(f"```text\n{text}\n```")
    title, *rest = parts
    about = f"*This page is a notebook: [{name}.ipynb]({name}.ipynb), for Jupyter and Colab.*"
    return "\n\n".join([title, about, *rest]), pictures
