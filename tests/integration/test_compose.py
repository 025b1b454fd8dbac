"""compose.yaml: what it says fits the program, the image and itself. No container engine is needed for that."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.app import app
from cli.settings import Settings
from schemas.values import Role

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "compose.yaml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
COMMANDS = {name: service["command"] for name, service in OURS.items() if "entrypoint" not in service}
PINNED = re.compile(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)?")
"""The standard name of a public image (no registry's host) and an exact version."""


def _mounts(service: dict[str, Any]) -> dict[str, str]:
    """Target to source of a service's volumes."""
    split = [re.sub(r"\$\{[^}]*\}", "REPOSITORY", mount).split(":") for mount in service.get("volumes", [])]
    return {target: source for source, target, *_ in split}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_one_of_the_program(name: str) -> None:
    """Its words are accepted as they stand; `--help` keeps it from being carried out."""
    ran = CliRunner().invoke(app, [*COMMANDS[name], "--help"])
    assert ran.exit_code == 0, ran.output
    missing = [word for word in COMMANDS[name] if word.startswith("--") and word not in ran.output]
    assert not missing


def test_everything_that_runs_apart_is_there() -> None:
    agents = {command[2] for command in COMMANDS.values() if command[:2] == ["agent", "run"]}
    assert agents == {role.value for role in Role}
    assert SERVICES["conductor"]["deploy"]["replicas"] == 2
    assert {"nats", "postgres", "autopilot", "gateway", "logins", "database-login"} <= set(SERVICES)


def test_services_and_volumes_fit_together() -> None:
    used = {source for service in SERVICES.values() for source in _mounts(service).values()}
    assert used - {"REPOSITORY"} == set(COMPOSE["volumes"])
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} waits for {other}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
    written = _mounts(SERVICES["logins"])
    assert written["/init/nats"] == _mounts(SERVICES["nats"])["/config"]
    assert _mounts(SERVICES["database-login"])["/init/database"] == _mounts(SERVICES["postgres"])["/init/database"]


def test_each_role_has_its_own_login_and_no_other() -> None:
    handed = {
        t.removeprefix("/init/logins/"): s for t, s in _mounts(SERVICES["database-login"]).items() if "logins" in t
    }
    for name, service in SERVICES.items():
        if name.startswith("agent-") or name in ("autopilot", "gateway"):
            role = name.removeprefix("agent-")
            mounts = _mounts(service)
            assert mounts["/train/bus/credentials"] == handed[role]
            assert "home" not in mounts.values(), "the home holds the keys of all roles"
            assert [s for s in mounts.values() if s.startswith("login-")] == [f"login-{role}"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_may_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["user"] not in ("root", "0", "0:0")
    assert service["cap_drop"] == ["ALL"]
    assert "ports" not in service, "nothing is open to the outside"
    assert PINNED.fullmatch(service["image"]), "no registry's host, an exact version"


def test_only_the_gateway_gets_the_models_key() -> None:
    assert [name for name, service in SERVICES.items() if "model" in str(service)] == ["gateway"]


def test_no_secret_is_written_down() -> None:
    settings = {f"VALUETRAIN_{field.upper()}" for field in Settings.model_fields} | {"VALUETRAIN_HOME"}
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            assert variable in settings or not variable.startswith("VALUETRAIN_"), f"{variable} is no setting"
            assert "PASSWORD" not in variable or variable.endswith("_FILE")
            assert not re.search(r"//[^/]*:[^/]*@", str(value)), "no password in a URL"


def test_the_image_is_pinned_and_not_root() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    images = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-bookworm", images[0])
    assert [line for line in lines if line.startswith("USER ")] == ["USER train"]
    kept = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = {line[1:] for line in kept if line.startswith("!")}
    assert {"constraints.txt", "pyproject.toml", "cli", "pipelines"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) <= copied, "what the wheel holds gets into the image"
    assert "*" in kept
    made = next(line for line in lines if "for role in" in line)
    assert set(made.split("for role in ")[1].split(";")[0].split()) == {*Role, "autopilot", "gateway"}


def test_docker_compose_accepts_it() -> None:
    """By the plugin of an engine, or by Debian's `docker-compose`, which needs no engine for this."""
    docker, alone = shutil.which("docker"), shutil.which("docker-compose")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        compose = [docker, "compose"]
    elif alone:
        compose = [alone]
    else:
        pytest.skip("there is no docker compose on this machine: apt-get install docker-compose")
    done = subprocess.run([*compose, "config"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)
