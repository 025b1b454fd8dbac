"""TLS: the files it needs, and what a failed handshake means to the reader."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from bus.client import PlainText
from bus.port import Login, Tls, TlsFailed


def wants_tls(login: Login) -> bool:
    """Whether this login may only be used over TLS."""
    return login.tls is not None or any(url.strip().startswith("tls://") for url in login.url.split(","))


def check_files(tls: Tls) -> None:
    """Raises TlsFailed for a file that is missing, unreadable or no PEM, for a certificate without its key or a key
    without its certificate, a key that does not belong to it, and a key that others may read."""
    _own(tls)
    if tls.ca is not None:
        _certificates(tls.ca, "CA")


def server_files(tls: Tls) -> tuple[Path, Path]:
    """Certificate and key of a server. Raises TlsFailed as `check_files`, or when they are not named."""
    check_files(tls)
    if tls.certificate is None or tls.key is None:
        raise TlsFailed(
            "a server needs a certificate and its key to serve TLS: name both (nats_tls_certificate, nats_tls_key), "
            "or leave out the CA"
        )
    return tls.certificate.resolve(), tls.key.resolve()


def client_context(login: Login) -> ssl.SSLContext | None:
    """The context for this login's connections, which verifies certificate and host name; None for plain text.

    Raises TlsFailed as `check_files`.
    """
    if not wants_tls(login):
        return None
    tls = login.tls or Tls()
    check_files(tls)
    context = ssl.create_default_context(cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None and tls.key is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


def tls_problem(problem: Exception, login: Login) -> TlsFailed | None:
    """What a failed attempt to connect says about TLS; None when it is something else."""
    where = f"the server at {login.url}"
    if isinstance(problem, PlainText):
        return TlsFailed(
            f"{where} offers no TLS, and nothing is sent in plain text: give it a certificate, or use a nats:// URL "
            f"and name no files for TLS"
        )
    if isinstance(problem, ssl.SSLCertVerificationError):
        if not wants_tls(login):
            return TlsFailed(f"{where} wants TLS: use a tls:// URL and name the CA of its certificate (nats_tls_ca)")
        trusted = login.tls.ca if login.tls is not None and login.tls.ca is not None else "the operating system's CAs"
        return TlsFailed(
            f"{where} showed a certificate that cannot be trusted ({problem.verify_message}); trusted: {trusted}"
        )
    if isinstance(problem, ssl.SSLError):
        text = str(problem).lower()
        if "certificate required" in text or "bad certificate" in text or "unknown ca" in text:
            return TlsFailed(
                f"{where} wants a certificate of ours that it trusts ({problem.reason}): name one with its key "
                f"(nats_tls_certificate, nats_tls_key)"
            )
        return TlsFailed(f"{where} and we cannot agree on TLS: {problem.reason or problem}")
    return None


def _own(tls: Tls) -> None:
    if (tls.certificate is None) != (tls.key is None):
        named, missing = ("certificate", "key") if tls.key is None else ("key", "certificate")
        raise TlsFailed(f"the {named} {getattr(tls, named)} for TLS has no {missing}: name both, or neither")
    if tls.certificate is None or tls.key is None:
        return
    _certificates(tls.certificate, "certificate")
    _read(tls.key, "key")
    found = tls.key.stat()
    mode = stat.S_IMODE(found.st_mode)
    # One that belongs to somebody else may be given to us by our group.
    if mode & (0o077 if found.st_uid == os.getuid() else 0o007):
        raise TlsFailed(f"the key {tls.key} for TLS can be read by others (mode {mode:04o}): chmod 600 {tls.key}")
    try:
        # Not asking for a passphrase at the terminal, which OpenSSL would do.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(tls.certificate, tls.key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as problem:
        raise TlsFailed(
            f"the key {tls.key} does not belong to the certificate {tls.certificate}, is encrypted or is no PEM "
            f"({getattr(problem, 'reason', problem)}): name the unencrypted key of this certificate"
        ) from None


def _certificates(path: Path, what: str) -> None:
    _read(path, what)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise TlsFailed(f"the {what} {path} for TLS holds no certificate in PEM: name another file") from None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise TlsFailed(f"the {what} {path} for TLS cannot be read: {problem.strerror}; name another file") from problem
