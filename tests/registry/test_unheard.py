"""Versions that were made without anybody hearing of it: found by the next effect of the same package."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autopilot.registry.mlflow_registry import MlflowRegistry
from autopilot.registry.port import CANDIDATE, Package, Registry, RegistryError
from schemas.values import Registered
from tests.registry.test_registry import MODEL, add, alias, package

LOST, AGAIN = "s1.register.1", "s1.register.20"
FILE = package(1)
OTHER = replace(FILE, artifact=FILE.artifact.model_copy(update={"sha256": "e" * 64}))


@pytest.fixture
def registry(uri: str) -> Registry:
    return MlflowRegistry(uri)


def again(registry: Registry, what: Package = FILE, doubtful: tuple[str, ...] = (LOST,)) -> Registered:
    return registry.register(AGAIN, MODEL, CANDIDATE, what, doubtful)


def rows(registry: Registry) -> list[tuple[str, str, bool, tuple[str, ...]]]:
    """The versions, oldest first: number, effect, whether it was rolled back, aliases."""
    return [(v.version, v.effect, v.rolled_back, v.aliases) for v in reversed(registry.versions(MODEL))]


def without_alias(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try dies between version and alias."""
    from mlflow import MlflowClient

    def crash(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", crash)
        with pytest.raises(RegistryError):
            add(registry, 1)


def test_the_same_file_is_taken_over(registry: Registry) -> None:
    add(registry, 1)
    later = replace(FILE, commit="c" * 40, metrics={"recall": 0.9})
    done = again(registry, later)
    assert done == Registered(effect=AGAIN, model=MODEL, version="1", alias=CANDIDATE, before="", current="1")
    assert again(registry, later) == done
    assert rows(registry) == [("1", AGAIN, False, (CANDIDATE,))]
    (version,) = registry.versions(MODEL)
    assert (version.commit, version.metrics) == ("c" * 40, {"recall": 0.9})
    assert registry.take_back("undo", done).current == ""
    assert registry.bring_back("redo", done).current == "1"


def test_the_alias_follows_where_the_first_try_did_not_move_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_alias(registry, monkeypatch)
    assert again(registry).current == "1"
    assert rows(registry) == [("1", AGAIN, False, (CANDIDATE,))]


def test_another_file_is_a_version_of_its_own_and_the_first_is_marked(registry: Registry) -> None:
    add(registry, 5)
    add(registry, 1)
    done = again(registry, OTHER)
    assert (done.version, done.before, done.current) == ("3", "1", "3")
    assert again(registry, OTHER) == done
    assert rows(registry) == [
        ("1", "s1.register.5", False, ()),
        ("2", LOST, True, ()),
        ("3", AGAIN, False, (CANDIDATE,)),
    ]
    assert registry.take_back("undo", done).current == "1"


def test_what_was_not_made_leaves_nothing_to_find(registry: Registry) -> None:
    assert again(registry).version == "1"
    assert rows(registry) == [("1", AGAIN, False, (CANDIDATE,))]


def test_only_the_newest_of_several_is_kept(registry: Registry) -> None:
    for effect in ("a", "b", "c"):
        registry.register(effect, MODEL, CANDIDATE, FILE if effect != "c" else OTHER)
    done = again(registry, FILE, ("a", "b", "c"))
    assert (done.version, done.before, done.current) == ("2", "1", "2")
    assert [(number, back) for number, _, back, _ in rows(registry)] == [("1", True), ("2", False), ("3", True)]
    assert registry.take_back("undo", done).current == ""


def test_another_home_was_there_meanwhile(registry: Registry, uri: str) -> None:
    """Its version of the same model is newer: what nobody heard of must not come after it."""
    add(registry, 1)
    theirs = add(MlflowRegistry(uri), 2)
    assert (theirs.before, theirs.current) == ("1", "2")
    done = again(registry)
    assert (done.version, done.before, done.current) == ("3", "2", "3")
    assert [(number, back) for number, _, back, _ in rows(registry)] == [("1", True), ("2", False), ("3", False)]
    assert MlflowRegistry(uri).take_back("undo.theirs", theirs).current == "3"
    assert registry.take_back("undo.ours", done).current == "", "the way back passes over both"


def test_another_home_may_do_so_without_being_in_the_way(registry: Registry, uri: str) -> None:
    """It was taken back before: the version is still the newest that counts."""
    add(registry, 1)
    theirs = add(MlflowRegistry(uri), 2)
    MlflowRegistry(uri).take_back("undo.theirs", theirs)
    assert (again(registry).version, alias(registry)) == ("1", "1")
    assert MlflowRegistry(uri).bring_back("redo.theirs", theirs).current == "2"


def test_the_same_file_of_another_session_is_not_ours(registry: Registry) -> None:
    add(registry, 1)
    fork = replace(FILE, session="s1-fork1")
    done = registry.register("f1.register.9", MODEL, CANDIDATE, fork, ("f1.register.4",))
    assert (done.version, done.before) == ("2", "1")
    assert rows(registry)[0] == ("1", LOST, False, ())


def test_a_version_that_was_rolled_back_is_not_taken_over(registry: Registry) -> None:
    registry.take_back("undo", add(registry, 1))
    assert again(registry).version == "2"
    assert [back for _, _, back, _ in rows(registry)] == [True, False]


def test_an_alias_that_a_person_moved_back_is_moved_by_the_new_approval(registry: Registry, uri: str) -> None:
    from mlflow import MlflowClient

    add(registry, 5)
    add(registry, 1)
    MlflowClient(tracking_uri=uri, registry_uri=uri).set_registered_model_alias(MODEL, CANDIDATE, "1")
    done = again(registry)
    assert (done.version, done.before, done.current) == ("2", "1", "2")


def test_what_a_rollback_finds_is_taken_back(registry: Registry) -> None:
    add(registry, 5)
    add(registry, 1)
    unknown = Registered(effect=LOST, model=MODEL, version="", alias=CANDIDATE)
    for _ in range(2):
        assert registry.take_back("s1.restore.9", unknown).current == "1"
    assert rows(registry)[1] == ("2", LOST, True, ())
