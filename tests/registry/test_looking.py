"""Looking into the registry makes none, and an unknown model is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from autopilot.registry.port import RegistryError
from cli.errors import CliError
from cli.models import model_rows, version_rows


class Away:
    """A registry that cannot be reached."""

    def models(self) -> tuple[str, ...]:
        raise RegistryError("the model registry cannot be used (ConnectionError); check `registry_uri`")

    def versions(self, model: str) -> tuple[str, ...]:
        raise RegistryError("the model registry cannot be used (ConnectionError); check `registry_uri`")


def test_an_empty_registry_lists_nothing_and_names_what_it_does_not_have() -> None:
    assert model_rows(None) == []
    with pytest.raises(CliError, match="no model 'nobody' is registered; `valuetrain model list`"):
        version_rows(None, "nobody")


def test_a_registry_that_is_away_is_an_error_and_not_empty() -> None:
    for look in (model_rows, lambda registry: version_rows(registry, "nobody")):
        with pytest.raises(CliError, match="check `registry_uri`"):
            look(Away())  # type: ignore[arg-type]


def test_a_home_without_a_registry_is_left_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli import models

    (tmp_path / "config.yaml").write_text("tenant: default\n", "utf-8")
    monkeypatch.setattr("cli.home.Home.existing", lambda self: self)
    assert models.registry_of(tmp_path) is None
    assert not (tmp_path / "registry.db").exists()
