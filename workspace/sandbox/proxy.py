"""The one way out of a sandbox: a proxy for HTTP and HTTPS that connects to listed hosts and writes down every try.

It runs in a thread of ours, outside. The sandbox has a network namespace without any interface but loopback; before the
command begins, a socket that listens there is handed to the proxy, which is all that links the two. So there is nothing
inside that a command could change, and what does not ask the proxy reaches nobody.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import anyio
from anyio.abc import SocketListener, SocketStream
from anyio.from_thread import start_blocking_portal

from workspace.sandbox.forwarding import Exchange, Ledger
from workspace.sandbox.port import Contact, Network
from workspace.sandbox.reaching import Reach
from workspace.sandbox.surroundings import CERTIFICATES, proxy_variables


class Proxy:
    """The way out of one run; without hosts there is none, and nothing runs."""

    def __init__(self, network: Network) -> None:
        """Raises ValueError for a host that cannot be read."""
        self._network, self._reach = network, Reach(network.hosts)
        self._ledger = Ledger(network.most_bytes)
        self._there: socket.socket | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The variables that tell programs of it."""
        return proxy_variables() if self._network.hosts else {}

    @property
    def places(self) -> tuple[str, ...]:
        """What programs must be able to read for HTTPS."""
        return CERTIFICATES if self._network.hosts else ()

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """Every try so far."""
        return self._ledger.contacts

    @contextlib.contextmanager
    def running(self) -> Iterator[int | None]:
        """Serve while the context is open. Gives the descriptor on which the sandbox hands over its socket, for its
        first process; after that was started, `handed_over` closes ours. None without hosts."""
        if not self._network.hosts:
            yield None
            return
        here, self._there = socket.socketpair()
        with here, self._there, start_blocking_portal() as portal:
            serving = portal.start_task_soon(self._serve, here)
            try:
                yield self._there.fileno()
            finally:
                if not serving.cancel():
                    serving.result()  # it ended before: if by a fault of ours, the run has no result

    def handed_over(self) -> None:
        """Only the sandbox holds its end now; if it ends without a word, the proxy sees that."""
        if self._there is not None:
            self._there.close()

    async def _serve(self, here: socket.socket) -> None:
        here.setblocking(False)
        await anyio.wait_readable(here)
        _, handles, _, _ = socket.recv_fds(here, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if not handles:
            return  # there is no sandbox: whoever started it says why
        listener = await SocketListener.from_socket(socket.socket(fileno=handles[0]))
        places = anyio.Semaphore(self._network.connections)
        async with listener, anyio.create_task_group() as talks:
            while True:
                await places.acquire()  # before it is accepted: each holds descriptors of ours
                talks.start_soon(self._talk, await listener.accept(), places)

    async def _talk(self, client: SocketStream, places: anyio.Semaphore) -> None:
        try:
            async with client:
                await Exchange(client, self._reach, self._ledger).run()
        finally:
            places.release()
