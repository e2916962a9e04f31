"""Which handler answers which request, and of which kinds the request is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from driveshard.emulator import changes, files, listing, nologin, permissions, resumable, site, uploads
from driveshard.emulator.calls import Call, Drive
from driveshard.emulator.errors import ApiError, UploadError
from driveshard.emulator.sessions import Session
from driveshard.emulator.wire import Reply, Request

Handler = Callable[[Call], Reply]

API, SESSION, SITE = "api", "session", "site"


@dataclass(frozen=True)
class Route:
    """A method and a path pattern, the handler, the kinds of request it is, and who is let in.

    `api` needs a token or a key, `session` takes the URI itself as the proof, `site` is open to anybody.
    """

    method: str
    pattern: re.Pattern[str]
    handler: Handler
    kinds: frozenset[str]
    access: str = API


@dataclass(frozen=True)
class Match:
    """A request's route with the path's variable parts, the full kinds, and the session it talks to."""

    route: Route
    ids: tuple[str, ...]
    kinds: frozenset[str]
    session: Session | None = None


def _route(method: str, path: str, handler: Handler, kinds: str = "", access: str = API) -> Route:
    pattern = re.compile(path.replace("{id}", "([^/]+)") + "/?$")
    names = set(kinds.split()) | ({"call"} if access != SITE else set())
    return Route(method, pattern, handler, frozenset(names), access)


FILES = "/drive/v3/files"
UPLOAD = "/upload/drive/v3/files"
PERMISSIONS = FILES + "/{id}/permissions"

ROUTES = (
    _route("GET", FILES + "/generateIds", files.generate_ids),
    _route("DELETE", FILES + "/trash", files.empty_trash, "write"),
    _route("GET", FILES, listing.list_files, "list"),
    _route("POST", FILES, files.create, "write create new"),
    _route("GET", FILES + "/{id}", files.get, "get"),
    _route("PATCH", FILES + "/{id}", files.update, "write"),
    _route("DELETE", FILES + "/{id}", files.delete, "write"),
    _route("POST", FILES + "/{id}/copy", files.copy, "write create new"),
    _route("GET", PERMISSIONS, permissions.list_all),
    _route("POST", PERMISSIONS, permissions.create, "write permission"),
    _route("GET", PERMISSIONS + "/{id}", permissions.get),
    _route("PATCH", PERMISSIONS + "/{id}", permissions.update, "write"),
    _route("DELETE", PERMISSIONS + "/{id}", permissions.delete, "write"),
    _route("GET", "/drive/v3/about", files.about),
    _route("GET", "/drive/v3/changes/startPageToken", changes.start_token),
    _route("GET", "/drive/v3/changes", changes.list_changes),
    _route("GET", "", site.home, access=SITE),
    _route("GET", "/drive/(?:u/[0-9]+/)?folders/{id}", site.folder, access=SITE),
    _route("GET", "/file/(?:u/[0-9]+/)?d/{id}(?:/(?:view|preview|edit))?", site.file_view, access=SITE),
    _route("GET", "(?:/u/[0-9]+)?/open", site.open_link, access=SITE),
    _route("GET", "(?:/u/[0-9]+)?/embeddedfolderview", nologin.embedded, access=SITE),
    _route("GET", "(?:/u/[0-9]+)?/uc", nologin.uc, access=SITE),
    _route("GET", "/download", nologin.content, "download", access=SITE),
    _route("GET", "/ServiceLogin", nologin.sign_in, access=SITE),
)
_UPLOAD_PATH = re.compile(UPLOAD + "(?:/([^/]+))?/?$")
_INITIATION = _route("POST", UPLOAD, resumable.initiate, "write start initiation")
_SIMPLE = _route("POST", UPLOAD, uploads.simple, "write start final body")
_SESSION = _route("PUT", UPLOAD, resumable.serve_session, "session", SESSION)


def find_route(drive: Drive, request: Request) -> Match:
    """The route of a request. Raises ApiError 404 for an address that v3 does not have (PUT on a file, for one)."""
    upload = _UPLOAD_PATH.match(request.path)
    if upload:
        return _upload_route(drive, request, tuple(filter(None, upload.groups())))
    method = "GET" if request.method == "HEAD" else request.method
    for route in ROUTES:
        found = route.pattern.match(request.path) if route.method == method else None
        if found:
            kinds = set(route.kinds)
            if "get" in kinds and request.query.get("alt") == "media":
                kinds = (kinds - {"get"}) | {"download"}
            return Match(route, found.groups(), frozenset(kinds))
    raise ApiError(404, "notFound", f"Not Found: {request.method} {request.path}")


def _upload_route(drive: Drive, request: Request, ids: tuple[str, ...]) -> Match:
    if "upload_id" in request.query:
        session = drive.sessions.find(request.query["upload_id"], drive.clock.now())
        return Match(_SESSION, ids, _session_kinds(request, session), session)
    if request.method != ("PATCH" if ids else "POST"):
        raise ApiError(404, "notFound", "Not Found")
    if request.query.get("uploadType") == "resumable":
        return Match(_INITIATION, ids, _INITIATION.kinds if ids else _INITIATION.kinds | {"new"})
    return Match(_SIMPLE, ids, _SIMPLE.kinds if ids else _SIMPLE.kinds | {"create", "new"})


def _session_kinds(request: Request, session: Session | None) -> frozenset[str]:
    kinds = {"call", "session"}
    try:
        span = resumable.parse_span(request)
    except UploadError:
        return frozenset(kinds)
    if request.method == "DELETE":
        return frozenset(kinds)
    if span.query:
        return frozenset(kinds | {"query"})
    kinds |= {"chunk", "body"}
    if span.final:
        kinds.add("final")
        if session and not session.update:
            kinds.add("create")
    return frozenset(kinds)
