"""Google Drive: the only rooms that know HTTP, status codes and Google's libraries."""

from __future__ import annotations

import os


def _import_httplib2() -> None:
    """httplib2 looks at HTTPLIB2_CA_CERTS while it is imported, and raises a bare RuntimeError unless it names a file.
    ``network.certificates`` reads the variable itself, takes a folder too, and says what is wrong with it."""
    value = os.environ.pop("HTTPLIB2_CA_CERTS", None)
    try:
        import httplib2  # noqa: F401
    finally:
        if value is not None:
            os.environ["HTTPLIB2_CA_CERTS"] = value


_import_httplib2()
