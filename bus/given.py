"""A NATS server of one's own: somebody else runs it, we only log in."""

from __future__ import annotations

from pathlib import Path

from bus.credentials import read_seed, seed_path
from bus.port import BusError, Login, Tls
from bus.tls import check_files
from bus.urls import check_url

_REMEDY = "make it with `valuetrain credentials server-config`, and give the server that configuration"


class GivenServer:
    """A server at `url` whose users are the roles of `directory` (seeds in `directory/credentials/<role>.seed`).

    `tls` names the files to verify it with. Nothing is contacted here. Raises BusError for a URL that is none or has a
    user in it, TlsFailed for files that cannot be used.
    """

    def __init__(self, url: str, directory: Path, tls: Tls | None = None) -> None:
        try:
            check_url(url)
        except ValueError as problem:
            raise BusError(f"the URL of the NATS server {problem}") from None
        if tls is not None:
            check_files(tls)
        self.url = ",".join(each.strip() for each in url.split(","))
        self.directory = directory.resolve()
        self.tls = tls

    def login(self, role: str) -> Login:
        """The login of a role. Raises BusError when its seed is missing or unreadable."""
        seed = read_seed(self.directory, role, _REMEDY)
        return Login(self.url, role, seed, self.tls, seed_path(self.directory, role))
