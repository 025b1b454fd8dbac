"""The model registry in MLflow: a SQLite file, or a server.

What was done stands in tags of the version itself, which MLflow writes in one transaction with it. MLflow is heavy
(seconds), so it is imported with the first call.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from autopilot.registry.port import Package, RegistryError, Version
from schemas.values import Registered

MISSING = (
    "the model registry needs MLflow, which is not installed; install the extra `tracking` "
    "(agenticops-value-train[tracking]), or leave the setting `registry_uri` out"
)
_EFFECT = "valuetrain.effect"
_DONE = "valuetrain.done."
"""And the id of an effect: it was carried out on this version."""
_BACK = "valuetrain.rolled_back"
"""What the alias was given back to, `none`, or `elsewhere`; there only while the version is rolled back."""
_BEFORE = "valuetrain.before"
_SHA256 = "valuetrain.sha256"
_FIRST_BY = "valuetrain.first_by"
"""The effect that made the version without anybody hearing of it, before another one took it over."""
_SUPERSEDED = "valuetrain.superseded_by"
"""The effect that found the version, of which nobody had heard, and marked it as rolled back."""
_METRIC = "valuetrain.metric."
_SENDING = threading.Lock()
_NONE = "none"
_ELSEWHERE = "elsewhere"
"""The alias was not ours to give back: it pointed to another version by then."""
_MOST = 1000


class MlflowRegistry:
    """The registry at an MLflow URI: `sqlite:////path/registry.db`, or a server."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._known: Any = None

    def register(
        self, effect: str, model: str, alias: str, package: Package, doubtful: Sequence[str] = ()
    ) -> Registered:
        """See the port."""
        with self._calling() as client:
            version = self._find(client, model, effect)
            if version is None and doubtful:
                version = self._settle(client, effect, model, alias, package, doubtful)
            if version is None:
                self._make_model(client, model)
                tags = _tags(effect, alias, self._alias(client, model, alias), package)
                with _sent_once():
                    version = client.create_model_version(model, package.location, tags=tags, await_creation_for=0)
            done = _registered(version, model)
            if _BACK not in version.tags and self._alias(client, model, alias) == done.before:
                client.set_registered_model_alias(model, alias, done.version)
            return done.model_copy(update={"current": self._alias(client, model, alias)})

    def take_back(self, effect: str, done: Registered) -> Registered:
        """See the port."""
        with self._calling() as client:
            version = self._find(client, done.model, done.effect)
            if version is None:  # it was withdrawn before it was carried out
                return done.model_copy(update={"version": "", "current": self._alias(client, done.model, done.alias)})
            known = _registered(version, done.model)
            self._mark(client, effect, version, known)
            return known.model_copy(update={"current": self._alias(client, known.model, known.alias)})

    def bring_back(self, effect: str, done: Registered) -> Registered:
        """See the port."""
        with self._calling() as client:
            version = self._find(client, done.model, done.effect)
            if version is None and not done.version:  # it was withdrawn before it was carried out
                return done.model_copy(update={"current": self._alias(client, done.model, done.alias)})
            if version is None:
                raise RegistryError(
                    f"version {done.version} of model {done.model} is no longer in the registry; restore the registry "
                    "from a backup, or run the phase again"
                )
            known = _registered(version, done.model)
            if _DONE + effect not in version.tags and (left := version.tags.get(_BACK)) is not None:
                if (self._alias(client, known.model, known.alias) or _NONE) == left:
                    self._point(client, known, known.version)
                client.delete_model_version_tag(known.model, known.version, _BACK)
            self._set(client, version, _DONE + effect, "bring back")
            return known.model_copy(update={"current": self._alias(client, known.model, known.alias)})

    def models(self) -> tuple[str, ...]:
        """See the port."""
        with self._calling() as client:
            found, token = [], None
            while True:
                page = client.search_registered_models(max_results=_MOST, page_token=token)
                found += [model.name for model in page]
                if not (token := page.token):
                    return tuple(sorted(found))

    def versions(self, model: str) -> tuple[Version, ...]:
        """See the port."""
        with self._calling() as client:
            aliases = self._aliases(client, model)
            found = [_version(v, tuple(sorted(a for a, at in aliases.items() if at == str(v.version))))
                     for v in self._versions(client, model)]  # fmt: skip
            return tuple(sorted(found, key=lambda v: int(v.version), reverse=True))

    def _mark(self, client: Any, effect: str, version: Any, known: Registered) -> None:
        """As rolled back, once per effect, after the alias went back."""
        if _DONE + effect not in version.tags and _BACK not in version.tags:
            before = self._standing(client, known)
            if self._alias(client, known.model, known.alias) == known.version:
                self._point(client, known, before)
            ours = self._alias(client, known.model, known.alias) == before
            client.set_model_version_tag(known.model, known.version, _BACK, before or _NONE if ours else _ELSEWHERE)
        self._set(client, version, _DONE + effect, "take back")

    def _set(self, client: Any, version: Any, tag: str, value: str) -> None:
        if version.tags.get(tag) != value:
            client.set_model_version_tag(version.name, str(version.version), tag, value)

    def _settle(
        self, client: Any, effect: str, model: str, alias: str, package: Package, doubtful: Sequence[str]
    ) -> Any:
        """The version that `effect` takes over, or None. The others of which nobody heard are marked first: killed in
        between, it is found and taken over the next time."""
        found = [version for each in doubtful if (version := self._find(client, model, each)) is not None]
        kept = None
        for version in sorted(found, key=lambda v: int(v.version), reverse=True):
            if _BACK in version.tags:
                continue
            same = (version.source, version.tags.get(_SHA256)) == (package.location, package.artifact.sha256)
            # What came before a version is always older: else going back along it could end where it began.
            if kept is None and same and int(self._alias(client, model, alias) or 0) <= int(version.version):
                kept = version
            else:
                self._set(client, version, _SUPERSEDED, effect)
                self._mark(client, effect, version, _registered(version, model))
        return None if kept is None else self._take_over(client, effect, alias, package, kept)

    def _take_over(self, client: Any, effect: str, alias: str, package: Package, version: Any) -> Any:
        """Make a version that of `effect`: as if it had been made now. The effect's id comes last."""
        model, number = version.name, str(version.version)
        at = self._alias(client, model, alias)
        before = version.tags[_BEFORE] if at == number else at
        tags = _tags(effect, alias, "" if before == _NONE else before, package)
        made_by = tags.pop(_EFFECT)
        for name in [name for name in version.tags if name.startswith(_METRIC) and name not in tags]:
            client.delete_model_version_tag(model, number, name)
        first = version.tags.get(_FIRST_BY, version.tags[_EFFECT])
        for name, value in {**tags, _FIRST_BY: first, _EFFECT: made_by}.items():
            self._set(client, version, name, value)
        return client.get_model_version(model, number)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[Any]:
        """The client, alone on a SQLite store. Raises RegistryError for whatever goes wrong while it is used."""
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as problem:
            raise RegistryError(MISSING) from problem
        with self._alone():
            try:
                if self._known is None:
                    self._known = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
                yield self._known
            except RegistryError:
                raise
            except MlflowException as problem:
                raise RegistryError(f"the model registry refused: {_first(problem)}") from problem
            except Exception as problem:  # drivers and connections raise what they like, and may quote the address
                name = type(problem).__name__
                raise RegistryError(f"the model registry cannot be used ({name}); check `registry_uri`") from problem

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: MLflow makes SQLite's tables on first use, and an alias is read, then moved."""
        path = self._uri.removeprefix("sqlite:///")
        if path == self._uri:
            yield
            return
        try:
            lock = open(f"{path}.lock", "w", encoding="utf-8")  # noqa: SIM115 - closed below, whatever happens
        except OSError as problem:
            raise RegistryError(f"the model registry {path} cannot be opened: {problem}") from problem
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_model(self, client: Any, model: str) -> None:
        if not client.search_registered_models(filter_string=f"name = '{model}'", max_results=1):
            client.create_registered_model(model, description="Registered by Value Train.")

    def _versions(self, client: Any, model: str, and_that: str = "") -> list[Any]:
        found, token = [], None
        while True:
            page = client.search_model_versions(f"name = '{model}'{and_that}", max_results=_MOST, page_token=token)
            found += page
            if not (token := page.token):
                return found

    def _find(self, client: Any, model: str, effect: str) -> Any:
        """The version that an effect made, or None."""
        return next(iter(self._versions(client, model, f" and tags.`{_EFFECT}` = '{effect}'")), None)

    def _aliases(self, client: Any, model: str) -> dict[str, str]:
        found = client.search_registered_models(filter_string=f"name = '{model}'", max_results=1)
        return {alias: str(at) for alias, at in found[0].aliases.items()} if found else {}

    def _alias(self, client: Any, model: str, alias: str) -> str:
        """The version it points to, "" for none."""
        return self._aliases(client, model).get(alias, "")

    def _standing(self, client: Any, done: Registered) -> str:
        """The newest version before `done` that was not rolled back, along what the alias pointed to; "" for none."""
        by_number = {str(v.version): v for v in self._versions(client, done.model)}
        at = done.before
        while at in by_number and _BACK in by_number[at].tags:
            at = by_number[at].tags.get(_BEFORE, _NONE)
        return at if at in by_number else ""

    def _point(self, client: Any, done: Registered, version: str) -> None:
        if version:
            client.set_registered_model_alias(done.model, done.alias, version)
        else:
            client.delete_registered_model_alias(done.model, done.alias)


@contextlib.contextmanager
def _sent_once() -> Iterator[None]:
    """MLflow sends a request again whose answer was lost, and a server would make a second version."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    with _SENDING:  # the environment is the whole process's
        usual = os.environ[name]
        os.environ[name] = "0"
        try:
            yield
        finally:
            os.environ[name] = usual


def _tags(effect: str, alias: str, before: str, package: Package) -> dict[str, str]:
    told = {
        _EFFECT: effect,
        "valuetrain.alias": alias,
        _BEFORE: before or _NONE,
        "valuetrain.session": package.session,
        "valuetrain.ticket": str(package.ticket),
        _SHA256: package.artifact.sha256,
        "valuetrain.branch": package.branch,
        "valuetrain.commit": package.commit,
    }
    return told | {_METRIC + name: repr(value) for name, value in package.metrics.items()}


def _registered(version: Any, model: str) -> Registered:
    before = version.tags[_BEFORE]
    return Registered(
        effect=version.tags[_EFFECT],
        model=model,
        version=str(version.version),
        alias=version.tags["valuetrain.alias"],
        before="" if before == _NONE else before,
    )


def _version(version: Any, aliases: tuple[str, ...]) -> Version:
    tags = version.tags
    before = tags.get(_BEFORE, _NONE)
    return Version(
        model=version.name,
        version=str(version.version),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000.0, UTC),
        effect=tags.get(_EFFECT, ""),
        session=tags.get("valuetrain.session", ""),
        location=version.source or "",
        sha256=tags.get(_SHA256, ""),
        branch=tags.get("valuetrain.branch", ""),
        commit=tags.get("valuetrain.commit", ""),
        before="" if before == _NONE else before,
        rolled_back=_BACK in tags,
        aliases=aliases,
        metrics={name.removeprefix(_METRIC): float(value) for name, value in tags.items() if name.startswith(_METRIC)},
    )


def _first(problem: Exception) -> str:
    return str(problem).splitlines()[0][:300]
