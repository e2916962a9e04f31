"""Proxies and certificates as a company's network sets them: read from the environment, named when they fail."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import trustme

from driveshard.core.clock import Clock
from driveshard.core.errors import ConfigError, Unavailable
from driveshard.storage.drive.client import GOOGLE, DriveClient
from driveshard.storage.drive.connection import Connection, secure_context
from driveshard.storage.drive.credentials import EmulatorCredentials
from driveshard.storage.drive.network import certificates, proxy_for_https

VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
CERTIFICATES = ("HTTPLIB2_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *CERTIFICATES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:3128", (3, "127.0.0.1", 3128, None, None)),
        ("proxy.corp.example:8080", (3, "proxy.corp.example", 8080, None, None)),
        ("proxy", (3, "proxy", 80, None, None)),
        ("http://proxy:3128/", (3, "proxy", 3128, None, None)),
        ("HTTP://proxy:3128", (3, "proxy", 3128, None, None)),
        ("https://proxy:3128", (3, "proxy", 3128, None, None)),
        ("socks5://proxy", (2, "proxy", 1080, None, None)),
        ("socks5h://proxy:1", (2, "proxy", 1, None, None)),
        ("socks4://proxy", (1, "proxy", 1080, None, None)),
        ("http://u:p%23w%40x@proxy:3128", (3, "proxy", 3128, "u", "p#w@x")),
        ("u:p@proxy:3128", (3, "proxy", 3128, "u", "p")),
        ("http://[::1]:3128", (3, "::1", 3128, None, None)),
    ],
)
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_is_read_as_people_write_it(value: str, expected: tuple[object, ...], variable: str) -> None:
    proxy = proxy_for_https({variable: value})
    assert proxy is not None
    assert (proxy.proxy_type, proxy.proxy_host, proxy.proxy_port, proxy.proxy_user, proxy.proxy_pass) == expected


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_value_is_no_proxy(value: str) -> None:
    assert proxy_for_https({"HTTPS_PROXY": value}) is None


@pytest.mark.parametrize(
    "value",
    [
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://u:p#SECRET@127.0.0.1:3128",
        "http://u:SECRET/x@127.0.0.1:3128",
        "http://u:?SECRET@127.0.0.1:3128",
        "ftp://proxy:21",
        "http://",
        "http://:3128",
        "http://[::1",
        "http://proxy:3128/path",
    ],
)
def test_what_cannot_be_a_proxy_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigError, match="proxy that HTTPS_PROXY names") as caught:
        DriveClient(GOOGLE, EmulatorCredentials(), Clock())
    assert "SECRET" not in str(caught.value)
    assert caught.value.exit_code == 78


def test_an_emulator_is_not_reached_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:port")
    with pytest.raises(ConfigError):
        DriveClient(GOOGLE, EmulatorCredentials(), Clock())
    client = DriveClient("http://127.0.0.1:1/", EmulatorCredentials(), Clock())
    with pytest.raises(Unavailable, match=r"^nothing answers at 127\.0\.0\.1:1\n"):
        client.execute(client.about.get(fields="user"))
    client.close()


@pytest.mark.parametrize(
    ("names", "beside"),
    [
        ("*", True),
        ("a.example, *", True),
        ("www.googleapis.com", True),
        (".googleapis.com", True),
        ("*.googleapis.com", True),
        ("googleapis.com", True),
        ("localhost, googleapis.com , x", True),
        ("", False),
        ("localhost,127.0.0.1", False),
        ("apis.com", False),
        ("www.googleapis.com.example", False),
    ],
)
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_no_proxy_names_hosts_beside_it(names: str, beside: bool, variable: str) -> None:
    proxy = proxy_for_https({"HTTPS_PROXY": "proxy:3128", variable: names})
    assert proxy is not None
    assert proxy.applies_to("www.googleapis.com") is not beside


# -- on the wire -----------------------------------------------------------------------------------------------------


@pytest.fixture
def answering() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """``answering(script)`` is the port of a server that gives each connection to the script."""
    servers: list[socket.socket] = []

    def start(script: Callable[[socket.socket], None]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        script(connection)

        threading.Thread(target=accept, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for server in servers:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


def ask_google() -> object:
    client = DriveClient(GOOGLE, EmulatorCredentials(), Clock(), timeout=5)
    try:
        return client.execute(client.about.get(fields="user"))
    finally:
        client.close()


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", "https://127.0.0.1:{}/"])
def test_a_proxy_is_used_in_a_plain_install(
    monkeypatch: pytest.MonkeyPatch, answering: Callable[[Callable[[socket.socket], None]], int], form: str
) -> None:
    """httplib2 goes past HTTPS_PROXY, and does not say so, where PySocks is missing."""
    assert any(line.startswith("PySocks") and "extra" not in line for line in metadata.requires("driveshard") or [])
    asked = []

    def refuse(connection: socket.socket) -> None:
        asked.append(connection.recv(4096).split(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    port = answering(refuse)
    monkeypatch.setenv("HTTPS_PROXY", form.format(port))
    with pytest.raises(Unavailable, match=rf"proxy 127\.0\.0\.1:{port} \(HTTPS_PROXY\).*503"):
        ask_google()
    assert asked == [b"CONNECT www.googleapis.com:443 HTTP/1.1"]


def test_a_proxy_that_wants_a_password_is_a_matter_of_configuration(
    monkeypatch: pytest.MonkeyPatch, answering: Callable[[Callable[[socket.socket], None]], int]
) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{answering(refuse)}")
    with pytest.raises(ConfigError, match="name and a password"):
        ask_google()


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks4"])
def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"{scheme}://127.0.0.1:{port}")
    with pytest.raises(Unavailable, match=rf"proxy 127\.0\.0\.1:{port} \(https_proxy\)"):
        ask_google()


def test_a_proxy_whose_name_cannot_be_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.invalid:3128")
    with pytest.raises(Unavailable, match=r"proxy proxy\.invalid:3128"):
        ask_google()


@pytest.mark.parametrize("speaks", [None, b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_a_connection_that_fails_leaves_no_socket_open(
    answering: Callable[[Callable[[socket.socket], None]], int], speaks: bytes | None
) -> None:
    """One that was left open would be a warning here, and that an error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    if speaks is not None:
        port = answering(lambda connection: connection.sendall(speaks))
    connection = Connection("127.0.0.1", port, timeout=5, context=secure_context(None))
    with pytest.raises(OSError):
        connection.connect()
    assert connection.sock is None
    gc.collect()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def inspecting(
    authority: trustme.CA, answering: Callable[[Callable[[socket.socket], None]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that opens the connections to Google with certificates of its own, as companies do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("www.googleapis.com").configure_cert(context)

    def inspect(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"user": {}}')

    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{answering(inspect)}")


@pytest.mark.parametrize("variable", CERTIFICATES)
@pytest.mark.usefixtures("inspecting")
def test_a_companys_certificates_are_trusted_when_they_are_named(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv(variable, str(bundle))
    assert ask_google() == {"user": {}}


@pytest.mark.usefixtures("inspecting")
def test_certificates_that_nobody_named_are_not_trusted() -> None:
    with pytest.raises(ConfigError, match="not trusted") as caught:
        ask_google()
    assert "SSL_CERT_FILE" in caught.value.advice
    assert "proxy 127.0.0.1" in caught.value.advice


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
@pytest.mark.parametrize("variable", CERTIFICATES)
def test_certificates_that_cannot_be_used_are_refused_by_name(
    tmp_path: Path, content: bytes | None, variable: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=variable) as caught:
        certificates({variable: str(path)})
    assert str(path) in str(caught.value)


def test_a_folder_of_certificates_will_do(tmp_path: Path) -> None:
    assert certificates({"REQUESTS_CA_BUNDLE": str(tmp_path)}) == str(tmp_path)
    assert certificates({}) is None


@pytest.mark.parametrize("value", ["/nowhere/ca.pem", "a folder", ""])
def test_httplib2_is_not_left_to_read_its_own_variable(tmp_path: Path, value: str) -> None:
    """It does so while it is imported, and a folder or a file that is not there is an exception to it."""
    value = str(tmp_path) if value == "a folder" else value
    code = "import json, os; from driveshard.storage.drive import client, network"
    code += (
        "\ntry: found = network.certificates()\nexcept Exception as error: found = f'{type(error).__name__}: {error}'"
    )
    code += "\nprint(json.dumps([found, os.environ['HTTPLIB2_CA_CERTS']]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "HTTPLIB2_CA_CERTS": value}
    environment |= {"REQUESTS_CA_BUNDLE": "", "SSL_CERT_FILE": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found, kept = json.loads(done.stdout)
    assert kept == value
    if value.startswith("/nowhere"):
        assert found.startswith("ConfigError: ") and "HTTPLIB2_CA_CERTS" in found
    else:
        assert found == (value or None)
