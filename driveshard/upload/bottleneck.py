"""What held a run back: cores, disk, line or a pace. A pure judgement over where the time went."""

from __future__ import annotations

from dataclasses import dataclass

_WORTH_TELLING = 3.0  # seconds; a shorter run is over before anything holds it back
_MOSTLY = 0.5


@dataclass
class TimeSpent:
    """Seconds of a run: ``wall`` in all, ``starved`` without any upload under way; summed over threads: ``uploading``,
    of that ``paced`` waiting for a turn to write, ``limited`` by --bwlimit, ``out`` without an answer and ``slowed``
    since Drive asked for it; and ``building`` parts, of that ``computing`` on a core."""

    wall: float = 0.0
    starved: float = 0.0
    uploading: float = 0.0
    paced: float = 0.0
    limited: float = 0.0
    out: float = 0.0
    slowed: float = 0.0
    building: float = 0.0
    computing: float = 0.0


def held_back_by(spent: TimeSpent) -> str | None:
    """A few words for the user, or None when the run was too short to say."""
    if spent.wall < _WORTH_TELLING or not spent.uploading:
        return None
    if max(spent.out, spent.slowed) > _MOSTLY * spent.uploading:
        return "an outage: nothing could be reached" if spent.out >= spent.slowed else "Drive, which asked to slow down"
    if spent.starved > _MOSTLY * spent.wall:
        if spent.computing > _MOSTLY * spent.building:
            return "the cores: parts were uploaded sooner than they were packed"
        return "the disk: reading the source took longer than the uploads"
    # One upload at a time waits for bandwidth; the others wait for that one.
    if spent.limited > _MOSTLY * min(spent.uploading, spent.wall):
        return "--bwlimit"
    if spent.paced > _MOSTLY * spent.uploading:
        return "the pace of writes that Drive allows: larger parts need fewer"
    return "the line: uploads took longer than packing"
