"""Identifiers: sorted by time, and of the right version."""

from __future__ import annotations

import itertools
import multiprocessing
import re
import threading
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import short_token, uuid7

MOMENTS = st.integers(0, 2**48 - 1)


@given(MOMENTS)
def test_version_and_variant(moment: int) -> None:
    value = uuid.UUID(uuid7(moment))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == moment


@given(MOMENTS, MOMENTS)
def test_later_is_greater_as_number_and_as_text(one: int, other: int) -> None:
    first, second = sorted((one, other))
    a, b = uuid7(first), uuid7(second)
    assert first == second or a < b
    assert first == second or uuid.UUID(a) < uuid.UUID(b)


def test_now_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_234_567_890_123_999_999)
    assert uuid.UUID(uuid7()).int >> 80 == 1_234_567_890_123


def test_those_of_one_process_sort_by_when_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    start = 1_700_000_000_123_000_000
    moments = itertools.count(start, 250)  # nanoseconds: a little more than what the fraction can tell
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    made = [uuid7() for _ in range(8_000)]
    assert made == sorted(made)
    assert {uuid.UUID(each).int >> 80 for each in made} == {start // 1_000_000, start // 1_000_000 + 1}
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in made} == {(7, uuid.RFC_4122)}


def test_two_of_the_same_moment_differ() -> None:
    assert len({uuid7(7) for _ in range(1000)}) == 1000


def test_a_fork_does_not_give_out_its_parents() -> None:
    uuid7(7)  # so that the parent has drawn some in advance
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[list[str]] = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put([uuid7(7) for _ in range(100)]))
    child.start()
    theirs = answers.get()
    child.join()
    assert not {uuid7(7) for _ in range(100)} & set(theirs)


def test_nor_does_another_thread() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend([uuid7(7) for _ in range(2_000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8_000


@pytest.mark.parametrize("length", [1, 5, 20])
def test_tokens_are_read_aloud(length: int) -> None:
    assert re.fullmatch(rf"[a-hjkmnp-z2-9]{{{length}}}", short_token(length))
    assert not set("ilo01") & set("".join(short_token(20) for _ in range(100)))


def test_tokens_differ() -> None:
    assert len({short_token(12) for _ in range(500)}) == 500
    assert len(short_token()) == 5
