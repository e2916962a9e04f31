"""Drive's errors: the JSON shape of a refusal and the refusals that several parts of the emulator share."""

from __future__ import annotations

from typing import Any

from driveshard.emulator.wire import Reply


class ApiError(Exception):
    """A refusal in Drive's own shape: `{"error": {"errors": [{...}], "code": ..., "message": ...}}`."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        location: str | None = None,
        location_type: str = "parameter",
        canonical: str | None = None,
        info: dict[str, str] | None = None,
    ) -> None:
        """`canonical` is the newer replies' `status` word, `info` their ErrorInfo: its reason and metadata."""
        super().__init__(message)
        self.status = status
        detail: dict[str, Any] = {"message": message, "domain": domain, "reason": reason}
        if location:
            detail |= {"location": location, "locationType": location_type}
        error: dict[str, Any] = {"code": status, "message": message, "errors": [detail]}
        self.document = {"error": error}
        if canonical:
            error["status"] = canonical
        if info:
            error["details"] = [_error_info(**info)]

    def reply(self) -> Reply:
        """The HTTP reply that carries this refusal."""
        reply = Reply.json(self.document, self.status)
        if self.status == 401:
            reply.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
        return reply


class BareError(ApiError):
    """A refusal in the newer shape, which has no `errors[]`: code, message and status only."""

    def __init__(self, status: int, canonical: str, message: str) -> None:
        super().__init__(status, canonical, message, canonical=canonical)
        del self.document["error"]["errors"]


class UploadError(Exception):
    """A refusal by the upload front end, which speaks text/plain instead of JSON, and HTML when it says 404."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def reply(self) -> Reply:
        """The HTTP reply that carries this refusal."""
        if self.status == 404:
            return Reply.html(HTML_ERROR.format(status=404, phrase="Not Found", text=NOT_THERE), 404)
        return Reply.text(str(self), self.status)


HTML_ERROR = """<!DOCTYPE html>
<html lang=en>
  <meta charset=utf-8>
  <title>Error {status} ({phrase})!!1</title>
  <p><b>{status}.</b> <ins>That's an error.</ins>
  <p>{text} <ins>That's all we know.</ins>
"""
NOT_THERE = "The requested URL was not found on this server."


def _error_info(reason: str, **metadata: str) -> dict[str, Any]:
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    known = {"service": "drive.googleapis.com", **metadata}
    return {"@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": known}


def not_found(file_id: str) -> ApiError:
    """404: no such file, or none that the caller may see."""
    return ApiError(404, "notFound", f"File not found: {file_id}.", location="fileId")


def invalid(location: str, message: str = "Invalid Value") -> ApiError:
    """400 for a parameter or a field of the body."""
    return ApiError(400, "invalid", message, location=location)


def required(location: str, message: str) -> ApiError:
    """400 for a field of the body that must be there."""
    return ApiError(400, "required", message, location=location, location_type="other")


def id_in_use() -> ApiError:
    """409: the id given at create belongs to a file already."""
    return ApiError(409, "fileIdInUse", "A file already exists with the provided ID.")


def invalid_credentials() -> ApiError:
    """401: the bearer token is refused."""
    return ApiError(401, "authError", "Invalid Credentials", location="Authorization", location_type="header")


def login_required() -> ApiError:
    """401: an upload, or a write with a key, that says of nobody who it is from."""
    return ApiError(
        401,
        "required",
        "Login Required.",
        location="Authorization",
        location_type="header",
        canonical="UNAUTHENTICATED",
        info={"reason": "CREDENTIALS_MISSING"},
    )


def unregistered_caller() -> ApiError:
    """403: neither token nor key, in the newer shape without `errors[]`."""
    text = (
        "Method doesn't allow unregistered callers (callers without established identity)."
        " Please use API Key or other form of API consumer identity to call this API."
    )
    return BareError(403, "PERMISSION_DENIED", text)


def download_quota_exceeded() -> ApiError:
    """403: the file was downloaded too often."""
    return ApiError(403, "downloadQuotaExceeded", "The download quota for this file has been exceeded.")


def scope_missing() -> ApiError:
    """403: the token is good, and not for this."""
    return ApiError(
        403,
        "insufficientPermissions",
        "Insufficient Permission: Request had insufficient authentication scopes.",
        canonical="PERMISSION_DENIED",
        info={"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"},
    )


def bad_key() -> ApiError:
    """400: an API key that is none."""
    return ApiError(
        400,
        "badRequest",
        "API key not valid. Please pass a valid API key.",
        canonical="INVALID_ARGUMENT",
        info={"reason": "API_KEY_INVALID"},
    )
