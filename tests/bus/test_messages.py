"""Headers, patterns and reply subjects: small pure things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import ack_tokens, is_ours, line, matches, stored_headers, unline


@given(st.text(), st.integers(min_value=30, max_value=300))
def test_any_text_becomes_one_printable_line(text: str, limit: int) -> None:
    encoded = line(text, limit)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert len(encoded) <= limit
    assert text.endswith(unline(encoded))


@given(st.text(max_size=20))
def test_short_text_comes_back_whole(text: str) -> None:
    assert unline(line(text)) == text


def test_a_value_of_other_origin_stays_as_it_is() -> None:
    assert unline("not JSON") == "not JSON"


def test_deliveries_are_counted_from_either_form_of_reply() -> None:
    assert ack_tokens("$JS.ACK.VT_EVENTS.agent-lead.3.17.20.1234.5") == (3, 17)
    assert ack_tokens("$JS.ACK._.hash.VT_EVENTS.agent-lead.3.17.20.1234.5.token") == (3, 17)
    for other in ("_INBOX.lead.x", "$JS.ACK.VT_EVENTS.agent-lead", ""):
        with pytest.raises(ValueError, match="not a JetStream delivery"):
            ack_tokens(other)


def test_only_what_the_bus_published_there_is_ours() -> None:
    headers = stored_headers("VT_EVENTS", "id")
    assert is_ours(headers, "VT_EVENTS")
    assert not is_ours(headers, "VT_COMMANDS")
    assert not is_ours({}, "VT_EVENTS")


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("vt.*.evt.>", "vt.a.evt.s.x._", True),
        ("vt.*.evt.>", "vt.a.evt", False),
        ("vt.*.evt.*.x.*", "vt.a.evt.s.x._", True),
        ("vt.*.evt.*.x.*", "vt.a.evt.s.x._.more", False),
        ("vt.*.evt.*.x.*", "vt.a.evt.s.xx._", False),
        ("$JS.ACK.>", "$JS.ACK.a.b", True),
        ("a.b", "aXb", False),
        (">", "anything.at.all", True),
    ],
)
def test_subjects_match_as_nats_matches_them(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) == expected
