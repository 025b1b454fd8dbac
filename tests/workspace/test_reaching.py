"""What the sandbox's proxy lets through: real commands in bubblewrap, real HTTP and HTTPS servers on loopback."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from schemas.hosts import parse_host
from tests.workspace.bwrap import needs_bubblewrap
from tests.workspace.podman import needs_podman
from workspace.sandbox.opening import open_sandbox
from workspace.sandbox.port import Contact, Limits, Network, Result, Sandbox
from workspace.sandbox.reaching import is_public, target_of

SMALL = Limits(seconds=60, memory_bytes=256 << 20, processes=40)
PROXY = "127.0.0.1:3128"
OPEN = (
    "import os, sys, urllib.error, urllib.request\n"
    "[os.environ.pop(name) for name in ('NO_PROXY', 'no_proxy')]\n"  # servers of the tests are on loopback
    "for url in sys.argv[1:]:\n"
    "    try:\n"
    "        print('read', urllib.request.urlopen(url, timeout=20).read(200).decode())\n"
    "    except urllib.error.HTTPError as problem:\n"
    "        print('HTTP', problem.code, problem.read().decode().strip())\n"
    "    except OSError as problem:\n"
    "        print('failed', problem)\n"
)
WHOLE = OPEN.replace(".read(200).decode()", ".read().decode()[:200]")
RAW = (
    "import socket, sys\n"
    "s = socket.create_connection(('127.0.0.1', 3128), 20)\n"
    "s.sendall(sys.argv[1].encode('latin-1').decode('unicode_escape').encode('latin-1'))\n"
    "while chunk := s.recv(65536): sys.stdout.write(chunk.decode('latin-1'))\n"
)


class Site(BaseHTTPRequestHandler):
    """Says what it was asked; `/large` is a megabyte, a POST is told how much it sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say(b"x" * (1 << 20) if self.path == "/large" else f"{self.path} for {self.headers['Host']}".encode())

    def do_POST(self) -> None:
        size, body = self.headers.get("Content-Length"), b""
        if size is not None:
            body = self.rfile.read(int(size))
        else:
            while count := int(self.rfile.readline(), 16):
                body += self.rfile.read(count)
                self.rfile.readline()
        self._say(f"{len(body)} bytes, authorization {self.headers.get('Proxy-Authorization')}".encode())

    def _say(self, body: bytes) -> None:
        self.server.seen.append(self.requestline)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Site)
        self.seen: list[str] = []

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server() as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def site() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def sandbox() -> Sandbox:
    needs_bubblewrap()
    return open_sandbox("bubblewrap")


@pytest.fixture(params=["bubblewrap", "container"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    if request.param == "container":
        needs_podman(monkeypatch)
    else:
        needs_bubblewrap()
    return open_sandbox(request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    place.mkdir()
    return place


def run(
    sandbox: Sandbox, tree: Path, code: str, *arguments: str, hosts: tuple[str, ...], most: int = 1 << 30
) -> Result:
    network = Network(hosts, most_bytes=most)
    return sandbox.run(["python", "-c", code, *arguments], cwd=tree, limits=SMALL, network=network)


def outcomes(result: Result) -> dict[str, str]:
    return {contact.target: contact.outcome for contact in result.contacts}


def test_a_listed_host_is_reached_and_counted(either: Sandbox, tree: Path, site: Server) -> None:
    result = run(either, tree, WHOLE, f"http://{site.place}/a?b", f"http://{site.place}/large", hosts=(site.place,))
    assert result.exit_code == 0
    assert result.output == f"read /a?b for {site.place}\nread {'x' * 200}\n"
    (contact,) = result.contacts
    assert (contact.target, contact.outcome, contact.times, contact.why) == (site.place, "reached", 2, "")
    assert contact.received > 1 << 20
    assert 100 < contact.sent < 1000
    assert f"{site.place} reached, 2 times (" in str(contact)


def test_https_goes_through_and_is_end_to_end(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    with serving(own_certificate(tmp_path, tree)) as server:
        code = (
            "import ssl, os, urllib.request, sys\n"
            "[os.environ.pop(name) for name in ('NO_PROXY', 'no_proxy')]\n"
            "trust = ssl.create_default_context(cafile='own.pem')\n"
            "print(urllib.request.urlopen(sys.argv[1], context=trust, timeout=20).read().decode())"
        )
        result = run(sandbox, tree, code, f"https://{server.place}/tls", hosts=(server.place,))
        assert result.output == f"/tls for {server.place}\n"
        assert outcomes(result) == {server.place: "reached"}
        result = run(sandbox, tree, code, f"https://{server.place}/tls", hosts=("pypi.example:443",))
        assert "403" in result.output
        assert outcomes(result) == {server.place: "refused"}
        assert server.seen == ["GET /tls HTTP/1.1"]


def own_certificate(outside: Path, inside: Path) -> ssl.SSLContext:
    """A server's context; who may trust it finds its certificate in `inside`, the key stays outside."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (inside / "own.pem").write_bytes(pem)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (outside / "key.pem").write_bytes(secret + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(outside / "key.pem")
    return context


def test_what_is_not_listed_is_refused(either: Sandbox, tree: Path, site: Server) -> None:
    other = f"127.0.0.1:{site.server_port - 1}"
    urls = {
        "a name": "http://example.com/",
        "an address": "http://192.0.2.1/",
        "another port": f"http://{other}/",
        "a name that leads to a listed address": f"http://localhost:{site.server_port}/",
        "the address written otherwise": f"http://127.1:{site.server_port}/",
        "or as a number": f"http://2130706433:{site.server_port}/",
        "or as another family's": f"http://[::ffff:127.0.0.1]:{site.server_port}/",
        "a user in the URL": f"http://{site.place}@192.0.2.1/",
        "https": "https://example.com/",
        "another scheme": "ftp://example.com/x",
    }
    result = run(either, tree, OPEN, *urls.values(), hosts=(site.place,))
    lines = dict(zip(urls, result.output.splitlines(), strict=True))
    assert all("read" not in line.split() for line in lines.values()), lines
    for which in ("a name", "an address", "another port", "a name that leads to a listed address"):
        assert "HTTP 403" in lines[which], which
        assert "`sandbox_hosts` do not list it" in lines[which], which
    assert site.seen == []
    assert {contact.outcome for contact in result.contacts} == {"refused"}
    assert len(result.contacts) >= 8
    assert Contact("example.com:80", "refused", "the policy's `sandbox_hosts` do not list it") in result.contacts


def test_a_name_reaches_no_address_that_is_not_public(sandbox: Sandbox, tree: Path, site: Server) -> None:
    name = f"localhost:{site.server_port}"
    result = run(sandbox, tree, OPEN, f"http://{name}/", hosts=(name,))
    assert "HTTP 403" in result.output
    assert "which is not public: `sandbox_hosts` must list that, too" in result.output
    assert site.seen == []
    addresses = sorted({str(each[4][0]) for each in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)})
    listed = [f"[{each}]:{site.server_port}" if ":" in each else f"{each}:{site.server_port}" for each in addresses]
    result = run(sandbox, tree, OPEN, f"http://{name}/", hosts=(name, *listed))
    assert result.output == f"read / for {name}\n"


def test_a_listed_host_that_is_away_is_no_refusal(sandbox: Sandbox, tree: Path) -> None:
    with socket.socket() as nobody:  # bound, so that nobody else is; not listening
        nobody.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        result = run(
            sandbox, tree, OPEN, f"http://{place}/", "http://no.such.invalid/", hosts=(place, "no.such.invalid:80")
        )
    assert result.output.count("HTTP 502") == 2
    assert outcomes(result) == {place: "failed", "no.such.invalid:80": "failed"}
    assert "Connection refused" in result.contacts[0].why
    assert "does not resolve" in result.contacts[1].why


def test_nothing_but_the_proxy_leads_out(either: Sandbox, tree: Path, site: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, socket.socket(socket.AF_UNIX) as abstract:
        datagrams.bind(("127.0.0.1", 0))
        datagrams.setblocking(False)
        abstract.bind(f"\0{site.place}")
        abstract.listen()
        abstract.setblocking(False)
        code = (
            "import socket, sys\n"
            "host, port, udp = '127.0.0.1', int(sys.argv[1]), int(sys.argv[2])\n"
            "def attempt(name, act):\n"
            "    try: print(name, 'SUCCEEDED', act())\n"
            "    except OSError as problem: print(name, problem.__class__.__name__, problem.strerror)\n"
            "attempt('direct', lambda: socket.create_connection((host, port), 5))\n"
            "attempt('elsewhere', lambda: socket.create_connection(('192.0.2.1', 80), 5))\n"
            "attempt('elsewhere6', lambda: socket.create_connection(('2001:db8::1', 80), 5))\n"
            "attempt('name', lambda: socket.getaddrinfo('example.com', 80))\n"
            "attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))\n"
            "attempt('machine', lambda: socket.socket(40, socket.SOCK_STREAM).connect((2, 1)))\n"
            "attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))\n"
            "attempt('ping', lambda: socket.socket(2, socket.SOCK_DGRAM, 1).sendto(b'x', ('192.0.2.1', 0)))\n"
            "attempt('datagram', lambda: socket.socket(2, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53)))\n"
            "attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[3]))\n"
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (host, udp))\n"
            "print([name for _, name in socket.if_nameindex()])\n"
        )
        where = datagrams.getsockname()[1]
        result = run(either, tree, code, str(site.server_port), str(where), site.place, hosts=(site.place,))
        for silent in (datagrams, abstract):
            with pytest.raises(BlockingIOError):
                silent.recv(1) if silent is datagrams else silent.accept()
    assert result.exit_code == 0, result.output
    assert "SUCCEEDED" not in result.output
    assert len(result.output.splitlines()) == 11
    assert result.output.endswith("['lo']\n"), "only its own loopback is there"
    assert site.seen == []
    assert result.contacts == ()


def test_without_hosts_there_is_no_proxy(either: Sandbox, tree: Path) -> None:
    code = (
        "import os, socket\n"
        "print([name for name in os.environ if 'PROXY' in name.upper()], flush=True)\n"
        "socket.create_connection(('127.0.0.1', 3128), 5)"
    )
    result = run(either, tree, code, hosts=())
    assert result.output.startswith("[]\n")
    assert "Connection refused" in result.output


def test_a_tunnel_to_another_port_is_refused(sandbox: Sandbox, tree: Path, site: Server) -> None:
    for target in (f"127.0.0.1:{site.server_port - 1}", PROXY, "example.com:25", "127.0.0.1", "127.0.0.1:0", "*:443"):
        result = run(
            sandbox, tree, RAW, rf"CONNECT {target} HTTP/1.1\r\nHost: {site.place}\r\n\r\n", hosts=(site.place,)
        )
        assert result.output.startswith(("HTTP/1.1 403 ", "HTTP/1.1 400 ")), target
        assert {contact.outcome for contact in result.contacts} == {"refused"}, target


def test_a_second_request_in_one_connection_goes_nowhere(sandbox: Sandbox, tree: Path, site: Server) -> None:
    one = rf"GET http://{site.place}/one HTTP/1.1\r\nHost: other.example\r\nConnection: keep-alive\r\n\r\n"
    two = r"GET /two HTTP/1.1\r\nHost: other.example\r\n\r\n"
    result = run(sandbox, tree, RAW, one + two, hosts=(site.place,))
    assert site.seen == ["GET /one HTTP/1.1"]
    assert f"/one for {site.place}" in result.output, "the host that was checked is the one that is named"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (r"GET / HTTP/1.1\r\nHost: {place}\r\n\r\n", "400"),
        (r"GET http://{place}/ HTTP/1.1\r\n\r\n", "400"),
        (r"POST http://{place}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc", "400"),
        (r"GET http://{place}/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        (r"GET http://{place}/ HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", "400"),
        (r"nonsense\r\n\r\n", "400"),
        (r"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400"),
        (r"GET http://{place}/ HTTP/1.1\r\nHost: x\r\nA: " + "b" * 70_000 + r"\r\n\r\n", "400"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused(
    sandbox: Sandbox, tree: Path, site: Server, request_: str, answer: str
) -> None:
    result = run(sandbox, tree, RAW, request_.replace("{place}", site.place), hosts=(site.place,))
    assert result.output.startswith(f"HTTP/1.1 {answer} "), result.output[:300]
    assert site.seen == []
    assert {contact.outcome for contact in result.contacts} == {"refused"}


@pytest.mark.parametrize(
    "bad",
    [
        r"POST http://{place}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nno chunk\r\n0\r\n\r\n",
        r"CONNECT {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
        r"CONNECT {place} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        r"POST http://{place}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabcde",
    ],
)
def test_a_bad_body_ends_its_connection_and_not_the_proxy(sandbox: Sandbox, tree: Path, site: Server, bad: str) -> None:
    code = (
        "import socket, sys\n"
        "for request in sys.argv[1:]:\n"
        "    s = socket.create_connection(('127.0.0.1', 3128), 20)\n"
        "    s.sendall(request.encode('latin-1').decode('unicode_escape').encode('latin-1'))\n"
        "    s.shutdown(socket.SHUT_WR)\n"
        "    try:\n"
        "        while chunk := s.recv(65536): print(chunk.decode('latin-1'))\n"
        "    except ConnectionError: pass\n"
    )
    good = rf"GET http://{site.place}/after HTTP/1.1\r\nHost: x\r\n\r\n"
    result = run(sandbox, tree, code, bad.replace("{place}", site.place), good, hosts=(site.place,))
    assert f"/after for {site.place}" in result.output, result.output


def test_bodies_are_passed_on_whole(sandbox: Sandbox, tree: Path, site: Server) -> None:
    code = (
        "import http.client, sys\n"
        "for body, chunked in ((b'x' * 300000, False), (iter([b'y' * 70000, b'z']), True)):\n"
        "    c = http.client.HTTPConnection('127.0.0.1', 3128, timeout=20)\n"
        "    headers = {'Proxy-Authorization': 'Basic secret', **({} if chunked else {'Content-Length': '300000'})}\n"
        "    c.request('POST', sys.argv[1], body, headers, encode_chunked=chunked)\n"
        "    print(c.getresponse().read().decode())\n"
    )
    result = run(sandbox, tree, code, f"http://{site.place}/", hosts=(site.place,))
    assert result.output == "300000 bytes, authorization None\n70001 bytes, authorization None\n"


def test_bytes_are_limited(sandbox: Sandbox, tree: Path, site: Server) -> None:
    code = OPEN.replace("read(200).decode()", "read().__len__()").replace("OSError", "Exception")
    urls = [f"http://{site.place}/large"] * 3
    result = run(sandbox, tree, code, *urls, hosts=(site.place,), most=(1 << 20) + (1 << 19))
    first, second, third = result.output.splitlines()
    assert first == f"read {1 << 20}"
    assert second.startswith("failed IncompleteRead")
    assert "HTTP 403" in third
    assert "may pass 1,572,864 bytes, and have" in third
    assert sum(contact.received for contact in result.contacts) <= (1 << 20) + (1 << 19)
    (refused,) = [contact for contact in result.contacts if contact.outcome == "refused"]
    assert refused.times == 2


def test_many_tries_are_told_in_few_lines(sandbox: Sandbox, tree: Path) -> None:
    code = (
        "import socket\n"
        "for n in range(250):\n"
        "    s = socket.create_connection(('127.0.0.1', 3128), 20)\n"
        "    s.sendall(b'CONNECT h%d.example:443 HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n' % n)\n"
        "    while s.recv(1000): pass\n"
    )
    result = run(sandbox, tree, code, hosts=("pypi.example:443",))
    assert len(result.contacts) == 101
    assert result.contacts[-1] == Contact("other hosts", "refused", "as those named", times=150)


def test_more_connections_than_there_are_places_wait(sandbox: Sandbox, tree: Path, site: Server) -> None:
    """Each holds descriptors of ours, and a command must not use those up."""
    code = (
        "import socket, urllib.request, os, sys\n"
        "[os.environ.pop(name) for name in ('NO_PROXY', 'no_proxy')]\n"
        "idle = [socket.create_connection(('127.0.0.1', 3128), 20) for _ in range(60)]\n"
        "for each in idle: each.close()\n"
        "print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
    )
    network = Network((site.place,), connections=2)
    result = sandbox.run(["python", "-c", code, f"http://{site.place}/later"], cwd=tree, limits=SMALL, network=network)
    assert result.output == f"/later for {site.place}\n"


def test_a_run_that_hangs_on_the_network_is_ended(either: Sandbox, tree: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        code = OPEN.replace("timeout=20", "timeout=600")
        limits = Limits(seconds=2)
        result = either.run(
            ["python", "-c", code, f"http://{place}/"], cwd=tree, limits=limits, network=Network((place,))
        )
        assert result.stopped == "time"
        assert outcomes(result) == {place: "reached"}
        assert not [each for each in threading.enumerate() if each.name.startswith("AnyIO")], "the proxy has ended"


def test_a_host_that_cannot_be_read_runs_nothing(sandbox: Sandbox, tree: Path) -> None:
    with pytest.raises(ValueError, match="is no host with a port"):
        sandbox.run(["touch", "x"], cwd=tree, writable=(tree,), network=Network(("pypi.example",)))
    assert not (tree / "x").exists()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
     "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2001:db8::1",
     "64:ff9b:1::a00:1", "::127.0.0.1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("text", "host"),
    [("PyPI.Example:443", ("pypi.example", 443)), ("a.b.:80", ("a.b", 80)), ("10.0.0.1:1", ("10.0.0.1", 1)),
     ("[2001:DB8:0:0::1]:8080", ("2001:db8::1", 8080)), ("x_y-1:65535", ("x_y-1", 65535))],
)  # fmt: skip
def test_hosts_are_read_one_way(text: str, host: tuple[str, int]) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:", ":80", "a:0", "a:65536", "a:-1", "*.a:80", "a b:80", "a:80 ", "http://a:80", "a/b:80", "u@a:80",
     "127.1:80", "0x7f000001:80", "2130706433:80", "127.0.0.01:80", "1.2.3.256:80", "::1:80", "[::1:80", "[a]:80",
     "[1.2.3.4]:80", "-a:80", "a..b:80", "é:80", "a:８０", "a\n:80", "a" * 64 + ":80", "1.2.3.0x4:80"],
)  # fmt: skip
def test_hosts_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"write NAME:PORT|no port|no name of a host|no address"):
        parse_host(text)


@given(st.text(alphabet="aA1.:/@#?[]%\\ \t-_*0x", max_size=30))
def test_what_is_read_from_a_url_is_a_host_a_list_can_hold(rest: str) -> None:
    try:
        host, port, path = target_of(f"http://{rest}")
    except ValueError:
        return
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert parse_host(shown) == (host, port)
    assert path.startswith("/")
