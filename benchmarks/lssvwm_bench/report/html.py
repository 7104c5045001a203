"""Pieces of HTML. Every text that is put into them is escaped: `Markup.format` does so, and nothing else makes any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

NOTHING = Markup("")


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        name: of its anchor.
        title: its heading.
        body: what it shows; empty if there is nothing to show.
        missing: then, in a sentence, what would make it.
    """

    name: str
    title: str
    body: Markup = NOTHING
    missing: str = ""


def joined(parts: Iterable[Markup]) -> Markup:
    """One after the other."""
    return NOTHING.join(parts)


def prose(text: str) -> Markup:
    """A text in which `code` stands between backticks."""
    return joined(Markup("<code>{}</code>" if k % 2 else "{}").format(part) for k, part in enumerate(text.split("`")))


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return Markup("<p>{}</p>").format(prose(text))


def note(text: str) -> Markup:
    """A small paragraph that explains."""
    return Markup('<p class="note">{}</p>').format(prose(text))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table that scrolls where it is too wide; all columns but the first are numbers."""
    top = joined(Markup("<th>{}</th>").format(cell) for cell in head)
    body = joined(
        Markup("<tr>{}</tr>").format(joined(Markup("<td>{}</td>").format(cell) for cell in row)) for row in rows
    )
    return Markup('<div class="wide"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        top, body
    )


def pairs(rows: Iterable[tuple[str, str]]) -> Markup:
    """Names and what they are."""
    body = joined(Markup("<dt>{}</dt><dd>{}</dd>").format(name, value) for name, value in rows)
    return Markup('<dl class="pairs">{}</dl>').format(body)


def cards(rows: Iterable[tuple[str, str, str]]) -> Markup:
    """Figures to be seen first: a number, what it is, and a remark."""
    body = joined(
        Markup('<div class="card"><b>{}</b><span>{}</span><small>{}</small></div>').format(number, name, remark)
        for number, name, remark in rows
    )
    return Markup('<div class="cards">{}</div>').format(body)


def grid(parts: Iterable[Markup], narrow: bool = False) -> Markup:
    """Side by side, as far as there is room."""
    cells = joined(Markup('<div class="cell">{}</div>').format(part) for part in parts)
    return Markup('<div class="grid{}">{}</div>').format(" narrow" if narrow else "", cells)


def titled(title: str, part: Markup) -> Markup:
    """A part with a small heading."""
    return Markup("<h3>{}</h3>{}").format(title, part)


def folded(title: str, part: Markup) -> Markup:
    """A part that is opened by a click."""
    return Markup("<details><summary>{}</summary>{}</details>").format(title, part)


def code(lines: Iterable[str]) -> Markup:
    """Lines to copy."""
    return Markup("<pre>{}</pre>").format("\n".join(lines))


def page(title: str, subtitle: str, style: str, head: Markup, sections: Sequence[Section]) -> Markup:
    """A whole document, which asks for nothing outside of it: a policy forbids all requests and all scripts."""
    links = joined(Markup('<a href="#{}"{}>{}</a>').format(each.name, _empty(each), each.title) for each in sections)
    body = joined(
        Markup('<section id="{}"{}><h2>{}</h2>{}</section>').format(
            each.name,
            _empty(each),
            each.title,
            each.body or Markup('<p class="none">{}</p>').format(prose(each.missing)),
        )
        for each in sections
    )
    return Markup(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:; media-src data:\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>{title}</title><style>{style}</style></head>\n'
        "<body><header><h1>{title}</h1><p>{subtitle}</p></header>{head}<nav>{links}</nav>\n{body}</body></html>\n"
    ).format(title=title, subtitle=subtitle, style=Markup(style), head=head, links=links, body=body)


def _empty(section: Section) -> Markup:
    """What marks one that shows nothing."""
    return NOTHING if section.body else Markup(' class="empty"')
