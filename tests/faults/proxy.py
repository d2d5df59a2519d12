"""A proxy on the loopback that lets so many bytes of the server through, and then none, or none until it is told."""

import contextlib
import socket
import threading

from tests.faults.loopback import LoopbackProxy


class StallingProxy(LoopbackProxy):
    """Forwards to a port on the loopback. limit: bytes from the server over all connections, None for all; resumes:
    the rest is kept until resume(); keeps: a text, and what a client sends with it or after it is kept until then.

    is_kept: set once it has kept something of a client.
    """

    def __init__(self, port: int, limit: int | None = None, resumes: bool = False, keeps: bytes | None = None) -> None:
        super().__init__(port)
        self.left, self._resumes, self._keeps = limit, resumes, keeps
        self._lock, self._resumed, self.is_kept = threading.Lock(), threading.Event(), threading.Event()
        self.asked = 0

    def stall(self, after: int) -> None:
        """Let so many more bytes of the server through, and then none."""
        with self._lock:
            self.left = after

    def resume(self) -> None:
        """Let what was kept through, and all that comes."""
        self._resumed.set()

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
                if not counted and self._keeps is not None and self._keeps in content:
                    self.is_kept.set()
                    self._resumed.wait()
                allowed = self._allowed(content) if counted else content
                target.sendall(allowed)
                if self._resumes and len(allowed) < len(content):
                    self._resumed.wait()
                    target.sendall(content[len(allowed) :])
            target.shutdown(socket.SHUT_WR)

    def _allowed(self, content: bytes) -> bytes:
        with self._lock:
            if self.left is None or self._resumed.is_set():
                return content
            content = content[: self.left]
            self.left -= len(content)
            return content
