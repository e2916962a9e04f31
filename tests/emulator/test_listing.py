"""files.list: the q grammar, order, pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driveshard.emulator import Emulator
from driveshard.emulator.errors import ApiError
from driveshard.emulator.query import parse_query, parse_time

from .client import FILES, FOLDER, Client
from .conftest import Start


@dataclass
class Sample:
    """A file made up for a query."""

    name: str = "x"
    mime_type: str = "text/plain"
    description: str = ""
    starred: bool = False
    created: int = 0
    modified: int = 0
    properties: dict[str, str] = field(default_factory=dict)
    app_properties: dict[str, str] = field(default_factory=dict)
    searched_parents: list[str] = field(default_factory=list)
    searched_people: dict[str, set[str]] = field(
        default_factory=lambda: {"owners": {"me"}, "writers": set(), "readers": set()}
    )
    searched_trashed: bool = False
    visibility: str = "limited"
    shortcut_target: str | None = None


def found(q: str, **sample: object) -> bool:
    return parse_query(q).matches(Sample(**sample))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("q", "sample", "expected"),
    [
        ("name = 'a'", {"name": "a"}, True),
        ("name='A'", {"name": "a"}, True),
        ("name != 'a'", {"name": "a"}, False),
        (r"name = 'it\'s'", {"name": "it's"}, True),
        (r"name = 'a\\b'", {"name": "a\\b"}, True),
        ("name contains 'hel'", {"name": "Hello World"}, True),
        ("name contains 'wor'", {"name": "Hello World"}, True),
        ("name contains 'orl'", {"name": "Hello World"}, False),
        ("fullText contains 'wor'", {"description": "big world"}, True),
        ("mimeType = 'text/plain'", {}, True),
        ("mimeType contains 'text/'", {}, True),
        ("'p' in parents", {"searched_parents": ["p"]}, True),
        ("not 'p' in parents", {"searched_parents": ["p"]}, False),
        ("'me' in owners", {}, True),
        ("trashed = false", {}, True),
        ("trashed=true", {}, False),
        ("trashed != true", {}, True),
        ("starred = true", {"starred": True}, True),
        ("sharedWithMe = true", {}, False),
        ("modifiedTime > '2020-01-01T00:00:00'", {"modified": parse_time("2020-01-02")}, True),
        ("modifiedTime <= '2020-01-01T00:00:00Z'", {"modified": parse_time("2020-01-01")}, True),
        ("createdTime < 2020-01-01", {"created": parse_time("2019-12-31T23:59:59.999Z")}, True),
        ("modifiedTime = '2020-01-01T01:00:00+01:00'", {"modified": parse_time("2020-01-01")}, True),
        ("appProperties has { key='k' and value='v' }", {"app_properties": {"k": "v"}}, True),
        ("appProperties has {key='k' and value='w'}", {"app_properties": {"k": "v"}}, False),
        ("properties has { value='v' and key='k' }", {"properties": {"k": "v"}}, True),
        ('name = "it\'s"', {"name": "it's"}, True),
        (r'name = "a \"b\" \\"', {"name": 'a "b" \\'}, True),
        ("name = 'a \"b'", {"name": 'a "b'}, True),
        ('"p" in parents and appProperties has { key="k" and value="v" }', {"app_properties": {"k": "v"}}, False),
        ('name = ""', {"name": ""}, True),
        ("appProperties has { key='k' and value='v' }", {"properties": {"k": "v"}}, False),
        ("visibility = 'limited'", {}, True),
        ("name='a'and(trashed=false)", {"name": "a"}, True),
        ("((name='a')or((name='b')))and not trashed=true", {"name": "b"}, True),
        ("name='a' or name='b' and name='c'", {"name": "a"}, True),
        ("(name='a' or name='b') and name='c'", {"name": "a"}, False),
        ("not not name='a'", {"name": "a"}, True),
        ("shortcutDetails.targetId = 't'", {"shortcut_target": "t"}, True),
    ],
)
def test_meaning(q: str, sample: dict[str, object], expected: bool) -> None:
    assert found(q, **sample) is expected


@pytest.mark.parametrize(
    "q",
    [
        "name",
        "name =",
        "name = a",
        "name = 'a",
        "name = 'a' and",
        "name = 'a' name = 'b'",
        "(name = 'a'",
        "name = 'a')",
        "nope = 'a'",
        "id > 'x'",
        "name > 'x'",
        "'x' in nowhere",
        "'x' parents",
        "parents in 'x'",
        "trashed = 'false'",
        "trashed = maybe",
        "trashed > true",
        "modifiedTime > 'yesterday'",
        "modifiedTime contains '2020-01-01'",
        "mimeType > 'x'",
        "appProperties has { value='v' }",
        "appProperties has { key='k' }",
        'properties has { key="k" }',
        "name = \"a'",
        "appProperties has { key='k' ",
        "appProperties = 'k'",
        "name ~ 'x'",
        "and",
        "not",
        "()",
    ],
)
def test_refusals(client: Client, q: str) -> None:
    answer = client.get(FILES, q=q)
    assert (answer.status, answer.reason) == (400, "invalid")
    assert answer.json["error"]["errors"][0]["location"] == "q"


def test_name_order_in_a_compound_is_the_services_own_500(client: Client) -> None:
    assert client.get(FILES, q="name > 'x' and trashed = false").status == 500


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30), st.text(max_size=30))
def test_any_name_can_be_asked_for(name: str, other: str) -> None:
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    assert found(f"name = '{quoted}'", name=name)
    assert found(f"name = '{quoted}'", name=other) is (name.casefold() == other.casefold())


ATOMS = st.sampled_from(["starred = true", "trashed = false", "name = 'x'", "'p' in parents", "name != 'x'"])


def _join(parts: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    two = st.tuples(parts, st.sampled_from(["and", "or"]), parts)
    joined = two.map(lambda t: (f"({t[0][0]}) {t[1]} ({t[2][0]})", f"(({t[0][1]}) {t[1]} ({t[2][1]}))"))
    return joined | parts.map(lambda p: (f"not ({p[0]})", f"(not ({p[1]}))"))


@settings(deadline=None)
@given(
    st.recursive(ATOMS.map(lambda atom: (atom, f"truth[{atom!r}]")), _join, max_leaves=8),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_logic_agrees_with_python(
    pair: tuple[str, str], starred: bool, trashed: bool, named: bool, inside: bool
) -> None:
    q, python = pair
    truth = {
        "starred = true": starred,
        "trashed = false": not trashed,
        "name = 'x'": named,
        "name != 'x'": not named,
        "'p' in parents": inside,
    }
    sample = {
        "starred": starred,
        "searched_trashed": trashed,
        "name": "x" if named else "y",
        "searched_parents": ["p"] if inside else [],
    }
    assert found(q, **sample) is eval(python, {"truth": truth})


@settings(deadline=None)
@given(st.text(alphabet="'\\(){}=<>! andornotinhas name trashed x", max_size=40))
def test_nonsense_is_refused_or_parsed_but_never_breaks(q: str) -> None:
    try:
        parse_query(q).matches(Sample())
    except ApiError as error:
        assert error.status in (400, 500)


def test_no_hit_is_an_empty_list(client: Client) -> None:
    assert client.get(FILES, q="name='none'", fields="files").json == {"files": []}
    assert client.get(FILES).json == {"kind": "drive#fileList", "incompleteSearch": False, "files": []}


def test_search_in_a_folder(client: Client) -> None:
    folder = client.folder("f")
    client.upload(b"a", name="inside", parents=[folder])
    client.upload(b"a", name="outside")
    assert client.names(f"'{folder}' in parents and trashed=false") == ["inside"]
    assert client.names("'root' in parents") == ["f", "outside"]
    assert client.names(f"mimeType='{FOLDER}'") == ["f"]
    assert client.names(f"'{folder}' in parents or name='f'") == ["f", "inside"]


def test_pages(client: Client) -> None:
    for number in range(7):
        client.folder(f"{number}")
    names, token, pages = [], "", 0
    while pages == 0 or token:
        page = client.get(FILES, pageSize=3, orderBy="name", pageToken=token).json
        names += [file["name"] for file in page["files"]]
        token, pages = page.get("nextPageToken", ""), pages + 1
    assert (names, pages) == (list("0123456"), 3)


def test_an_empty_page_token_is_none(client: Client) -> None:
    client.folder("f")
    assert client("GET", f"{FILES}?pageToken=").json["files"][0]["name"] == "f"


def changes(client: Client, token: Any, **query: object) -> dict[str, Any]:
    answer = client.get("/drive/v3/changes", pageToken=token, **query)
    assert answer.status == 200, answer.body
    document: dict[str, Any] = answer.json
    return document


def test_changes(client: Client, start: Start, emulator: Emulator) -> None:
    client.folder("before")
    begun = client.get("/drive/v3/changes/startPageToken").json
    assert begun["kind"] == "drive#startPageToken"
    token = begun["startPageToken"]
    assert changes(client, token) == {"kind": "drive#changeList", "changes": [], "newStartPageToken": token}
    kept, gone = client.folder("kept"), client.folder("gone")
    client("PATCH", f"{FILES}/{kept}", {"name": "renamed"})
    client("DELETE", f"{FILES}/{gone}")
    emulator.stop()
    client = Client(start().url)
    first = changes(client, token, pageSize=1)
    second = changes(client, first["nextPageToken"])
    seen = [*first["changes"], *second["changes"]]
    assert [(c["fileId"], c["removed"], c["changeType"]) for c in seen] == [(kept, False, "file"), (gone, True, "file")]
    assert (seen[0]["file"]["name"], "file" in seen[1]) == ("renamed", False)
    assert changes(client, second["newStartPageToken"])["changes"] == []
    assert len(changes(client, token, includeRemoved="false")["changes"]) == 1
    client.share(kept)
    told = client.get("/drive/v3/changes", pageToken=second["newStartPageToken"], fields="changes(file/shared)").json
    assert told == {"changes": [{"file": {"shared": True}}]}


def test_bad_change_tokens(client: Client, emulator: Emulator) -> None:
    assert client.get("/drive/v3/changes").reason == "required"
    assert client.get("/drive/v3/changes", pageToken="x").reason == "invalid"
    assert Client(emulator.url, auth={}).get("/drive/v3/changes", pageToken="1", key="k").status == 401


def test_page_parameters(client: Client) -> None:
    for number in range(3):
        client.folder(f"{number}")
    assert client.get(FILES, pageSize=0).status == 400
    assert client.get(FILES, pageSize="x").status == 400
    assert len(client.get(FILES, pageSize=5000).json["files"]) == 3
    token = client.get(FILES, pageSize=2).json["nextPageToken"]
    assert client.get(FILES, pageToken="nope").reason == "invalid"
    assert client.get(FILES, pageToken=token, q="trashed=false").status == 400
    assert len(client.get(FILES, pageToken=token).json["files"]) == 1


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("name", ["a10", "a2", "B", "c"]),
        ("name desc", ["c", "B", "a2", "a10"]),
        ("name_natural", ["a2", "a10", "B", "c"]),
        ("folder,name", ["c", "a10", "a2", "B"]),
        ("quotaBytesUsed desc,name", ["a10", "B", "a2", "c"]),
        ("modifiedTime", ["B", "a10", "a2", "c"]),
    ],
)
def test_order(client: Client, order: str, expected: list[str]) -> None:
    for number, (name, size) in enumerate([("B", 2), ("a10", 5), ("a2", 1)]):
        client.upload(bytes(size), name=name, modifiedTime=f"2020-01-0{number + 1}T00:00:00Z")
    client.folder("c")
    files = client.get(FILES, orderBy=order).json["files"]
    assert [file["name"] for file in files] == expected


def test_bad_parameters(client: Client) -> None:
    assert client.get(FILES, orderBy="size").status == 400
    assert client.get(FILES, orderBy="name,").status == 400
    assert client.get(FILES, corpora="nope").status == 400
    assert client.get(FILES, corpora="drive").status == 400
    assert client.get(FILES, corpora="drive", driveId="x").status == 404
    assert client.get(FILES, spaces="nope").status == 400
    assert client.get(FILES, spaces="appDataFolder").json["files"] == []
    assert (
        client.get(FILES, corpora="allDrives", includeItemsFromAllDrives="true", supportsAllDrives="true").status == 200
    )
