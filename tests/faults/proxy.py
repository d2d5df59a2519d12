"""A proxy on the loopback that lets so many bytes of the server through, and then none."""

import contextlib
import socket
import threading

from tests.faults.loopback import LoopbackProxy


class StallingProxy(LoopbackProxy):
    """Forwards to a port on the loopback. limit: bytes from the server over all connections, None for all."""

    def __init__(self, port: int, limit: int | None = None) -> None:
        super().__init__(port)
        self.left = limit
        self._lock = threading.Lock()
        self.asked = 0

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            server = self._connect()
            with self._lock:
                self.asked += 1
            threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
            self._forward(server, client, True)

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
