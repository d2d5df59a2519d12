"""What the proxies share that stand between the pipeline and its server."""

import abc
import contextlib
import socket
import threading
from typing import Self


class LoopbackProxy(abc.ABC):
    """Forwards to a port on the loopback, from one of its own. Use it in a with block."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @abc.abstractmethod
    def _serve(self, client: socket.socket) -> None:
        """Serve a client, in a thread of its own."""

    def _connect(self) -> socket.socket:
        """Return a connection to the server, which is closed in the end."""
        server = socket.create_connection(("127.0.0.1", self._port))
        self._sockets.append(server)
        return server

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
