"""The hub behind the plainest HTTP there is: one request after the other, in the calling process."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec

from statesync.hub import Hub, Refused
from statesync.wire import Refusal

from ..field import SPACE


def serve_until_done(listener: socket.socket, hub: Hub) -> None:
    """Answer requests until somebody posts to ``/done``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.is_done = self.path == "/done"
            status, answer = (200, b"") if server.is_done else _answer(hub, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        is_done = False

    server = Server(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    while not server.is_done:
        server.handle_request()


def _answer(hub: Hub, path: str, body: bytes) -> tuple[int, bytes]:
    work = hub.push if path.endswith("/push") else hub.pull
    try:
        return 200, work(SPACE, body)
    except Refused as refused:
        return refused.status, msgspec.json.encode(Refusal(refused.problem))


def listen() -> socket.socket:
    """Return a listening socket; who connects before anybody serves has to wait."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
