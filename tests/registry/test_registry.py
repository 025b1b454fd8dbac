"""What every model registry must do, on MLflow with a real SQLite store."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from autopilot.registry.mlflow_registry import MlflowRegistry
from autopilot.registry.port import CANDIDATE, Package, Registry, RegistryError
from schemas.values import ArtifactRef, Registered

MODEL = "tell-cultivars-apart"


def package(number: int) -> Package:
    return Package(
        artifact=ArtifactRef(name="model-package.zip", sha256=f"{number:x}" * 64, size=10),
        session=f"s1-{number:05}",
        ticket=1,
        branch=f"phase/1-{number}",
        commit=f"{number:x}" * 40,
        metrics={"roc_auc": 0.9 + number / 100},
    )


@pytest.fixture
def registry(uri: str) -> Registry:
    return MlflowRegistry(uri)


def add(registry: Registry, number: int) -> Registered:
    return registry.register(f"s1.register.{number}", MODEL, CANDIDATE, package(number))


def alias(registry: Registry) -> str:
    return next((v.version for v in registry.versions(MODEL) if CANDIDATE in v.aliases), "")


def test_a_version_says_where_it_comes_from(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert registry.versions(MODEL) == ()
    done = add(registry, 1)
    assert done == Registered(effect="s1.register.1", model=MODEL, version="1", alias=CANDIDATE, before="", current="1")
    (version,) = registry.versions(MODEL)
    assert (version.session, version.sha256, version.branch) == ("s1-00001", "1" * 64, "phase/1-1")
    assert version.location == "valuetrain://s1-00001/model-package.zip"
    assert (version.aliases, version.rolled_back, version.metrics) == ((CANDIDATE,), False, {"roc_auc": 0.91})
    assert registry.models() == (MODEL,)
    assert not (tmp_path / "mlruns").exists()


def test_the_alias_goes_to_the_newest_and_the_receipt_names_the_one_before(registry: Registry) -> None:
    add(registry, 1)
    second = add(registry, 2)
    assert (second.version, second.before, second.current) == ("2", "1", "2")
    assert alias(registry) == "2"


def test_the_same_effect_makes_one_version(registry: Registry, uri: str) -> None:
    add(registry, 1)
    first = add(registry, 2)
    again = MlflowRegistry(uri).register("s1.register.2", MODEL, CANDIDATE, package(2))  # by another process
    assert again == first
    assert [v.version for v in registry.versions(MODEL)] == ["2", "1"]


def test_a_crash_before_the_alias_moved_is_made_good(
    registry: Registry, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def crash(*_: object) -> None:
        raise ConnectionError("postgresql://dana:hunter2@host")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", crash)
        with pytest.raises(RegistryError, match="registry_uri") as told:
            add(registry, 1)
        assert "hunter2" not in str(told.value)
    assert (len(registry.versions(MODEL)), alias(registry)) == (1, "")
    assert add(MlflowRegistry(uri), 1).current == "1"
    assert (len(registry.versions(MODEL)), alias(registry)) == (1, "1")


def test_told_again_late_an_effect_does_not_move_an_alias_that_went_on(registry: Registry) -> None:
    add(registry, 1)
    add(registry, 2)
    assert add(registry, 1).current == "2"
    assert alias(registry) == "2"


def test_taken_back_the_alias_is_where_it_was_and_nothing_is_deleted(registry: Registry) -> None:
    add(registry, 1)
    second = add(registry, 2)
    for _ in range(2):
        assert registry.take_back("undo.1", second).current == "1"
    newest, first = registry.versions(MODEL)
    assert (newest.version, newest.rolled_back, newest.aliases) == ("2", True, ())
    assert (first.version, first.rolled_back, first.aliases) == ("1", False, (CANDIDATE,))


def test_the_first_version_taken_back_leaves_no_alias(registry: Registry) -> None:
    first = add(registry, 1)
    assert registry.take_back("undo.1", first).current == ""
    assert alias(registry) == ""
    assert add(registry, 1).current == ""  # told again late: it stays taken back


def test_a_crash_between_alias_and_mark_is_made_good(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    def crash(*_: object) -> None:
        raise ConnectionError

    add(registry, 1)
    second = add(registry, 2)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_model_version_tag", crash)
        with pytest.raises(RegistryError):
            registry.take_back("undo.1", second)
    assert registry.take_back("undo.1", second).current == "1"
    assert registry.bring_back("redo.1", second).current == "2"


def test_what_somebody_else_moved_meanwhile_stays(registry: Registry) -> None:
    add(registry, 1)
    second = add(registry, 2)
    add(registry, 3)
    assert registry.take_back("undo.2", second).current == "3"
    assert registry.bring_back("redo.2", second).current == "3"
    assert not any(v.rolled_back for v in registry.versions(MODEL))


def test_a_version_that_was_rolled_back_is_no_way_back(registry: Registry) -> None:
    add(registry, 1)
    second, third = add(registry, 2), add(registry, 3)
    registry.take_back("undo.2", second)
    assert registry.take_back("undo.3", third).current == "1"


def test_a_rollback_can_be_rolled_back(registry: Registry) -> None:
    first = add(registry, 1)
    registry.take_back("undo.1", first)
    for _ in range(2):
        assert registry.bring_back("redo.1", first).current == "1"
    registry.take_back("undo.2", first)
    assert registry.bring_back("redo.1", first).current == ""  # the old effect, told again late
    assert registry.take_back("undo.1", first).current == ""
    assert registry.bring_back("redo.2", first).current == "1"


def test_what_never_came_to_be_needs_no_undoing(registry: Registry) -> None:
    add(registry, 1)
    doubtful = Registered(effect="s2.register.9", model=MODEL, version="", alias=CANDIDATE)
    assert registry.take_back("undo.9", doubtful).current == "1"
    other = doubtful.model_copy(update={"model": "never-seen"})
    assert registry.take_back("undo.9", other).current == ""
    assert registry.bring_back("redo.9", doubtful) == doubtful.model_copy(update={"current": "1"})
    with pytest.raises(RegistryError, match=r"version 9 of model .* is no longer in the registry"):
        registry.bring_back("redo.9", doubtful.model_copy(update={"version": "9"}))


def test_a_store_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be opened"):
        MlflowRegistry(f"sqlite:///{tmp_path}/nowhere/registry.db").models()
    other = tmp_path / "registry.db"
    with sqlite3.connect(other) as database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("insert into alembic_version values ('not-ours')")
    database.close()
    with pytest.raises(RegistryError):
        MlflowRegistry(f"sqlite:///{other}").models()


def test_without_mlflow_it_says_what_to_install(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(RegistryError, match="extra `tracking`"):
        MlflowRegistry(uri).models()
