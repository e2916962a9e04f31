"""Clients that others wrote: Google's own libraries and gdown. None of them knows of the emulator."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import googleapiclient
import httplib2
import pytest
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseDownload, MediaIoBaseUpload, build_http

from driveshard.emulator import Emulator

from .client import UNIT, UPLOAD, Client, noise
from .conftest import Start

DOCUMENT = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "drive.v3.json"


def service(url: str, credentials: Credentials | None = None) -> Any:
    """Google's client with nothing changed but the address."""
    document = json.loads(DOCUMENT.read_text())
    document |= {"rootUrl": f"{url}/", "baseUrl": f"{url}/drive/v3/"}
    document.pop("mtlsRootUrl", None)
    http = AuthorizedHttp(credentials or Credentials(token="emulator"), http=build_http())
    return build_from_document(document, http=http)


def upload(drive: Any, data: bytes, chunk: int, **metadata: Any) -> Any:
    media = MediaIoBaseUpload(io.BytesIO(data), "application/zip", chunksize=chunk, resumable=True)
    return drive.files().create(body=metadata, media_body=media, fields="id,size,md5Checksum")


@pytest.mark.parametrize("size", [0, 1, UNIT, 3 * UNIT, 3 * UNIT + 17])
def test_google_client_round_trip(emulator: Emulator, size: int) -> None:
    with service(emulator.url) as drive:
        data = noise(size)
        folder = drive.files().create(body={"name": "f", "mimeType": "application/vnd.google-apps.folder"}).execute()
        (file_id,) = drive.files().generateIds(count=1).execute()["ids"]
        done = upload(drive, data, UNIT, name="a.zip", id=file_id, parents=[folder["id"]]).execute()
        assert done == {"id": file_id, "size": str(size), "md5Checksum": hashlib.md5(data).hexdigest()}
        listed = drive.files().list(q=f"'{folder['id']}' in parents and trashed=false").execute()
        assert [file["name"] for file in listed["files"]] == ["a.zip"]
        target = io.BytesIO()
        download = MediaIoBaseDownload(target, drive.files().get_media(fileId=file_id), chunksize=UNIT)
        while not download.next_chunk()[1]:
            pass
        assert target.getvalue() == data
        drive.permissions().create(fileId=folder["id"], body={"type": "anyone", "role": "reader"}).execute()
        with pytest.raises(HttpError) as caught:
            upload(drive, data, UNIT, id=file_id).execute()
        assert caught.value.resp.status == 409
        drive.files().delete(fileId=file_id).execute()
    assert [v["kind"] for v in emulator.stats()["violations"]] == ["id-uploaded-twice"]


def test_google_client_goes_on_after_faults(start: Start) -> None:
    emulator = start(faults="503-after-256K@2,308-short@2,lost-final")
    data = noise(6 * UNIT + 5)
    with service(emulator.url) as drive:
        request, done = upload(drive, data, 2 * UNIT, name="a"), None
        for _ in range(20):
            try:
                done = request.next_chunk()[1]
            except (HttpError, OSError, httplib2.HttpLib2Error):
                continue
            if done:
                break
    assert done and done["md5Checksum"] == hashlib.md5(data).hexdigest()
    assert set(emulator.stats()["faults_fired"]) == {"503-after-256K", "308-short", "lost-final"}


def test_google_client_in_another_process(emulator: Emulator) -> None:
    data = noise(3 * UNIT)
    with service(emulator.url) as drive:
        first = upload(drive, data, UNIT, name="a")
        first.next_chunk()
        second = upload(drive, data, UNIT, name="a")
        second.resumable_uri, second._in_error_state = first.resumable_uri, True
        done = None
        while done is None:
            done = second.next_chunk()[1]
    assert done["md5Checksum"] == hashlib.md5(data).hexdigest()
    assert emulator.stats()["received_bytes"] == 3 * UNIT


def test_google_client_refreshes_an_expired_token(start: Start) -> None:
    emulator = start(faults="401-expired@2")
    credentials = Credentials(
        token=None, refresh_token="r", token_uri=f"{emulator.url}/token", client_id="c", client_secret="s"
    )
    with service(emulator.url, credentials) as drive:
        drive.about().get(fields="user").execute()
        first = credentials.token
        drive.about().get(fields="user").execute()
    assert credentials.token != first


def test_google_client_multipart_media_and_batch(emulator: Emulator) -> None:
    with service(emulator.url) as drive:
        media = MediaIoBaseUpload(io.BytesIO(b"a\r\n--b"), "text/plain")
        made = drive.files().create(body={"name": "m"}, media_body=media, fields="id,name,size").execute()
        assert (made["name"], made["size"]) == ("m", "6")
        again = MediaIoBaseUpload(io.BytesIO(b"xy"), "text/plain")
        assert drive.files().update(fileId=made["id"], media_body=again, fields="size").execute() == {"size": "2"}
        answers: list[tuple[str, Any, Any]] = []
        batch = drive.new_batch_http_request(callback=lambda *given: answers.append(given))
        batch.add(drive.files().get(fileId=made["id"]))
        batch.add(drive.files().get(fileId="nope"))
        batch.execute()
    assert answers[0][1]["name"] == "m" and answers[1][2].resp.status == 404


def test_google_client_sends_long_queries_as_posts(emulator: Emulator) -> None:
    with service(emulator.url) as drive:
        assert drive.files().list(q=" or ".join(f"name='{n:030d}'" for n in range(100))).execute()["files"] == []
    assert emulator.log()[-1]["method"] == "GET"


def test_google_resumable_media(emulator: Emulator) -> None:
    pytest.importorskip("google.resumable_media")
    from google.auth.transport.requests import AuthorizedSession
    from google.resumable_media.requests import Download, ResumableUpload

    data = noise(2 * UNIT + 5)
    address = f"{emulator.url}{UPLOAD}?uploadType=resumable&fields=id,md5Checksum"
    with AuthorizedSession(Credentials(token="emulator")) as transport:
        job = ResumableUpload(address, UNIT)
        job.initiate(transport, io.BytesIO(data), {"name": "a"}, "application/zip")
        while not job.finished:
            answer = job.transmit_next_chunk(transport)
        assert answer.json()["md5Checksum"] == hashlib.md5(data).hexdigest()
        target = io.BytesIO()
        Download(f"{emulator.url}/drive/v3/files/{answer.json()['id']}?alt=media", stream=target).consume(transport)
    assert target.getvalue() == data


@pytest.fixture
def drive_google_com(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sends gdown's requests for drive.google.com to an emulator, as a proxy would: the Host header stays."""
    gdown = pytest.importorskip("gdown")
    import requests
    from gdown import download, download_folder
    from requests.adapters import HTTPAdapter

    assert gdown

    def redirect(url: str) -> None:
        class ToEmulator(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, *given: Any, **options: Any) -> requests.Response:
                original, request.headers["Host"] = request.url or "", "drive.google.com"
                request.url = original.replace("https://drive.google.com", url)
                response = super().send(request, *given, **options)
                response.url = original
                return response

        def session(**given: Any) -> tuple[requests.Session, str]:
            made = requests.Session()
            made.mount("https://drive.google.com", ToEmulator())
            return made, ""

        for module in ("gdown.download", "gdown.download_folder"):
            import sys

            monkeypatch.setattr(sys.modules[module], "_get_session", session)

    assert download and download_folder
    return redirect


def test_gdown_fetches_a_shared_folder(
    emulator: Emulator, drive_google_com: Callable[[str], None], tmp_path: Path
) -> None:
    import gdown

    client = Client(emulator.url)
    folder = client.folder("data")
    inner = client.folder("inner", parents=[folder])
    small, big = noise(1000), noise(200_000)
    client.upload(small, name="small.bin", parents=[folder])
    client.upload(big, name="big.bin", parents=[inner])
    emulator.drive.virus_scan_limit = 100_000
    drive_google_com(emulator.url)
    with pytest.raises(gdown.exceptions.DownloadError):
        gdown.download_folder(id=folder, output=str(tmp_path / "no"), quiet=True, use_cookies=False)
    client.share(folder)
    gdown.download_folder(id=folder, output=str(tmp_path / "out"), quiet=True, use_cookies=False)
    assert (tmp_path / "out" / "small.bin").read_bytes() == small
    assert (tmp_path / "out" / "inner" / "big.bin").read_bytes() == big
