"""A compaction under way, in a ledger of its own beside the dataset's: what becomes of which parts, and how far it is.

The dataset's ledger knows of it only that numbers are promised, so a push may come in between: what it adds is newer.
"""

from __future__ import annotations

import contextlib
import zlib
from pathlib import Path
from typing import Any

from driveshard.archive.names import facts_of, paths_in
from driveshard.core.errors import Defect
from driveshard.core.model import Part, PartSpec, PartState, SampleRange
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.ledger.replaced import Arrived
from driveshard.upload.ledger.rows import LedgerDamaged, LedgerPart
from driveshard.upload.merge.choose import Choice, newest_among, selection_of
from driveshard.upload.merge.newest import Directories
from driveshard.upload.naming import part_file_name, work_paths

_BEGUN = (PartState.BEGUN, PartState.STORED, PartState.VERIFIED, PartState.RELEASED)


class Work:
    """``ledger`` has the merged parts; ``numbers`` are theirs, ``sources`` those of the parts that go."""

    def __init__(self, path: Path, dataset: Ledger) -> None:
        self._path = path
        self._dataset = dataset
        self.ledger = Ledger(path)
        self._plan: dict[str, Any] = self.ledger.get("plan", {})

    @classmethod
    def kept(cls, ledger: Path, dataset: Ledger, folder_id: str) -> Work | None:
        """What an earlier run left, if the dataset still is what it was made for; else that is given up."""
        path = work_paths(ledger)[-1]
        if not path.exists():
            return None
        try:
            work = cls(path, dataset)
        except LedgerDamaged:
            _unlink(ledger)
            return None
        if work._still_fits(folder_id):
            return work
        with contextlib.closing(work):
            work._give_up()
        _unlink(ledger)
        return None

    @classmethod
    def begun(cls, ledger: Path, dataset: Ledger, folder_id: str, choice: Choice, directories: Directories) -> Work:
        """A new one, all of it noted before anything is fetched."""
        before = {str(part.number): part.sha256 for part in dataset.parts()}
        number, generation = dataset.promise(len(choice.groups))
        work = cls(work_paths(ledger)[-1], dataset)
        newest = newest_among(dataset, directories, choice.sources)
        sources = {}
        for place, group in enumerate(choice.groups):
            name = part_file_name(dataset.get("name"), number + place)
            selection = selection_of(dataset, group, directories, newest)
            work.ledger.plan(PartSpec(number + place, name, selection, group.estimate), place)
            sources[str(number + place)] = group.sources
        work._plan = {
            "job": dataset.get("job"),
            "folder": folder_id,
            "before": before,
            "dropped": dataset.get("dropped"),
            "first": number,
            "generation": generation,
            "sources": sources,
            "unseen": list(choice.unseen),
        }
        work.ledger.note(plan=work._plan)
        return work

    def close(self) -> None:
        self.ledger.close()

    @property
    def first(self) -> int:
        """The number from which on parts are newer than what is merged."""
        return int(self._plan["first"])

    @property
    def job(self) -> str:
        return str(self._plan["job"])

    @property
    def folder_id(self) -> str:
        return str(self._plan["folder"])

    @property
    def numbers(self) -> list[int]:
        return [int(number) for number in self._plan["sources"]]

    @property
    def sources(self) -> list[int]:
        return [*(one for number in self.numbers for one in self.sources_of(number)), *self._plan["unseen"]]

    def sources_of(self, number: int) -> list[int]:
        """The parts that this one is merged from."""
        return list(self._plan["sources"][str(number)])

    def put_in_place(self) -> None:
        """The dataset has the merged parts, and no longer those they were merged from, at once."""
        arrived = []
        for place, part in enumerate(self.ledger.parts()):
            if part.state is not PartState.RELEASED or part.file_id is None:
                raise Defect(f"{part.file_name} is not proved")
            arrived.append(Arrived(self._whole(part), part.file_id, self._plan["generation"] + place))
        self._dataset.replace(self.sources, arrived)

    def remove(self) -> None:
        """It is done."""
        self.close()
        _unlink(self._path)

    def _whole(self, part: LedgerPart) -> Part:
        assert part.size is not None and part.sha256 is not None
        selection = self.ledger.selection(part.number)
        end = self.ledger.end(part.number, part.sha256) or b""
        return Part(
            number=part.number,
            file_name=part.file_name,
            size=part.size,
            md5=part.md5 or "",
            sha256=part.sha256,
            samples=part.samples or 0,
            files=part.files or 0,
            first=part.first or "",
            last=part.last or "",
            selection=selection,
            names=facts_of(_paths_at(end), by_key=isinstance(selection, SampleRange)),
            end=end,
        )

    def _still_fits(self, folder_id: str) -> bool:
        """Whether all parts that were looked at are there as they were, whatever was added."""
        plan = self._plan
        if not plan or (plan["job"], plan["folder"]) != (self._dataset.get("job"), folder_id):
            return False
        now = {str(part.number): part.sha256 for part in self._dataset.parts()}
        same = all(now.get(number) == sha256 for number, sha256 in plan["before"].items())
        return same and plan["dropped"] == self._dataset.get("dropped") and not now.keys() & plan["sources"].keys()

    def _give_up(self) -> None:
        """What is up of it goes to the trash with the next manifest, unless the dataset has it by now."""
        ours = {part.file_id for part in self._dataset.parts()}
        for part in self.ledger.parts():
            if part.file_id is not None and part.state in _BEGUN and part.file_id not in ours:
                self._dataset.retire(part.file_id, part.file_name)


def _unlink(ledger: Path) -> None:
    for path in work_paths(ledger):
        path.unlink(missing_ok=True)


def _paths_at(end: bytes) -> list[bytes]:
    """The members' paths in a zip's end as the ledger keeps it."""
    data = zlib.decompress(end)
    at = len(data) - 22  # no comment: the end record is the last
    records = data.rfind(b"PK\6\6", 0, at) if data[at - 20 : at - 16] == b"PK\6\7" else at
    return paths_in(data[:records])
