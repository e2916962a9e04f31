"""Resumable uploads: initiation and everything that can be asked of a session URI."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from driveshard.emulator.calls import Call
from driveshard.emulator.errors import ApiError, UploadError, id_in_use
from driveshard.emulator.faults import fault_reply
from driveshard.emulator.sessions import BROKEN, CANCELLED, DONE, OPEN, UNIT, Session, SupersededError, Writer, floor
from driveshard.emulator.store import new_id
from driveshard.emulator.uploads import Upload, check_start, complete
from driveshard.emulator.wire import Reply, Request

STALL_SECONDS = 600.0
BAD_RANGE = "Failed to parse Content-Range header."
TOO_SMALL = (
    "Invalid request.  The number of bytes uploaded is required to be equal or greater than 262144, except for the"
    " final request (it's recommended to be the exact multiple of 262144).  The received request contained {sent}"
    " bytes, which does not meet this requirement."
)
GAP = (
    "Invalid request.  According to the Content-Range header, the upload offset is {start} byte(s), which exceeds"
    " already uploaded size of {held} byte(s)."
)
_CONTENT_RANGE = re.compile(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)$")


@dataclass(frozen=True)
class Span:
    """A Content-Range: bytes from `start` up to `stop` (None: not said) of `total` (None: unknown).

    `query` is the form `*/N` or `*/*`, which carries no bytes.
    """

    start: int
    stop: int | None
    total: int | None
    query: bool = False

    @property
    def final(self) -> bool:
        """True when the request says that it brings the last byte."""
        return not self.query and (self.stop is None or self.stop == self.total)


def parse_span(request: Request) -> Span:
    """The Content-Range of a session request; none means the whole content. Raises UploadError 400."""
    header = request.headers.get("content-range")
    length = request.body.length
    if header is None:
        return Span(0, length, length)
    match = _CONTENT_RANGE.match(header.strip())
    if not match:
        raise UploadError(400, BAD_RANGE)
    total = None if match[3] == "*" else int(match[3])
    if match[1] is None:
        return Span(0, 0, total, query=True)
    start, stop = int(match[1]), int(match[2]) + 1
    if stop <= start or (total is not None and stop > total):
        raise UploadError(400, BAD_RANGE)
    if length is not None and length != stop - start:
        raise UploadError(400, f"{BAD_RANGE} It names {stop - start} byte(s), Content-Length is {length}.")
    return Span(start, stop, total)


def initiate(call: Call) -> Reply:
    """`POST|PATCH upload/.../files?uploadType=resumable`: the reply's Location is the session URI."""
    call.file_mask(call.query.get("fields"))
    headers = call.request.headers
    declared = headers.get("x-upload-content-length", "")
    if declared and not declared.isdigit():
        raise UploadError(400, f"Invalid X-Upload-Content-Length: {declared}")
    given = call.metadata
    file_id = call.drive.store.resolve(call.ids[0]) if call.ids else given.get("id")
    content_type = headers.get("x-upload-content-type", "")
    upload = Upload(file_id, bool(call.ids), given, call.query, content_type)
    if call.fault == "409-id-in-use":
        call.drive.store.make_foreign(str(file_id))
        raise id_in_use()
    check_start(call, upload)
    session = call.drive.sessions.create(
        file_id=file_id or new_id(),
        update=upload.update,
        metadata=given,
        params=call.query,
        content_type=content_type,
        declared=int(declared) if declared else None,
        created=call.drive.clock.now(),
        slow=call.fault == "slow-session",
    )
    parts = urlsplit(call.request.target)
    pairs = [(name, value) for name, value in parse_qsl(parts.query) if name != "key"]
    secrets = [("upload_id", session.id), ("session_crd", session.crd)]
    location = f"{call.base_url}{parts.path}?{urlencode([*pairs, *secrets])}"
    return Reply(200, b"", {**_guploader(session), "Location": location, "Content-Type": "text/html; charset=UTF-8"})


def serve_session(call: Call) -> Reply:
    """Any request to a session URI: chunk, status query or cancel."""
    session = call.drive.sessions.find(call.query["upload_id"], call.drive.clock.now())
    if session is None or session.crd != call.query.get("session_crd", ""):
        raise UploadError(404, "Not Found")
    if call.fault in ("session-404", "session-410"):
        call.drive.sessions.end(session, call.fault[-3:])
    if call.request.method == "DELETE":
        return _cancel(call, session)
    if session.state == DONE:
        call.request.body.drain()
        return _finished(call, session)
    refuse_closed(session)
    span = parse_span(call.request)
    if span.query:
        return _status(call, session, span)
    return _chunk(call, session, span)


def refuse_closed(session: Session) -> None:
    """Raise the answer that a closed session gives to everything."""
    if session.state == BROKEN:
        raise UploadError(400, "Invalid request.  The upload session is no longer usable.")
    if session.state == CANCELLED:
        raise UploadError(404, "Not Found")
    if session.state == "409":
        raise id_in_use()
    if session.state != OPEN:
        raise UploadError(int(session.state), "Gone" if session.state == "410" else "Not Found")


def _cancel(call: Call, session: Session) -> Reply:
    if session.state != DONE:
        refuse_closed(session)
        call.drive.sessions.end(session, CANCELLED)
    return Reply.text("", 499)


def _status(call: Call, session: Session, span: Span) -> Reply:
    session.settle()
    with session.lock:
        if session.state == DONE:
            return _finished(call, session)
        refuse_closed(session)
        if span.total is not None:
            _check_total(session, span.total)
            if session.held == span.total:
                return _complete(call, session)
        return progress(call, session)


def _chunk(call: Call, session: Session, span: Span) -> Reply:
    session.settle()
    with session.lock:
        if session.state != DONE:
            refuse_closed(session)
            _check_chunk(call, session, span)
        if session.state == DONE:
            return _finished(call, session)
        held = session.held
        writer = Writer(session, keep_nothing="keep-nothing" in call.also)
    with writer:
        try:
            _receive(call, session, writer, held - span.start, None if span.stop is None else span.stop - held)
        except SupersededError:
            return Reply(0, drop=True)
        finally:
            with session.lock:
                whole = call.request.body.finished
                if writer.current and session.state == OPEN and not (whole and span.final):
                    session.truncate(floor(session.held) if whole else session.safe())
        return _after_chunk(call, session, writer, span)


def _check_chunk(call: Call, session: Session, span: Span) -> None:
    """Refuse what a chunk may not be; note what it should not be."""
    if span.total is not None:
        _check_total(session, span.total)
    if not span.final and span.stop is not None:
        size = span.stop - span.start
        if size % UNIT:
            call.drive.journal.violation("chunk-size", f"{size} bytes, not the last chunk, no multiple of {UNIT}")
        if size < UNIT:
            call.drive.sessions.end(session, BROKEN)
            raise UploadError(400, TOO_SMALL.format(sent=size))
    if span.start > session.held:
        call.drive.journal.violation("offset-gap", f"begins at {span.start}, {session.held} bytes are held")
        raise UploadError(503, GAP.format(start=span.start, held=session.held))
    if span.start < session.held:
        twice = min(session.held, span.stop or session.held) - span.start
        call.drive.journal.violation("sent-twice", f"{twice} bytes from {span.start} on are held already")


def _receive(call: Call, session: Session, writer: Writer, skip: int, room: int | None) -> None:
    """Read the body into the session: `skip` bytes are held already, `room` more were announced (None: unknown).

    A fault may keep less than comes.
    """
    body = call.request.body
    if session.slow:
        body.pace = lambda: call.drive.slow.block
    length = body.length if body.length is not None else 2 * UNIT
    kept = {"503-after-256K": UNIT, "stall": UNIT, "308-short": floor(length // 2), "308-no-range": 0}
    keep = kept.get(call.fault or "") if call.cut is None else call.cut
    for _ in body.blocks(skip):
        if not writer.current:
            raise SupersededError
    if keep is None and room is not None:
        keep = max(0, room)
    for block in body.blocks(keep):
        if session.slow:
            call.drive.slow.take(len(block))
        writer.append(block)
    if call.fault == "stall":
        call.drive.stopping.wait(STALL_SECONDS)
    if call.cut is None and call.fault != "stall":
        body.drain()


def _after_chunk(call: Call, session: Session, writer: Writer, span: Span) -> Reply:
    with session.lock:
        if call.cut is not None or call.fault == "stall":
            return Reply(0, drop=True)
        if session.state == DONE:
            return _finished(call, session)
        if not writer.current:
            return Reply(0, drop=True)
        if call.fault == "308-no-range":
            session.truncate(0)
        elif call.fault in ("308-short", "503-after-256K"):
            session.truncate(floor(session.held))
        elif span.final and (span.total is None or session.held == span.total):
            if span.total is None:
                _check_total(session, session.held)
            return _complete(call, session)
        session.truncate(floor(session.held))
        if call.fault == "503-after-256K":
            return fault_reply("503") or Reply(503)
        return progress(call, session)


def _check_total(session: Session, total: int) -> None:
    """Raise UploadError 400 when a request contradicts the length declared at initiation or what is held."""
    if session.declared is not None and total != session.declared:
        text = f"Invalid request.  {total} byte(s) in all, but X-Upload-Content-Length said {session.declared}."
        raise UploadError(400, text)
    if total < floor(session.held):
        raise UploadError(400, f"Invalid request.  {total} byte(s) in all, but {floor(session.held)} are held.")


def progress(call: Call, session: Session) -> Reply:
    """308 with the Range held (none when nothing is), or its 200 disguise for clients that cannot take a 308."""
    held = floor(session.held)
    headers = _guploader(session)
    headers["Content-Type"] = "text/html; charset=UTF-8"
    if held:
        headers["Range"] = f"bytes=0-{held - 1}"
        headers["X-Range-MD5"] = session.digests.advance(session.path, held)["md5"]
    if call.request.headers.get("x-guploader-no-308", "").lower() == "yes":
        return Reply(200, b"", {**headers, "X-HTTP-Status-Code-Override": "308"})
    return Reply(308, b"", headers)


def _complete(call: Call, session: Session) -> Reply:
    content_type = session.content_type or call.request.headers.get("content-type", "")
    upload = Upload(session.file_id, session.update, session.metadata, session.params, content_type)
    content = call.drive.sessions.content(session, spoil=call.fault == "wrong-md5")
    try:
        # File and session change together: a restart never sees the one without the other.
        with call.drive.store.database.transaction():
            complete(call, upload, content)
            session.state = DONE
            call.drive.sessions.save(session)
    except ApiError as error:
        call.drive.sessions.end(session, str(error.status))
        raise
    if call.fault == "md5-late":
        call.drive.delay_checksums(session.file_id)
    return _finished(call, session, 201 if call.fault == "final-201" else 200)


def _finished(call: Call, session: Session, status: int = 200) -> Reply:
    reply = call.file_reply(call.drive.store.require(session.file_id), session.params.get("fields"), status)
    reply.headers |= _guploader(session)
    return reply


def _guploader(session: Session) -> dict[str, str]:
    return {"Server": "UploadServer", "X-GUploader-UploadID": session.id}
