"""Who may read: as Drive has it, whatever was set last from here, and said when it is refused."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from driveshard.cli.commands.status import as_json, lines_of, who_reads
from driveshard.config.settings import settings_from
from driveshard.core.errors import Defect, NotFound, Refused, ShareRefused, Unavailable
from driveshard.core.events import ignore
from driveshard.emulator import Emulator
from driveshard.storage.drive.client import DriveClient
from driveshard.storage.drive.destination import DriveDestination, open_drive
from driveshard.storage.drive.errors import translate
from driveshard.storage.drive.permissions import _refusal, named
from driveshard.upload.dataset_folder.permissions import share
from driveshard.upload.ledger.lock import hold
from driveshard.upload.ledger.reader import find_records
from tests.rig import Rig, call, fill

FOLDER = "application/vnd.google-apps.folder"
ANYONE = {"type": "anyone", "role": "writer"}


@pytest.fixture
def rig(tmp_path: Path, emulator: Emulator) -> Rig:
    fill(tmp_path / "source", 3, 2000)
    return Rig(tmp_path, emulator.url)


@pytest.fixture
def drive(emulator: Emulator, home: Path) -> Iterator[DriveDestination]:
    drive = open_drive("", settings_from({"DRIVESHARD_HOME": str(home), "DRIVESHARD_DRIVE_URL": emulator.url}))
    yield drive
    drive.close()


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/drive/v3/{path}",
        json.dumps(body).encode(),
        {"Authorization": "Bearer emulator", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        return dict(json.load(reply))


def by_hand(rig: Rig, folder_id: str | None, permission: dict[str, Any]) -> None:
    post(rig.url, f"files/{folder_id}/permissions?sendNotificationEmail=false", permission)


def take_back(rig: Rig, folder_id: str | None, permission_id: str) -> None:
    request = urllib.request.Request(
        f"{rig.url}/drive/v3/files/{folder_id}/permissions/{permission_id}",
        headers={"Authorization": "Bearer emulator"},
        method="DELETE",
    )
    urllib.request.urlopen(request).close()


def readers(rig: Rig, folder_id: str | None) -> str:
    page = json.loads(call(rig.url, f"/drive/v3/files/{folder_id}/permissions?fields=permissions"))
    return named(one for one in page["permissions"] if one["role"] != "owner")


def make_folder(drive: DriveDestination, parent: str | None = None) -> str:
    file_id = drive.reserve_ids(1)[0]
    body = {"id": file_id, "name": "d", "mimeType": FOLDER, **({"parents": [parent]} if parent else {})}
    return str(post(drive._client.base_url.rstrip("/"), "files", body)["id"])


# -- pushing ---------------------------------------------------------------------------------------------------------


def test_sharing_is_set_again_although_it_was_set_before(rig: Rig) -> None:
    first = rig.push(share="anyone")
    assert (first.shared, readers(rig, first.folder_id)) == ("anyone", "anyone")
    take_back(rig, first.folder_id, "anyoneWithLink")
    again = rig.push(share="anyone")
    assert (again.shared, readers(rig, first.folder_id)) == ("anyone", "anyone")


def test_nobody_means_nobody_also_after_a_change_by_hand(rig: Rig) -> None:
    first = rig.push(share="nobody")
    by_hand(rig, first.folder_id, ANYONE)
    by_hand(rig, first.folder_id, {"type": "group", "role": "reader", "emailAddress": "all@example.org"})
    again = rig.push(share="nobody")
    assert (again.shared, readers(rig, first.folder_id)) == ("nobody", "nobody")


def test_the_result_says_who_may_read_though_nothing_was_asked(rig: Rig) -> None:
    first = rig.push()
    assert first.shared == "nobody"
    by_hand(rig, first.folder_id, {"type": "user", "role": "writer", "emailAddress": "ada@example.org"})
    by_hand(rig, first.folder_id, {"type": "domain", "role": "reader", "domain": "example.org"})
    assert rig.push().shared == "domain:example.org, user:ada@example.org"
    by_hand(rig, first.folder_id, ANYONE)
    assert rig.push().shared == "anyone"


def test_what_is_so_already_is_not_written_again(rig: Rig, emulator: Emulator) -> None:
    rig.push(share="anyone")
    since = len(emulator.log())
    assert rig.push(share="anyone").shared == "anyone"
    changes = [one for one in emulator.log(since) if "permissions" in one["path"] and one["method"] != "GET"]
    assert changes == []


def test_a_refusal_is_in_the_result_and_another_run_may_succeed(rig: Rig, emulator: Emulator) -> None:
    emulator.set_faults("publish-refused*")
    refused = rig.push(share="anyone")
    assert (refused.state, refused.shared, refused.as_json()["shared"]) == ("complete", None, None)
    assert isinstance(refused.share_refusal, ShareRefused)
    assert "administrator" in str(refused.share_refusal)
    emulator.set_faults("")
    assert rig.push(share="anyone").shared == "anyone"


def test_a_push_that_cannot_begin_says_who_could_read_last(rig: Rig) -> None:
    rig.push(share="anyone")
    clock = rig.settings().clock
    with hold(rig.ledger_path.with_suffix(".lock"), "t", clock, ignore, wait=False):
        busy = rig.push()
    assert (busy.state, busy.shared) == ("incomplete", "anyone")


def test_a_plain_folder_is_shared_with_nobody(rig: Rig, tmp_path: Path) -> None:
    assert rig.push(to=f"file:{tmp_path}/nas").shared == "nobody"
    assert rig.push(to=f"file:{tmp_path}/nas", share="anyone").shared is None


# -- status ----------------------------------------------------------------------------------------------------------


def test_status_asks_drive(rig: Rig) -> None:
    result = rig.push(share="nobody")
    by_hand(rig, result.folder_id, ANYONE)
    settings = rig.settings()
    (record,) = find_records(settings)
    seen = who_reads([record], settings).get(record.path)
    assert (as_json(record, seen)["shared"], as_json(record, seen)["shared_seen"]) == ("anyone", True)
    assert "  shared     anyone who has the link" in lines_of(record, 0.0, seen)


def test_status_says_when_drive_was_not_asked(rig: Rig, emulator: Emulator) -> None:
    rig.push(share="anyone")
    emulator.stop()
    settings = rig.settings()
    (record,) = find_records(settings)
    assert who_reads([record], settings) == {}
    assert (as_json(record, None)["shared"], as_json(record, None)["shared_seen"]) == ("anyone", False)
    assert "  shared     anyone who has the link (as set last; Drive was not asked)" in lines_of(record, 0.0, None)


# -- taking back -----------------------------------------------------------------------------------------------------


def test_every_change_waits_for_its_turn(rig: Rig, emulator: Emulator, drive: DriveDestination) -> None:
    folder = make_folder(drive)
    for number in range(12):
        by_hand(rig, folder, {"type": "user", "role": "reader", "emailAddress": f"u{number}@example.org"})
    since = len(emulator.log())
    turns: list[int] = []

    def turn() -> None:
        turns.append(sum(one["method"] == "DELETE" for one in emulator.log(since)))

    assert drive.share(folder, "nobody", turn) == "nobody"
    assert turns == list(range(12))
    drive.share(folder, "user:ada@example.org", turn)
    assert len(turns) == 13


def test_the_command_paces_them(rig: Rig, emulator: Emulator) -> None:
    folder = rig.push().folder_id
    for number in range(6):
        by_hand(rig, folder, {"type": "user", "role": "reader", "emailAddress": f"u{number}@example.org"})
    share("t", "nobody", rig.settings(), ignore)
    times = [one["time"] for one in emulator.log() if one["method"] == "DELETE"]
    assert len(times) == 6
    assert times[-1] - times[0] >= 1.0  # six at 2.5 a second, of which three may go in a row


class Pages(DriveClient):
    """Answers as Drive does, a hundred permissions a page at most; the emulator gives all at once."""

    def __init__(self, client: DriveClient, count: int) -> None:
        vars(self).update(vars(client))
        self.held = {
            f"p{number}": {"id": f"p{number}", "type": "user", "role": "reader", "emailAddress": f"u{number}@x.org"}
            for number in range(count)
        }

    def execute(self, request: Any) -> Any:
        """One page, or one less."""
        parts = urlsplit(request.uri)
        if request.method == "DELETE":
            del self.held[parts.path.rpartition("/")[2]]
            return {}
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        start, size = int(query.get("pageToken", 0)), int(query["pageSize"])
        page: dict[str, Any] = {"permissions": list(self.held.values())[start : start + size]}
        if start + size < len(self.held) and "nextPageToken" in query["fields"]:
            page["nextPageToken"] = str(start + size)
        return page


def test_nobody_is_left_on_a_later_page(drive: DriveDestination) -> None:
    drive._client = pages = Pages(drive._client, 250)
    assert len(drive.readers("F").split(", ")) == 250
    assert drive.share("F", "nobody") == "nobody"
    assert pages.held == {}


def test_pages_that_go_round_are_left(drive: DriveDestination) -> None:
    class Round(Pages):
        def execute(self, request: Any) -> Any:
            return {"permissions": [], "nextPageToken": "b" if "pageToken=a" in request.uri else "a"}

    drive._client = Round(drive._client, 0)
    with pytest.raises(Unavailable, match="does not go on"):
        drive.share("F", "nobody")


def test_a_list_that_is_refused_is_a_refusal_to_share(drive: DriveDestination) -> None:
    class Refusing(Pages):
        def execute(self, request: Any) -> Any:
            raise refused(403, "insufficientFilePermissions", "The user may not.")

    drive._client = Refusing(drive._client, 0)
    with pytest.raises(ShareRefused, match=r"refused to share the folder: .*The user may not") as caught:
        drive.share("F", "nobody")
    assert caught.value.advice.startswith("The upload itself is complete.")


def test_who_reads_by_a_folder_above_is_not_said_to_be_gone(
    rig: Rig, emulator: Emulator, drive: DriveDestination
) -> None:
    parent = make_folder(drive)
    by_hand(rig, parent, ANYONE)
    folder = make_folder(drive, parent)
    with pytest.raises(ShareRefused, match="anyone can still read"):
        drive.share(folder, "nobody")
    assert drive.readers(folder) == "anyone"


def test_the_members_of_a_shared_drive_are_not_taken_away(drive: DriveDestination) -> None:
    drive._client = pages = Pages(drive._client, 1)
    member = [{"permissionType": "member", "role": "organizer", "inherited": True}]
    own = [{"permissionType": "file", "role": "reader", "inherited": False}]
    pages.held = {
        "m": {"id": "m", "type": "user", "role": "organizer", "permissionDetails": member},
        "a": {"id": "a", "type": "anyone", "role": "reader", "permissionDetails": own},
    }
    assert drive.share("F", "nobody") == "nobody"
    assert list(pages.held) == ["m"]


def test_a_line_that_breaks_while_many_are_taken_back(drive: DriveDestination) -> None:
    class Breaking(Pages):
        def execute(self, request: Any) -> Any:
            answer = super().execute(request)
            if request.method == "DELETE":
                raise Unavailable("the reply was lost")
            return answer

    drive._client = pages = Breaking(drive._client, 3)
    for left in (2, 1, 0):
        with pytest.raises(Unavailable) as caught:
            drive.share("F", "nobody")
        assert (len(pages.held), caught.value.answered_before) == (left, True)
    assert drive.share("F", "nobody") == "nobody"


# -- refusals --------------------------------------------------------------------------------------------------------

USER = {"type": "user", "role": "reader", "emailAddress": "ada@example.org"}


def refused(status: int, reason: str, message: str = "") -> Exception:
    error = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
    return translate(status, {}, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "invalid"), (400, "badRequest"), (400, "invalidSharingRequest"), (403, "invalidSharingRequest")],
)
def test_a_refusal_for_the_address_is_not_the_administrators(status: int, reason: str) -> None:
    error = refused(status, reason, "There is no account for this address")
    assert isinstance(error, Refused | Defect)
    told = _refusal(error, USER)
    assert isinstance(told, ShareRefused)
    words = f"{told} {told.advice}"
    assert "administrator" not in words
    assert "bug" not in words
    assert "Check ada@example.org" in words
    assert "There is no account" in words


@pytest.mark.parametrize("reason", ["publishOutNotPermitted", "shareOutNotPermitted"])
def test_a_refusal_by_policy_is_the_administrators(reason: str) -> None:
    error = refused(403, reason)
    assert isinstance(error, Refused)
    told = _refusal(error, USER)
    assert "administrator" in f"{told} {told.advice}"
    assert told.advice.startswith("The upload itself is complete.")


def test_a_folder_that_is_gone_is_no_matter_of_sharing() -> None:
    error = refused(404, "notFound", "File not found: x.")
    assert isinstance(error, NotFound)
    assert _refusal(error, USER) is error
