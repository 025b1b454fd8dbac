"""Text nobody vouches for (tickets, files, what tools print): made visible, marked with where it is from, bounded.

A model cannot be kept from believing what it reads. So nothing here is a wall: walls are the sandbox, the paths tools
refuse, and the gate. This takes away what a person who looks at the same text would not see.
"""

from __future__ import annotations

import hashlib
import re

HEAD, TAIL = 6_000, 3_000
"""Characters a model sees of the beginning and of the end of a large text."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
"""Orders to a terminal: colours, titles, links."""
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, save tab and newline
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, fillers
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # of no width; writing direction
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"  # fillers, variation selectors
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\ud800-\udfff\U000e0000-\U000e0fff"  # halves of characters; tags, more variation selectors
    "]"
)
_FENCE = re.compile(r"<(/?)(data\s+(?:source|id)\s*=)", re.IGNORECASE)


def clean(text: str) -> str:
    """`text` without what cannot be seen: characters of no width, of writing direction, tags, orders to a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return _INVISIBLE.sub("", _ESCAPES.sub("", text.replace("\u2028", "\n").replace("\u2029", "\n\n")))


def hidden(text: str) -> int:
    """How many characters of `text` cannot be seen; the carriage returns of line ends do not count."""
    plain = text.replace("\r\n", "\n")
    return len(plain) - len(clean(plain))


def shortened(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """Beginning and end of a text of more than `head + tail` characters, and how much lies between."""
    if len(text) <= head + tail:
        return text
    return f"{text[:head]}\n[… {len(text) - head - tail:,} characters left out …]\n{text[-tail:]}"


def wrapped(text: str, source: str) -> str:
    """`text`, cleaned, between marks that name its source. It cannot hold its own closing mark, which carries a digest
    of it."""
    shown = _FENCE.sub(r"<\1\\\2", clean(text))
    mark = hashlib.sha256(shown.encode("utf-8", "replace")).hexdigest()[:16]
    name = re.sub(r'["<>\n]', "?", clean(source))[:200]
    return f'<data source="{name}" id="{mark}">\n{shown}\n</data id="{mark}">'
