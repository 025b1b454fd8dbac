"""Settings: `config.yaml` in the home directory, overruled by `VALUETRAIN_…` environment variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cli.errors import CliError
from schemas.model_policy import ModelName
from schemas.values import Tenant

if TYPE_CHECKING:
    from bus.port import Tls

SECRETS = (
    "github_token",
    "github_read_token",
    "github_webhook_secret",
    "slack_token",
    "slack_app_token",
    "slack_signing_secret",
)
"""What `config.yaml` may not hold."""


HISTORY = "history.json"
"""The file in the home from which skills learn of past sessions."""
FEATURES = "features.json"
"""The same for what they found of inputs."""
BACKFILLS = "backfills"
"""The folder in the home with the inputs that were computed for past rows."""


class Settings(BaseSettings):
    """What an installation can set. An unknown name is an error, never ignored."""

    model_config = SettingsConfigDict(env_prefix="VALUETRAIN_", extra="forbid", hide_input_in_errors=True)

    tenant: Tenant = "default"
    store_url: SecretStr | None = None
    """Where the record is: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, or nothing for SQLite in the home. Better
    without a password, which libpq also takes from `~/.pgpass`; it is never shown either way."""
    nats_server: Path | None = None
    """Another nats-server binary than the one that comes with the package."""
    nats_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """The embedded server's port on loopback; 0 takes a free one."""
    nats_url: str | None = None
    """A NATS server of your own instead of the embedded one: `nats://HOST:PORT` or `tls://HOST:PORT` (several: with
    commas), without user and password, since roles log in with the nkeys of the home."""
    nats_tls_ca: Path | None = None
    """The certificates to verify the NATS server with, in PEM; left out: those of the operating system."""
    nats_tls_certificate: Path | None = None
    """With `nats_url` the clients' own certificate, for a server that asks for one; else that of the embedded server,
    which then serves TLS only."""
    nats_tls_key: Path | None = None
    """The key of `nats_tls_certificate`, without a passphrase and readable for you only."""
    sandbox: Literal["bubblewrap", "container", "local-unsafe"] = "bubblewrap"
    """How a repository's own tests, and commands of a model, are contained: by bubblewrap, or by podman (`container`).
    `local-unsafe` contains nothing, and every session says so. None takes the place of another by itself."""
    sandbox_environments: tuple[Path, ...] = ()
    """Directories (a virtual environment) that contained commands may read and run besides the system's programs; their
    `bin` comes first on the path."""
    planner: Literal["playbook", "llm"] = "playbook"
    """Who plans the phases that a pipeline marks `planned`: the playbook, or a language model."""
    skill_processes: Annotated[int, Field(ge=1, le=64)] = 2
    """How many skills may run at once."""
    skill_folders: tuple[Path, ...] = ()
    """Folders with skills of your own, one or more in each `*.py` file; relative ones are relative to the home. Their
    code runs in the children of skills only. Without them nothing of the kind is looked for."""
    skill_packages: tuple[str, ...] = ()
    """Installed packages whose entry points in the group `valuetrain.skills` are skills; the same holds for them."""
    tracking_uri: str | None = None
    """An MLflow tracking URI (`sqlite:////path/mlflow.db`, a server) for the training runs; needs the extra `tracking`.
    It reaches the skill's process, so it must hold no password: MLflow reads those from its own credentials file."""

    ray_address: str | None = None
    """The Ray cluster on which `training.train` searches, `HOST:PORT` of its head; this machine must be a node of it.
    Needs the extra `ray`. Left out: the search runs on this machine. Whoever reaches a cluster's ports can run code on
    its nodes: keep them on loopback or in a network of your own."""

    registry_uri: str | None = None
    """The MLflow model registry in which packages become versions: `home` (`registry.db` in the home), or a URI
    (`sqlite:////path/registry.db`, a server) without a password. Needs the extra `tracking`. Left out: nothing is
    registered."""

    release_keys: tuple[Path, ...] = ()
    """Public keys (PEM, ed25519) whose signature lets a package be released; left out: those of the home."""

    advisories: Path | None = None
    """An advisory database in the OSV format: a ZIP of records, or a JSON list. Nothing is fetched."""
    advisories_max_days: Annotated[float, Field(gt=0, le=3650)] = 7.0
    backfill_days: Annotated[int, Field(ge=1, le=36_500)] = 365
    """How many days inputs computed for past rows are kept, from when they were made."""
    backfill_personal_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    """The same for inputs that rules take for personal data."""
    """How old its newest record may be for a check of dependencies to pass."""

    github_url: str = "https://api.github.com"
    """The API of GitHub; of a GitHub Enterprise server `https://HOST/api/v3`."""
    github_token: SecretStr | None = None
    """A token for GitHub, only from the environment (`VALUETRAIN_GITHUB_TOKEN`); in a file: `github_token_file`."""
    github_token_file: Path | None = None
    """A file that only you may read, with the token."""
    github_read_token: SecretStr | None = None
    """Another token to read the backlog with, only from the environment; left out, the same one reads and writes."""
    github_read_token_file: Path | None = None
    """A file that only you may read, with that token."""
    github_app_id: int | None = None
    """Instead of a token: the id of a GitHub App."""
    github_app_installation: int | None = None
    """The id of the App's installation in the repository's organisation or account."""
    github_app_key_file: Path | None = None
    """A file that only you may read, with the App's private key in PEM."""
    github_poll_seconds: Annotated[float, Field(ge=1, le=86400)] = 60.0
    """How often a running Auto-Pilot, or a drive that waits, looks at a GitHub backlog; `--every` comes first."""

    chatops_poll_seconds: Annotated[float, Field(ge=1, le=3600)] = 15.0
    """How often chat-ops looks for comments; webhooks only make it faster."""
    chatops_listen: str = "127.0.0.1:8787"
    """Where chat-ops takes webhooks and Slack's requests, `HOST:PORT`; only if one of both is set."""
    github_webhook_secret: SecretStr | None = None
    """The secret GitHub signs webhooks with, only from the environment; without one there is no webhook."""
    github_webhook_secret_file: Path | None = None
    """A file that only you may read, with that secret."""
    slack_channel: Annotated[str, Field(pattern=r"^[CG][A-Z0-9]{2,20}$")] | None = None
    """The id of the Slack channel that gates are posted to."""
    slack_token: SecretStr | None = None
    """The Slack app's bot token (`xoxb-…`), only from the environment."""
    slack_token_file: Path | None = None
    """A file that only you may read, with that token."""
    slack_app_token: SecretStr | None = None
    """The Slack app's app-level token (`xapp-…`), only from the environment: with it chat-ops connects to Slack (Socket
    Mode), and Slack needs no way to reach it."""
    slack_app_token_file: Path | None = None
    """A file that only you may read, with that token."""
    slack_signing_secret: SecretStr | None = None
    """The secret Slack signs its requests with, only from the environment."""
    slack_signing_secret_file: Path | None = None
    """A file that only you may read, with that secret."""
    slack_url: str = "https://slack.com/api/"
    """Slack's web API."""

    @field_validator("slack_url")
    @classmethod
    def _slack_encrypted(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
            raise ValueError("must begin with https://, or the token could be read on its way")
        return f"{url.rstrip('/')}/"

    @field_validator("github_url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query or not parts.hostname:
            raise ValueError("must be https://HOST or https://HOST/api/v3, without user and password")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
            raise ValueError("must begin with https://, or the token could be read on its way")
        return url.rstrip("/")

    model_base_url: str | None = None
    """The OpenAI-compatible endpoint of a language model (`http://127.0.0.1:11434/v1`); left out: no model is asked."""
    model_name: ModelName | None = None
    """The model, as the endpoint calls it; the policy's `models` must have its price."""
    model_key: SecretStr | None = None
    """The endpoint's key, only as VALUETRAIN_MODEL_KEY in the environment. The model gateway alone gets it."""
    model_key_file: Path | None = None
    """A file with the key, readable for you only, instead of the environment."""
    model_output_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls the most tokens of a reply: the newest hosted models want `max_completion_tokens`."""

    model_class: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    """A chat model of langchain-core (`langchain_anthropic:ChatAnthropic`) that is asked instead of the `openai` SDK,
    with `model_base_url`, `model_name` and the key. Installed by you; only the gateway imports it."""

    @field_validator("model_base_url")
    @classmethod
    def _endpoint(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("must be like https://HOST/v1 or http://127.0.0.1:PORT/v1")
            if parts.username or parts.password or parts.query:
                raise ValueError("must hold no user, password or query: the key belongs into VALUETRAIN_MODEL_KEY")
        return url

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.model_base_url is None) != (self.model_name is None):
            raise ValueError("model_base_url and model_name belong together: set both, or neither")
        if self.model_class is not None and self.model_base_url is None:
            raise ValueError("model_class says how an endpoint is asked, and none is named: set model_base_url, too")
        if self.model_key is not None and self.model_key_file is not None:
            raise ValueError("the model's key comes from VALUETRAIN_MODEL_KEY or model_key_file, not from both")
        return self

    @field_validator("store_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://; leave it out for SQLite in the home")
        return url

    @field_validator("ray_address")
    @classmethod
    def _host_and_port(cls, address: str | None) -> str | None:
        if address is not None:
            host, _, port = address.rpartition(":")
            if not host or "/" in host or not port.isdigit() or not 1024 <= int(port) <= 65535:
                raise ValueError("must be HOST:PORT of the cluster's head (6379 by default), without a scheme")
        return address

    @field_validator("tracking_uri", "registry_uri")
    @classmethod
    def _no_password(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).password is not None:
            raise ValueError("must not hold a password; put it into MLflow's own credentials file")
        return uri

    @field_validator("nats_url")
    @classmethod
    def _server_url(cls, url: str | None) -> str | None:
        from bus.urls import check_url

        if url is not None:
            check_url(url)
        return url

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        certificate, key = self.nats_tls_certificate, self.nats_tls_key
        if self.nats_url is not None:
            for name in ("nats_server", "nats_port"):
                if getattr(self, name):
                    raise ValueError(f"{name} is for the embedded server and nats_url names another: leave one out")
        if (certificate is None) != (key is None):
            raise ValueError("nats_tls_certificate and nats_tls_key belong together: set both, or neither")
        if self.nats_url is None and self.nats_tls_ca is not None and certificate is None:
            raise ValueError(
                "nats_tls_ca alone verifies nobody: set nats_url, or nats_tls_certificate and nats_tls_key for the "
                "embedded server"
            )
        return self

    @property
    def nats_tls(self) -> Tls | None:
        """The files for TLS, if any is named; they are looked at when they are used."""
        from bus.port import Tls

        files = Tls(self.nats_tls_ca, self.nats_tls_certificate, self.nats_tls_key)
        return files if files != Tls() else None

    @property
    def facts(self) -> dict[str, str]:
        """What skills are told of the settings."""
        told: dict[str, str] = {"sandbox": self.sandbox}
        if self.sandbox_environments:
            told["sandbox_environments"] = os.pathsep.join(os.path.abspath(each) for each in self.sandbox_environments)
        if self.ray_address:
            told["ray_address"] = self.ray_address
        return told | ({"tracking_uri": self.tracking_uri} if self.tracking_uri else {})

    def told(self, home: Path) -> dict[str, str]:
        """The facts, the advisory database, the record's past in `history.json` and `features.json`, and which public
        keys vouch for packages: those of the settings, else the own ones in `keys` of `home`."""
        trusted = [os.path.abspath(each) for each in self.release_keys or (home / "keys",)]
        told = self.facts | {"release_keys": os.pathsep.join(trusted), "history": os.path.abspath(home / HISTORY)}
        told |= {"features": os.path.abspath(home / FEATURES), "backfills": os.path.abspath(home / BACKFILLS)}
        told |= {
            "backfill_days": str(self.backfill_days), "backfill_personal_days": str(self.backfill_personal_days)
        }  # fmt: skip
        if self.advisories is not None:
            told |= {"advisories": os.path.abspath(self.advisories)}
        return told | {"advisories_max_days": str(self.advisories_max_days)}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrules the file (which is passed as init values)."""
        return env_settings, init_settings


def load(config: Path) -> Settings:
    """Settings from `config` (which may be missing) and the environment. Raises CliError naming field and reason."""
    values: dict[str, Any] = {}
    if config.exists():
        try:
            values = yaml.safe_load(config.read_text("utf-8")) or {}
        except yaml.MarkedYAMLError as problem:  # which would quote the line, and that may hold a password
            line = problem.problem_mark.line + 1 if problem.problem_mark else 0
            raise CliError(f"{config} cannot be read: line {line}: {problem.problem}") from None
        except (OSError, yaml.YAMLError) as problem:
            raise CliError(f"{config} cannot be read: {problem}") from problem
        if not isinstance(values, dict):
            raise CliError(f"{config} must be a list of `name: value` lines")
        for name in SECRETS:
            if name in values:  # every component reads this file, and only one of them may have the token
                raise CliError(f"{config}: {name} belongs into the environment, or into a file: set {name}_file")
        if "model_key" in values:
            raise CliError(f"{config} must not hold model_key: export VALUETRAIN_MODEL_KEY, or name a model_key_file")
    try:
        return Settings(**values)
    except ValidationError as problem:
        first = problem.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if not name:  # settings that contradict each other; the text names them
            raise CliError(f"settings in {config} or VALUETRAIN_…: {first['msg']}") from problem
        known = ", ".join(sorted(Settings.model_fields))
        raise CliError(
            f"setting {name!r} in {config} or VALUETRAIN_…: {first['msg']}; settings are {known}"
        ) from problem
