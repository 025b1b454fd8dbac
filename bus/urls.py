"""What a NATS server's URL may be."""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("nats", "tls")


def check_url(url: str) -> None:
    """Raises ValueError (without the URL, which may hold a password) unless it is `nats://HOST:PORT` or
    `tls://HOST:PORT`, or several with commas between them, all of one kind."""
    schemes = set()
    for each in url.split(","):
        try:
            parts = urlsplit(each.strip())
            port = parts.port
        except ValueError:
            raise ValueError("is no URL: say nats://HOST:PORT or tls://HOST:PORT") from None
        if parts.username is not None or parts.password is not None:
            raise ValueError("must hold no user and no password: roles log in with the nkeys of the home")
        if parts.scheme not in SCHEMES or not parts.hostname or port == 0 or parts.path.strip("/") or parts.query:
            raise ValueError("must be nats://HOST:PORT or tls://HOST:PORT (several: with commas between them)")
        schemes.add(parts.scheme)
    if len(schemes) > 1:
        raise ValueError("mixes nats:// and tls://: all servers of one cluster speak TLS, or none")
