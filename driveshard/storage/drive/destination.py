"""Drive as a destination: joins the client, the upload protocol and the error table to the contract."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

from googleapiclient.http import HttpRequest, MediaInMemoryUpload, MediaIoBaseUpload

from driveshard.core.clock import Clock
from driveshard.core.errors import (
    BadRequest,
    ConfigError,
    DriveshardError,
    IdRefused,
    NotFound,
    Refused,
    SessionGone,
    Unavailable,
    UsageError,
)
from driveshard.core.model import RemoteFile, UploadSession
from driveshard.storage.base import Held, Piece, Progress, Stored
from driveshard.storage.drive import credentials as auth
from driveshard.storage.drive.answers import FOLDER, File, Ids, Page, next_page, read, read_file
from driveshard.storage.drive.client import GOOGLE, PAGE, DriveClient, headers_of, is_page
from driveshard.storage.drive.errors import translate
from driveshard.storage.drive.links import folder_link
from driveshard.storage.drive.loan import LASTING, DriveLoan
from driveshard.storage.drive.permissions import Permissions, named
from driveshard.storage.drive.resumable import (
    CHUNK_UNIT,
    Done,
    Gone,
    Offset,
    Reply,
    Request,
    chunk_request,
    query_request,
    read_reply,
)
from driveshard.storage.drive.sink import Sink

ANOTHER_PIECE = "Drive's answer is another piece of the file than was asked for"
_FIELDS = "id,name,mimeType,size,md5Checksum,sha256Checksum,webViewLink,trashed,appProperties,parents,resourceKey"
_MULTIPART = 4 * 1024 * 1024  # bytes; Drive takes 5 MB in one request
_CHUNK = 8 * 1024 * 1024


def open_drive(rest: str, settings: Any) -> DriveDestination:
    """A Drive destination whose dataset folders go into the folder ``rest`` (an id or a link; empty: My Drive)."""
    parent = folder_id_of(rest) if rest else None
    base_url = settings.drive_url or GOOGLE
    credentials = auth.credentials_for(base_url, settings)
    clock = settings.clock
    client = DriveClient(
        base_url, credentials, clock, timeout=settings.timeout, api_key=auth.api_key_for(credentials, settings)
    )
    return DriveDestination(client, clock, parent, settings.profile)


def drive_with(credentials: Any, settings: Any, *, api_key: str | None = None) -> DriveDestination:
    """A Drive for reading what somebody else stored, as whom ``credentials`` say."""
    base_url = settings.drive_url or GOOGLE
    client = DriveClient(base_url, credentials, settings.clock, timeout=settings.timeout, api_key=api_key)
    return DriveDestination(client, settings.clock)


def folder_id_of(text: str) -> str:
    """The folder id in a link or in a bare id. Raises UsageError."""
    return folder_link(text).id


class DriveDestination:
    """Parts as files in a Drive folder. ``parent`` is the id of the folder that dataset folders go into, or None;
    ``profile`` is the name of the login, which stands for another account."""

    chunk_unit = CHUNK_UNIT

    def __init__(
        self, client: DriveClient, clock: Clock, parent: str | None = None, profile: str | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._parent = parent
        self._as = f" {profile}" if profile else ""

    @property
    def identity(self) -> str:
        return f"drive {self._client.base_url} {self._parent or 'root'}{self._as}"

    @property
    def client(self) -> DriveClient:
        """What makes its requests."""
        return self._client

    @property
    def account(self) -> str:
        return f"drive {self._client.base_url}{self._as}"

    @property
    def requests(self) -> int:
        return self._client.requests

    def describe(self) -> str:
        where = "Google Drive" if self._client.base_url == GOOGLE else f"Drive at {self._client.base_url.rstrip('/')}"
        return f"{where}, folder {self._parent}" if self._parent else where

    def show_key(self, file_id: str, key: str) -> None:
        """Have an item shown that asks visitors for its resource key."""
        if key:
            self._client.resource_keys[file_id] = key

    def lend_reading(self, *, renew: bool = False) -> DriveLoan:
        """What ``lent_drive`` needs elsewhere; ``renew`` where what was lent last is not taken any more. Raises
        AuthError, Unavailable when the login cannot be renewed."""
        client = self._client
        token = client.access_token(LASTING, renew=renew)
        return DriveLoan(client.base_url, token, client.api_key, dict(client.resource_keys))

    def abort(self) -> None:
        """Break all requests under way."""
        self._client.abort()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    # -- ids and folders -----------------------------------------------------------------------------------------

    def reserve_ids(self, count: int) -> list[str]:
        request = self._client.files.generateIds(count=count, space="drive", type="files", fields="ids")
        return read(self._client.execute(request), Ids).ids

    def find_folders(self, name: str) -> list[RemoteFile]:
        """As ``destination.Destination``; only folders made with this OAuth client are seen."""
        escaped = name.replace("\\", "\\\\").replace("'", "\\'")
        query = (
            f"name = '{escaped}' and mimeType = '{FOLDER}' and trashed = false"
            f" and '{self._parent or 'root'}' in parents"
        )
        # Whether name = ignores case is not documented, so names are compared again here.
        try:
            listed = self._list(query)
        except NotFound as error:
            raise self._unseen(error) from error
        return [one for one in listed if one.name == name and "driveshard" in one.properties]

    def children(self, folder_id: str) -> list[RemoteFile]:
        return self._list(f"'{folder_id}' in parents and trashed = false")

    def _list(self, query: str) -> list[RemoteFile]:
        found: list[RemoteFile] = []
        token: str | None = None
        seen: set[str] = set()
        while True:
            request = self._client.files.list(
                q=query,
                pageSize=1000,
                pageToken=token,
                spaces="drive",
                supportsAllDrives=True,
                includeItemsFromAllDrives=True,
                fields=f"nextPageToken,files({_FIELDS})",
            )
            page = read(self._client.execute(request), Page)
            self._client.resource_keys |= {one.id: one.resourceKey for one in page.files if one.resourceKey}
            found += [item.as_remote() for item in page.files]
            token = next_page(page.nextPageToken, seen)
            if token is None:
                return found

    def make_folder(self, file_id: str, name: str, properties: Mapping[str, str]) -> RemoteFile:
        """As ``destination.Destination``; UsageError when what the folder is to be made in is a file."""
        body: dict[str, Any] = {"id": file_id, "name": name, "mimeType": FOLDER, "appProperties": dict(properties)}
        if self._parent:
            body["parents"] = [self._parent]
        request = self._client.files.create(body=body, fields=_FIELDS, supportsAllDrives=True)
        try:
            return read_file(self._client.execute(request, refusal_of_create), file_id).as_remote()
        except NotFound as error:
            raise self._unseen(error) from error
        except Refused as error:
            if self._parent and "not a folder" in error.message.lower():
                raise UsageError(
                    f"{self._parent} is a file, and a folder is meant",
                    advice="Give the link of the folder that it is in.",
                ) from error
            raise

    def _unseen(self, error: NotFound) -> NotFound:
        """The parent is not found; most often it is there, made by hand, and the login has not the right to see it."""
        if self._parent is None:
            return error
        return NotFound(
            f"there is no folder {self._parent} that this login sees",
            advice="Check the link and the account (`driveshard whoami`). A folder that you made by hand is seen only"
            " after `driveshard login --scope drive`; or leave --to out, and driveshard makes its own.",
        )

    def set_properties(self, folder_id: str, properties: Mapping[str, str | None]) -> RemoteFile:
        """As ``destination.Destination``: Drive merges what is given into what is there, key by key."""
        request = self._client.files.update(
            fileId=folder_id, body={"appProperties": dict(properties)}, fields=_FIELDS, supportsAllDrives=True
        )
        return read_file(self._client.execute(request), folder_id).as_remote()

    def time(self) -> float:
        return self._client.time()

    # -- resumable uploads ---------------------------------------------------------------------------------------

    def begin(self, file_id: str, folder_id: str, name: str, size: int, properties: Mapping[str, str]) -> UploadSession:
        """As ``destination.Destination``: a resumable session, its size and properties declared."""
        body = {"id": file_id, "name": name, "parents": [folder_id], "appProperties": dict(properties)}
        empty = MediaIoBaseUpload(io.BytesIO(), mimetype="application/zip", resumable=True)
        built = self._client.files.create(body=body, media_body=empty, fields=_FIELDS, supportsAllDrives=True)
        return self._begun(file_id, built, size, "application/zip")

    def _begun(self, file_id: str, built: HttpRequest, size: int, mime_type: str) -> UploadSession:
        headers = {
            "content-type": "application/json; charset=UTF-8",
            "x-upload-content-type": mime_type,
            "x-upload-content-length": str(size),
        }
        body = (built.body or "").encode()  # an update has nothing to say but its bytes
        reply = self._client.send(Request(built.method, built.uri, headers_of(built, headers), body))
        if not 200 <= reply.status < 300:
            raise refusal_of_create(reply.status, reply.headers, reply.body)
        location = reply.headers.get("location")
        if not location:
            raise Unavailable(PAGE if is_page(reply) else "Drive began an upload without saying where")
        uri = self._session_uri(built.uri, location)
        return UploadSession(file_id, uri, self._clock.now())

    def _session_uri(self, asked: str, location: str) -> str:
        """Where to send the bytes. A session is at the Drive that was asked: whoever can change a reply on its way
        must not be told the login. Raises ConfigError."""
        with contextlib.suppress(ValueError):
            uri = urljoin(asked, location)
            if self._client.is_here(uri):
                return uri
        raise ConfigError(
            f"the answer of {self._client.base_url} sends an upload elsewhere; nothing was sent there",
            advice="Something between this machine and Drive changes its answers: check the proxy and the network.",
        )

    def send(self, session: UploadSession, offset: int, data: bytes | memoryview | Piece, size: int) -> Progress:
        return self._put(session, chunk_request(session.uri, offset, data, size), size)

    def query(self, session: UploadSession, size: int) -> Progress:
        return self._put(session, query_request(session.uri, size), size)

    def _put(self, session: UploadSession, request: Request, size: int) -> Progress:
        if not self._client.is_here(session.uri):  # it may come out of a ledger that somebody changed
            raise SessionGone("the upload session is not of this Drive")
        return self._progress(session, self._client.send(request), size)

    def _progress(self, session: UploadSession, reply: Reply, size: int) -> Progress:
        outcome = read_reply(reply, size)
        if isinstance(outcome, Offset):
            return Held(outcome.value)
        if isinstance(outcome, Gone):
            raise SessionGone(f"the upload session is no more ({outcome.why})")
        if isinstance(outcome, Done):
            return Stored(self._described(session.file_id, outcome.fields))
        raise outcome.error

    def _described(self, file_id: str, fields: Mapping[str, Any]) -> RemoteFile:
        """The file of a finished upload. The reply may be of another form or cut short; then the file is asked for."""
        with contextlib.suppress(Unavailable):
            file = read_file(fields, file_id)
            if file.size is not None:
                return file.as_remote()
        try:
            return self.get(file_id)
        except NotFound as error:
            raise Unavailable("Drive's answer to an upload was cut short") from error

    # -- files ---------------------------------------------------------------------------------------------------

    def get(self, file_id: str) -> RemoteFile:
        answer = self._client.execute(self._client.files.get(fileId=file_id, fields=_FIELDS, supportsAllDrives=True))
        item: File = read_file(answer, file_id)
        if item.trashed:
            raise NotFound(
                f"{item.name!r} is in Drive's trash", advice="Restore it, or use another name.", trashed=True
            )
        return item.as_remote()

    def put(self, file_id: str, folder_id: str, name: str, data: bytes, mime_type: str, *, replace: bool) -> RemoteFile:
        """As ``destination.Destination``: one multipart request, or a session for what is too large for that."""
        large = len(data) > _MULTIPART
        media = MediaInMemoryUpload(b"" if large else data, mimetype=mime_type, resumable=large)
        if replace:
            built = self._client.files.update(fileId=file_id, media_body=media, fields=_FIELDS, supportsAllDrives=True)
        else:
            body = {"id": file_id, "name": name, "parents": [folder_id], "appProperties": {"driveshard": "artifact"}}
            built = self._client.files.create(body=body, media_body=media, fields=_FIELDS, supportsAllDrives=True)
        if large:
            return self._send_whole(self._begun(file_id, built, len(data), mime_type), data)
        return read_file(self._client.execute(built, translate if replace else refusal_of_create), file_id).as_remote()

    def _send_whole(self, session: UploadSession, data: bytes) -> RemoteFile:
        """All of it through one session; whatever goes wrong is the caller's to try again from the start."""
        offset, size = 0, len(data)
        while True:
            chunk = memoryview(data)[offset : offset + _CHUNK]
            progress = self.send(session, offset, chunk, size) if chunk else self.query(session, size)
            if isinstance(progress, Stored):
                return progress.file
            if progress.offset <= offset:
                raise Unavailable("Drive kept nothing of what was sent")
            offset = progress.offset

    def read(self, file_id: str, start: int, length: int) -> bytes:
        """As ``destination.Destination``; empty when ``start`` is beyond the end, which is a 416."""
        return self._content(file_id, start, length, None) if length > 0 else b""

    def stream(
        self, file_id: str, start: int, length: int, write: Callable[[bytes], None], on_total: Callable[[int], None]
    ) -> None:
        """As ``read``, but the bytes go to ``write`` as they come, and the file's size to ``on_total`` before them."""
        self._content(file_id, start, length, Sink(start, write, on_total))

    def _content(self, file_id: str, start: int, length: int, sink: Sink | None) -> bytes:
        built: HttpRequest = self._client.files.get_media(fileId=file_id, supportsAllDrives=True)
        extra = {"range": f"bytes={start}-{start + length - 1}", "accept-encoding": "identity"}
        # A range is a wish; the whole file is a valid answer, of which the client keeps what is asked for here.
        reply = self._client.send(Request("GET", built.uri, headers_of(built, extra), None, (start, length), sink))
        if reply.status == 416:
            return b""
        if reply.status not in (200, 206):
            raise translate(reply.status, reply.headers, reply.body)
        if sink is not None and not sink.taken:
            raise Unavailable(PAGE if is_page(reply) else ANOTHER_PIECE)
        if sink is None and reply.status == 200 and is_page(reply):
            raise Unavailable(PAGE)
        place = re.match(r"bytes (\d{1,19})-", reply.headers.get("content-range", ""), re.ASCII)
        if reply.status == 206 and place and int(place[1]) != start:
            raise Unavailable(ANOTHER_PIECE)
        return reply.body

    def remove(self, file_id: str) -> None:
        try:
            self._client.execute(self._client.files.delete(fileId=file_id, supportsAllDrives=True))
        except NotFound:
            return

    def trash(self, file_id: str) -> None:
        """As ``destination.Destination``; also for a folder."""
        request = self._client.files.update(
            fileId=file_id, body={"trashed": True}, fields="id,trashed", supportsAllDrives=True
        )
        with contextlib.suppress(NotFound):
            self._client.execute(request)

    # -- sharing -------------------------------------------------------------------------------------------------

    def share(self, folder_id: str, who: str, before_write: Callable[[], None] = lambda: None) -> str:
        """``user:`` and ``domain:`` take back what was open to more people, and leave other users alone."""
        return Permissions(self._client, folder_id).set(who, before_write)

    def readers(self, folder_id: str) -> str:
        """Who may read now, in the words of ``share``, several with commas; one request for a hundred of them. Only a
        place that knows of permissions has this."""
        return named(Permissions(self._client, folder_id).listed())

    def patiently_who_am_i(self) -> dict[str, Any]:
        """As ``who_am_i``; asked once more when the login was renewed just now."""
        try:
            return self.who_am_i()
        except Unavailable:
            return self.who_am_i()

    def who_am_i(self) -> dict[str, Any]:
        """User and storage quota, as Drive's ``about`` gives them (numbers are strings)."""
        return dict(self._client.execute(self._client.about.get(fields="user,storageQuota")))


def refusal_of_create(status: int, headers: Mapping[str, str], body: bytes) -> DriveshardError:
    """As ``drive.errors.translate``, for a request that makes a file under an id: a 400 without a better name may be
    about that id."""
    error = translate(status, headers, body)
    if status == 400 and type(error) in (BadRequest, Refused):
        refused = IdRefused(
            f"Drive refused to make a file: {error}", advice="It will not pass by itself; look the message up."
        )
        refused.__cause__ = error
        return refused
    return error
