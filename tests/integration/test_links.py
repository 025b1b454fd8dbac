"""The follower of links itself: it finds what it must, so that an empty list means something."""

from __future__ import annotations

from tests.integration.links import broken


def test_links_that_lead_nowhere_are_found() -> None:
    files = {
        "a/one.md": b"[two](two.md) ![no](gone.svg) [up](../top.md) [\\[odd\\]](odd.md)\n\n"
        b"    [code](no.md)\n`[c](no.md)`\n"
        b"```\n[fenced](no.md)\n```\n[doi](https://doi.org/10.1/x) [bad](http://example.org) [out](../../etc/passwd)",
        "a/two.md": b"[here](#part)",
        "top.md": b"",
        "page.html": b'<a href="a/two.md">x</a><img src="none.png">',
    }
    assert broken(files) == [
        "a/one.md: gone.svg",
        "a/one.md: odd.md",
        "a/one.md: http://example.org",
        "a/one.md: ../../etc/passwd",
        "page.html: none.png",
    ]
