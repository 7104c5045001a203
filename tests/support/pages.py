"""HTML pages as tests look at them: their tags, and the text of their sections."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What is in a document.

    Attributes:
        tags: every start tag with its attributes, in order.
        sections: id -> text, whitespace made single.
        empty: ids of the sections that show nothing.
        texts: tag -> all texts directly inside of it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.sections: dict[str, str] = {}
        self.empty: set[str] = set()
        self.texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"
        self.sections = {name: " ".join(found.split()) for name, found in self.sections.items()}

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "section":
            self.sections[attributes["id"]] = ""
            if attributes.get("class") == "empty":
                self.empty.add(attributes["id"])
        if tag not in VOID:
            self._open.append((tag, attributes.get("id", "")))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1][0], []).append(data)
        for tag, name in self._open:
            if tag == "section":
                self.sections[name] += f" {data}"

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]
