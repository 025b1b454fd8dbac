"""Follows the links of a session's documents, as a reader would click them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

SOURCES = {"doi.org", "arxiv.org", "docs.open-metadata.org"}
"""Where documents may point to outside: what a rule comes from. Nothing is fetched."""

_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_LINK = re.compile(r"!?\[(?:[^\[\]\\]|\\.)*\]\(([^()\s]+)\)")
_CODE = re.compile(r"(`+).+?\1")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def links(name: str, text: str) -> Iterator[str]:
    """The targets of a Markdown or HTML document's links and pictures, outside of code."""
    if name.endswith(".html"):
        page = _Page()
        page.feed(text)
        yield from page.found
        return
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield from _LINK.findall(_CODE.sub("", line))


def broken(files: Mapping[str, bytes]) -> list[str]:
    """`document: target` for every link that leads to none of `files` (by path) and to no source."""
    found = []
    for name, data in files.items():
        if not name.endswith((".md", ".html")):
            continue
        for target in links(name, data.decode("utf-8")):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                ok = parts.scheme == "https" and parts.netloc in SOURCES
            else:
                path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
                ok = path in files or not parts.path
            if not ok:
                found.append(f"{name}: {target}")
    return found
