"""`valuetrain credentials`: logins for the bus, and what a NATS server of one's own must know of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

if TYPE_CHECKING:
    from bus.port import Login
    from cli.home import Home
    from cli.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Logins for the bus: hand one out, replace one, set up a server.")


@app.command("observer")
def observer(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it here, readable for you only.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print a login that may read every event and publish nothing: a secret. See docs/observers.md.

    Example: `valuetrain credentials observer -o observer.creds`
    """
    with guard(home, as_json):
        from bus.credentials import handed_out
        from cli.home import Home
        from cli.settings import load

        place = Home(home.resolve())
        settings = load(place.config)
        granted, tenant = _login(place, settings, "observer"), settings.tenant
        if output is not None:
            _write(output, handed_out(granted, tenant), 0o600)
        if as_json:
            document = {"role": granted.role, "url": granted.url, "tenant": tenant}
            return show_json(document | ({"file": str(output)} if output else {"seed": granted.seed}))
        if output is not None:
            return say(f"{output}: a read-only login at {granted.url}, readable for you only")
        sys.stdout.write(handed_out(granted, tenant))
        sys.stderr.write("this is a secret: keep the file to yourself (chmod 600), or let -o FILE do so\n")


@app.command("server-config")
def server_config(
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it here.")] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option("--tenant", metavar="T", help="A tenant of the server, more than once for several [the home's]."),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the server listens; 0.0.0.0:4222 in a container.")
    ] = "127.0.0.1:4222",
    store_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the server keeps its streams, as the server sees it.")
    ] = Path("/data"),
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The server's certificate, as the server sees the path.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of that certificate.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ask each client for a certificate signed by this CA.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print the configuration of a NATS server of your own: one account per tenant, one user per role.

    It holds public keys only. Logins that are missing are made in the home. See docs/operations.md.

    Example: `valuetrain credentials server-config --store-dir /var/lib/nats -o nats-server.conf`
    """
    with guard(home, as_json):
        from bus.permissions import ROLES
        from bus.server_config import server_configuration, tls_block
        from cli.home import Home
        from cli.settings import load

        place = Home(home.resolve())
        settings = load(place.config)
        tls = None
        if tls_certificate is not None and tls_key is not None:
            tls = tls_block(tls_certificate, tls_key, tls_ca)
        elif tls_certificate is not None or tls_key is not None or tls_ca is not None:
            raise _usage("TLS needs --tls-certificate and --tls-key, both: --tls-ca alone encrypts nothing")
        keys = {}
        place.prepare()
        for name in dict.fromkeys(tenant or [settings.tenant]):
            keys[name] = _public_keys(place, settings, name)
        config = server_configuration(keys, listen=_address(listen), store_dir=store_dir, tls=tls)
        text = json.dumps(config, indent=1) + "\n"
        if output is None:
            sys.stdout.write(text)
            return
        _write(output, text, 0o644)
        if as_json:
            return show_json({"file": str(output), "tenants": list(keys), "roles": list(ROLES), "listen": listen})
        say(f"{output}: tenants {', '.join(keys)}, {len(ROLES)} roles each; start the server with nats-server -c FILE")


@app.command("rotate")
def rotate(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="Whose login to replace: operator, conductor, data, ….")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Replace a role's login; the old one is refused from then on. Running components take the new one by themselves.

    Example: `valuetrain credentials rotate observer`
    """
    with guard(home, as_json):
        import anyio

        from bus import rotation
        from bus.permissions import ROLES
        from cli.home import Home
        from cli.logs import configure
        from cli.settings import load

        place = Home(home.resolve())
        settings = load(place.config)
        if role not in ROLES:
            raise _usage(f"there is no role {role!r}; the roles are {', '.join(ROLES)}")
        told = rotation.rotate(place.bus, role, own=settings.nats_url is None)
        if told:
            configure(place.log)
            anyio.run(rotation.taken, place.bus, role)
        if as_json:
            return show_json({"role": role, "server": "takes it" if told else "to be told"})
        if told:
            return say(f"{role}: the running server takes only the new login from now on; hand it out again if need be")
        if settings.nats_url is None:
            return say(f"{role}: the next start takes the new login only; hand it out again if need be")
        say(
            f"{role}: the server at {settings.nats_url} still takes the old login: make its configuration again "
            f"(valuetrain credentials server-config) and reload it (nats-server --signal reload)"
        )


def _login(place: Home, settings: Settings, role: str) -> Login:
    from bus.given import GivenServer
    from bus.server import login, running
    from cli.errors import CliError

    if settings.nats_url is not None:
        return GivenServer(settings.nats_url, place.bus, settings.nats_tls).login(role)
    if running(place.bus) is None:
        raise CliError(f"no system runs on {place.path}: start `valuetrain drive --wait` there, then ask again")
    return login(place.bus, role)


def _public_keys(place: Home, settings: Settings, tenant: str) -> dict[str, str]:
    """Of the home's own tenant from its logins, of another from those made for it here."""
    from pydantic import TypeAdapter, ValidationError

    from bus.credentials import ensure_public_keys, tenant_directory
    from bus.permissions import ROLES
    from cli.errors import CliError
    from schemas.values import Tenant

    try:
        TypeAdapter(Tenant).validate_python(tenant)
    except ValidationError:
        raise _usage(f"{tenant!r} is no tenant: 1 to 32 small letters, digits and -, not first") from None
    own = tenant == settings.tenant
    directory = place.bus if own else tenant_directory(place.bus, tenant)
    try:
        return ensure_public_keys(directory, ROLES, elsewhere=not own)
    except OSError as problem:
        raise CliError(f"the logins in {directory} cannot be read or made: {problem.strerror}") from problem


def _address(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise _usage(f"--listen {listen!r} is no address: say HOST:PORT, 127.0.0.1:4222 for instance")
    return listen


def _usage(message: str) -> Exception:
    from cli.errors import CliError, Exit

    return CliError(message, Exit.USAGE)


def _write(path: Path, text: str, mode: int) -> None:
    from bus.credentials import write_private
    from cli.errors import CliError

    try:
        write_private(path, text, mode)
    except OSError as problem:
        raise CliError(f"{path} cannot be written: {problem.strerror}") from problem
