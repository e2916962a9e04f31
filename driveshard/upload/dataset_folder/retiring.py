"""Parts that the dataset needs no more: they leave the ledger first, and the destination once a manifest without them
is up, so that whoever reads finds all that the manifest tells of. A kill in between leaves them to the next run."""

from __future__ import annotations

from driveshard.core.events import Notice
from driveshard.core.formatting import plural
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.known import known_rows
from driveshard.upload.surroundings import Surroundings


def retire_unseen(ledger: Ledger) -> None:
    """Where files were dropped: retire the parts of which no member is seen any more, and forget dropped paths that no
    part has. All parts are released."""
    dropped = ledger.dropped_files()
    if not dropped:
        return
    seen: set[int] = set()
    for row, _, number in known_rows(ledger):
        if row[0] not in dropped:
            seen.add(number)
    unseen = [part.number for part in ledger.parts() if part.number not in seen]
    if unseen and seen:
        ledger.replace(unseen)
    forget_absent(ledger)


def forget_absent(ledger: Ledger) -> None:
    """Forget dropped paths that no part has."""
    dropped = ledger.dropped_files()
    if dropped:
        present = dropped.intersection(row[0] for row, _, _ in known_rows(ledger))
        if present != dropped:
            ledger.drop_files(present)


def trash_retired(around: Surroundings) -> int:
    """Move retired parts to the destination's trash, now that a manifest without them is up; returns how many."""
    retired = around.ledger.retired()
    for file_id, name in retired.items():
        around.write(
            lambda file_id=file_id: around.destination.trash(file_id),  # type: ignore[misc]
            doing=f"moving {name} to the trash",
        )
        around.ledger.forget_retired(file_id)
    if retired:
        around.emit(Notice(f"{plural(len(retired), 'part')} that the dataset needs no more went to the trash"))
    return len(retired)
