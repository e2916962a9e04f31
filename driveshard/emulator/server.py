"""The server: connections, the way of a request through faults, access and limits to its handler, and the log."""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import socket
import socketserver
import struct
import sys
import threading
import time
import traceback
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from driveshard.emulator.auth import PUBLIC, bearer
from driveshard.emulator.batch import serve_batch
from driveshard.emulator.calls import Call, Drive
from driveshard.emulator.control import serve_control, stats
from driveshard.emulator.errors import ApiError, UploadError, login_required
from driveshard.emulator.faults import OUTAGE_SECONDS, Clause, fault_reply
from driveshard.emulator.options import Options
from driveshard.emulator.resumable import STALL_SECONDS
from driveshard.emulator.routes import API, SESSION, Match, find_route
from driveshard.emulator.sessions import UNIT
from driveshard.emulator.wire import (
    BadRequestError,
    BrokenBodyError,
    FileSlice,
    Reply,
    Request,
    read_request,
    write_reply,
)

RESET = struct.pack("ii", 1, 0)
LINGER_SECONDS = 5.0


class Emulator:
    """Drive v3 on 127.0.0.1, its state under `root`. A context manager; `start` returns the URL.

    port: 0 takes a free one. The other options are those of `options.Options`; ValueError for a bad fault word.
    Protocol slips of a strict run are in `stats()["violations"]`.
    """

    def __init__(self, root: Path, *, port: int = 0, **options: Any) -> None:
        self.drive = Drive(Path(root), Options(**options))
        self._port = port
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, once started."""
        if self._server is None:
            raise RuntimeError("the emulator is not started")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> str:
        """Listen and serve in threads; returns the URL. Raises OSError when the port is taken."""
        self._server = _Server(("127.0.0.1", self._port), self)
        self.drive.line.break_connections = self._server.break_others
        self._server.serving.start()
        return self.url

    def stop(self) -> None:
        """Close every connection, end stalls, close the files. What is under `root` can be started again."""
        self.drive.stopping.set()
        if self._server is not None:
            self._server.stop()
            self._server = None
        self.drive.close()

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def set_faults(self, words: str, seed: int = 0) -> None:
        """Replace the fault plan. Raises ValueError for a bad word."""
        self.drive.faults.replace(words, seed)

    def stats(self) -> dict[str, Any]:
        """What `GET /_emulator/stats` answers."""
        return stats(self.drive)

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        """What `GET /_emulator/log?since=N` answers, as a list."""
        return self.drive.journal.entries(since)

    def answer(self, request: Request) -> Reply:
        """Answer one request. Raises BrokenBodyError when the client went away in the middle of the body."""
        if request.path.startswith("/_emulator/"):
            try:
                return serve_control(self.drive, request)
            except ApiError as error:
                return error.reply()
        self.drive.line.travel()
        reply = self._logged(request)
        reply.headers.setdefault("Date", formatdate(self.drive.clock.now(), usegmt=True))
        self.drive.line.travel()
        return reply

    def _logged(self, request: Request) -> Reply:
        call = Call(self.drive, request)
        started = time.perf_counter()
        reply = Reply(0, drop=True)
        try:
            reply = self._refusals_caught(call)
            reply.early = "early" in call.also and reply.status >= 400 and not request.body.finished
            if not reply.drop and not reply.early and request.body.before_read is None:
                request.body.drain()
            return reply
        finally:
            self._record(call, reply, time.perf_counter() - started)

    def _refusals_caught(self, call: Call) -> Reply:
        try:
            return self._routed(call)
        except (ApiError, UploadError) as error:
            return error.reply()
        except BrokenBodyError:
            raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return ApiError(500, "internalError", "Internal Error").reply()

    def _routed(self, call: Call) -> Reply:
        request = call.request
        _override_method(request)
        special = self._outside_drive(request)
        if special is not None:
            return special
        match = find_route(self.drive, request)
        call.ids = match.ids
        call.kinds = match.kinds
        self._meter(request, match)
        if match.kinds & {"create", "initiation"} and "body" not in match.kinds and "id" in call.metadata:
            call.kinds |= {"create-id"}
        if "write" in match.kinds:
            self.drive.journal.write(time.monotonic())
        hit = self.drive.faults.pick(call.kinds)
        call.fault, call.lasts = (hit.word, hit.seconds) if hit else (None, None)
        call.also = self.drive.faults.also(call.kinds)
        if hit and self._broken(call, hit):
            return Reply(0, drop=True)
        page = match.route.access not in (API, SESSION)
        answer = fault_reply(call.fault) if call.fault and not (page and call.fault == "download-quota") else None
        if call.fault == "401-expired":
            self.drive.auth.refuse(request)
        if answer is not None:
            return answer
        self._admit(call, match)
        reply = match.route.handler(call)
        if hit and "download" in call.kinds:
            self._cut_download(hit, reply)
        if call.fault == "reset-before-reply" or (call.fault == "lost-final" and reply.status in (200, 201)):
            return Reply(reply.status, drop=True)
        return reply

    def _broken(self, call: Call, hit: Clause) -> bool:
        """What a word does to the line; True when the request ends here. A body breaks off later, at `call.cut`."""
        if hit.word == "outage":
            self.drive.line.fail(OUTAGE_SECONDS if hit.seconds is None else hit.seconds)
        elif hit.word == "tenth":
            self.drive.line.scale(0.1)
        elif hit.word in ("reset", "drop") and "body" in call.kinds:
            length = call.request.body.length
            place = 0.5 if hit.word == "reset" else self.drive.faults.place()
            call.cut = int((2 * UNIT if length is None else length) * place)
            return False
        return hit.word == "outage" or (hit.word == "drop" and "download" not in call.kinds)

    def _cut_download(self, hit: Clause, reply: Reply) -> None:
        reply.spoil = hit.word == "wrong-bytes"
        if hit.word in ("reset", "drop", "stall") and isinstance(reply.body, FileSlice):
            place = self.drive.faults.place() if hit.word == "drop" else 0.5
            reply.stop_after = int(reply.body.length * place)
            reply.stall = hit.word == "stall"

    def _outside_drive(self, request: Request) -> Reply | None:
        if request.method == "POST" and request.path.rstrip("/") in ("/batch/drive/v3", "/batch"):
            return serve_batch(request, self._logged)
        if request.method == "POST" and request.path in ("/token", "/oauth2/v4/token"):
            hit = self.drive.faults.pick(frozenset({"token"}))
            if hit and hit.word in ("reset", "drop"):
                return Reply(0, drop=True)
            answer = fault_reply(hit.word) if hit else None
            if answer is not None:
                return answer
        return self.drive.oauth.serve(request)

    def _meter(self, request: Request, match: Match) -> None:
        if "body" not in match.kinds:
            return
        line = self.drive.line
        request.body.pace = lambda: line.up.block

        def meter(count: int) -> None:
            self.drive.journal.received(count)
            if match.session and match.session.received:
                match.session.received.add("received", count)
            line.up.take(count)

        request.body.meter = meter

    def _admit(self, call: Call, match: Match) -> None:
        """Raise ApiError when the caller may not make this call, or not now."""
        if match.route.access == API or (match.route.access == SESSION and bearer(call.request)):
            writes = match.route.access == SESSION or "write" in call.kinds
            call.caller = self.drive.auth.caller(call.request, writes=writes)
        elif match.route.access == SESSION:
            call.caller = "owner"
        if call.caller == PUBLIC and "write" in call.kinds:
            raise login_required()
        if "write" in call.kinds and not self.drive.writes.admit(time.monotonic()):
            raise ApiError(403, "rateLimitExceeded", "Rate Limit Exceeded", domain="usageLimits")

    def _record(self, call: Call, reply: Reply, seconds: float) -> None:
        request = call.request
        session = call.drive.sessions.find(request.query.get("upload_id", ""), call.drive.clock.now())
        if session and session.received:
            session.received.release()
        entry = {
            "time": round(time.time(), 6),
            "method": request.method,
            "path": request.target,
            "kinds": sorted(call.kinds),
            "status": reply.status,
            "dropped": reply.drop,
            "content_range": request.headers.get("content-range"),
            "range": reply.headers.get("Range") or reply.headers.get("Content-Range"),
            "bytes": request.body.received,
            "seconds": round(seconds, 6),
            "fault": call.fault,
        }
        self.drive.journal.record(entry)


def _override_method(request: Request) -> None:
    """Long GETs come as POST with the query in a form body and the true method in a header."""
    method = request.headers.get("x-http-method-override")
    if not method or request.method != "POST":
        return
    request.method = method.upper()
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = parse_qs(request.body.read().decode("utf-8", "replace"))
        request.query |= {name: values[-1] for name, values in form.items()}


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128
    timeout = 0  # a connection that is gone by the time it is taken is not waited for

    def __init__(self, address: tuple[str, int], emulator: Emulator) -> None:
        self.emulator = emulator
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Connection)
        self._woken, self._waking = socket.socketpair()
        self.serving = threading.Thread(target=self._serve, daemon=True)
        rate = emulator.drive.line.up.rate
        if rate is not None:
            # What the kernel takes in ahead of the line would look sent to the client.
            size = int(min(4 << 20, max(1 << 17, rate / 20)))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def _serve(self) -> None:
        """Take connections until ``stop``, which ends it at once: serve_forever would look up only now and then."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while all(key.fileobj is self for key, _ in selector.select()):
                self.handle_request()

    def enter(self, connection: socket.socket) -> None:
        with self._lock:
            self._open[connection] = threading.current_thread()

    def leave(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)

    def break_others(self) -> None:
        """Reset every open connection but the one that this thread serves."""
        with self._lock:
            held = [one for one, thread in self._open.items() if thread is not threading.current_thread()]
        for connection in held:
            with contextlib.suppress(OSError):
                # Its thread wakes and resets it; shutting down both ways would end it politely.
                connection.shutdown(socket.SHUT_RD)

    def stop(self) -> None:
        """Take no more connections, break those that are open, wait for their threads (5 s each at most)."""
        self._waking.close()
        self.serving.join()
        self._woken.close()
        self.server_close()
        with self._lock:
            held = dict(self._open)
        for connection in held:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in held.values():
            thread.join(5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        traceback.print_exc(file=sys.stderr)


class _Connection(socketserver.BaseRequestHandler):
    """One client connection: requests one after another until somebody closes it."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        """Serve requests until somebody closes the connection."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.enter(self.request)
        try:
            with contextlib.suppress(OSError), self.request.makefile("rb", buffering=1 << 16) as reader:
                while self._serve_one(reader):
                    pass
        finally:
            self.server.leave(self.request)
            if self.server.emulator.drive.line.dead:
                with contextlib.suppress(OSError):
                    self._reset()

    def _serve_one(self, reader: Any) -> bool:
        """Answer the next request; False when the connection is to be closed."""
        try:
            request = read_request(reader, self.request)
        except BadRequestError as error:
            write_reply(self.request, Reply.text(str(error), 400), head_only=False, keep_alive=False)
            return False
        if request is None:
            return False
        drive = self.server.emulator.drive
        control = request.path.startswith("/_emulator/")
        if drive.line.dead and not control:
            return self._reset()
        try:
            reply = self.server.emulator.answer(request)
        except BrokenBodyError:
            return False
        if reply.drop or (drive.line.dead and not control):
            return self._reset()
        keep = request.keep_alive and request.body.finished
        write_reply(self.request, reply, head_only=request.method == "HEAD", keep_alive=keep, line=drive.line)
        if reply.stall:
            drive.stopping.wait(STALL_SECONDS)
        if reply.stop_after is not None:
            return self._reset()
        if reply.early:
            self._linger(request)
        return keep

    def _reset(self) -> bool:
        # Lingering for zero seconds makes the close a reset.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.request.close()
        return False

    def _linger(self, request: Request) -> None:
        """Read on for a moment after an early answer: a close at once would reset the connection and lose it."""
        deadline = time.monotonic() + LINGER_SECONDS
        self.request.settimeout(LINGER_SECONDS)
        with contextlib.suppress(BrokenBodyError):
            for _ in request.body.blocks():
                if time.monotonic() > deadline:
                    break


def run(root: Path, *, port: int = 0, **options: Any) -> int:
    """Serve until SIGINT or SIGTERM; the first line on stdout is `{"url": ...}`. Returns the exit code 0.

    Options as for Emulator. Raises ValueError for a bad fault word, OSError when the port is taken.
    """
    emulator = Emulator(root, port=port, **options)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    sys.stdout.write(json.dumps({"url": emulator.start()}) + "\n")
    sys.stdout.flush()
    ended.wait()
    emulator.stop()
    return 0
