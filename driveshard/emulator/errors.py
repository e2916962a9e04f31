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
    ) -> None:
        super().__init__(message)
        self.status = status
        detail: dict[str, Any] = {"message": message, "domain": domain, "reason": reason}
        if location:
            detail |= {"location": location, "locationType": location_type}
        self.document = {"error": {"code": status, "message": message, "errors": [detail]}}

    def reply(self) -> Reply:
        """The HTTP reply that carries this refusal."""
        reply = Reply.json(self.document, self.status)
        if self.status == 401:
            reply.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
        return reply


class UploadError(Exception):
    """A refusal by the upload front end, which speaks text/plain instead of JSON."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def reply(self) -> Reply:
        """The HTTP reply that carries this refusal."""
        return Reply.text(str(self), self.status)


def not_found(file_id: str) -> ApiError:
    """404: no such file, or none that the caller may see."""
    return ApiError(404, "notFound", f"File not found: {file_id}.", location="fileId")


def invalid(location: str, message: str = "Invalid Value") -> ApiError:
    """400 for a parameter or a field of the body."""
    return ApiError(400, "invalid", message, location=location)


def id_in_use() -> ApiError:
    """409: the id given at create belongs to a file already."""
    return ApiError(409, "fileIdInUse", "A file already exists with the provided ID.")


def invalid_credentials() -> ApiError:
    """401: the bearer token is refused."""
    return ApiError(401, "authError", "Invalid Credentials", location="Authorization", location_type="header")
