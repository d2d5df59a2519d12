"""A proxy on the loopback that lets so many bytes of the server through, and then none."""

import contextlib
import socket
import threading
from typing import Self


class StallingProxy:
    """Forwards to a port on the loopback. limit: bytes from the server over all connections, None for all."""

    def __init__(self, port: int, limit: int | None = None) -> None:
        self._port, self.left = port, limit
        self._lock = threading.Lock()
        self.asked = 0
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

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._port))
                self.asked += 1
                self._sockets += [client, server]
                for source, target, counted in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._forward, args=(source, target, counted), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                target.sendall(self._allowed(content) if counted else content)
            target.shutdown(socket.SHUT_WR)

    def _allowed(self, content: bytes) -> bytes:
        with self._lock:
            if self.left is None:
                return content
            content = content[: self.left]
            self.left -= len(content)
            return content
