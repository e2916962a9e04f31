"""A server that takes resumable uploads and keeps nothing: what is left in a measurement is the client.

It speaks just enough: a session for every POST, 308 with the range for a chunk or a status query, 200 with the file at
the end; GET tells how many bytes of files came in since the last POST. One upload at a time.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import ssl
import sys
import threading
from typing import Any

BLOCK = 1 << 20


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    rbufsize = 1 << 16

    server: _Server

    def handle(self) -> None:
        """Read requests and answer each as an upload session does that keeps count and nothing else."""
        scratch = memoryview(bytearray(BLOCK))
        while line := self.rfile.readline():
            method, _, _ = line.decode().split(" ", 2)
            headers = {}
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = header.decode().partition(":")
                headers[name.strip().lower()] = value.strip()
            left = int(headers.get("content-length", "0"))
            while left:
                got = self.rfile.readinto1(scratch[: min(left, BLOCK)])
                if not got:
                    return
                left -= got
                self.server.received += got
            self.wfile.write(self._reply(method, headers))

    def _reply(self, method: str, headers: dict[str, str]) -> bytes:
        if method == "POST":
            host, port = self.server.server_address[:2]
            self.server.held = self.server.received = 0
            return _response(200, f"Location: {self.server.scheme}://{host}:{port}/session\r\n")
        if method == "GET":
            return _response(200, "", str(self.server.received).encode())
        match = re.fullmatch(r"bytes (?:\d+-(\d+)|\*)/(\d+)", headers["content-range"])
        assert match
        if match[1]:
            self.server.held = int(match[1]) + 1
        if self.server.held < int(match[2]):
            return _response(308, f"Range: bytes=0-{self.server.held - 1}\r\n" if self.server.held else "")
        return _response(
            200, "", json.dumps({"id": "abcdef", "name": "x", "mimeType": "application/zip", "size": match[2]}).encode()
        )


def _response(status: int, headers: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status} x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    held = received = 0
    scheme = "http"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class _SecureServer(_Server):
    scheme = "https"

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


if __name__ == "__main__":
    server = (_SecureServer if len(sys.argv) > 1 else _Server)(("127.0.0.1", 0), _Handler)
    if len(sys.argv) > 1:  # a certificate with its key: then by TLS
        server.context.load_cert_chain(sys.argv[1])
    sys.stdout.write(f"{server.scheme}://127.0.0.1:{server.server_address[1]}/\n")
    sys.stdout.flush()
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()
