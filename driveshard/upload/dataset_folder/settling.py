"""When all parts are packed: what they hold together. Members and samples counted once each, and the trouble that
their names make, over all parts, whatever the parts' size.

Manifest, card, result and ``status`` take their counts from what is noted here. Memory stays bounded: hashes of names
are compared a range at a time, every part's sorted column being read on from where the range before ended.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from driveshard.archive.names import EXAMPLES, KINDS, as_text, facts_of, kinds_of, sentence
from driveshard.core.model import FileList, sample_key
from driveshard.upload.ledger.ledger import Ledger
from driveshard.upload.plan.known import seen_rows

if TYPE_CHECKING:
    from driveshard.upload.dataset_folder.clashes import Clashes


def settle(ledger: Ledger) -> dict[int, int]:
    """Count and compare what the ledger's parts hold, unless that was done for these very parts, and note it.

    Returns which parts have how many samples whose keys an older part has, as far as that is news.
    """
    if ledger.settled():
        return {}
    from driveshard.upload.dataset_folder.clashes import find_clashes  # with numpy, which takes a while to load

    before = ledger.get("settled", {}).get("repeated", {})
    made = _is_made(ledger)
    _look_at_old_parts(ledger)
    clashes = find_clashes(ledger, made=made)
    samples, files = _counts(ledger, clashes)
    counts, examples = _trouble(ledger, clashes, made=made)
    ledger.note(
        settled={
            "contents": ledger.contents(),
            "samples": samples,
            "files": files,
            "names": counts,
            "examples": examples,
            "kinds": _kinds(ledger),
            "repeated": {str(number): count for number, count in clashes.repeated.items()},
        }
    )
    return {number: count for number, count in clashes.repeated.items() if str(number) not in before}


def sentences(ledger: Ledger) -> list[str]:
    """A line for people on each kind of trouble."""
    settled = ledger.settled()
    lines = []
    for kind, count in settled.get("names", {}).items():
        shown = settled["examples"].get(kind, [])
        lines.append(sentence(kind, count) + (f" (such as {', '.join(shown)})" if shown else ""))
    return lines


def kinds_in(ledger: Ledger) -> dict[str, int]:
    """Members a kind, whether that is settled already or not; empty when some part was packed before that was
    counted."""
    settled = ledger.settled()
    return dict(settled["kinds"]) if settled else _kinds(ledger)


def _is_made(ledger: Ledger) -> bool:
    parts = ledger.parts()
    return bool(parts) and not isinstance(ledger.kept_selection(parts[0].number), FileList)


def _repeats(ledger: Ledger) -> bool:
    """Whether a folder's parts may hold more members than readers see."""
    return len(ledger.generations()) > 1 or bool(ledger.get("dropped"))


def _look_at_old_parts(ledger: Ledger) -> None:
    """Parts of a folder that were packed before names were looked at; of made samples nobody knows them any more."""
    known = ledger.names()
    for part in ledger.parts():
        selection = ledger.kept_selection(part.number) if part.number not in known else None
        if isinstance(selection, FileList):
            ledger.note_names(part.number, facts_of(selection.split_paths(), by_key=False))


def _counts(ledger: Ledger, clashes: Clashes) -> tuple[int, int]:
    """(samples, files), each once whatever parts it is in."""
    parts = ledger.parts()
    samples, files = sum(part.samples or 0 for part in parts), sum(part.files or 0 for part in parts)
    if clashes.repeated:
        each = {part.number: (part.files or 0) / max(1, part.samples or 0) for part in parts}
        again = sum(count * each[number] for number, count in clashes.repeated.items())
        return samples - clashes.repeated.total(), files - round(again)
    if _is_made(ledger) or not _repeats(ledger):
        return samples, files
    paths = (as_text(row[0]) for row, _, _ in seen_rows(ledger))
    runs = [0, 0]
    for _, members in groupby(paths, key=sample_key):
        runs[0] += 1
        runs[1] += sum(1 for _ in members)
    return runs[0], runs[1]


def _kinds(ledger: Ledger) -> dict[str, int]:
    """Members a kind; empty when some part was packed before that was counted. Of a folder's files each counts once."""
    known = [trouble.get("kinds") for trouble, _ in ledger.names().values()]
    if not all(known):
        return {}
    if _repeats(ledger) and not _is_made(ledger):
        return kinds_of((row[0] for row, _, _ in seen_rows(ledger)), by_key=False)
    counts: Counter[str] = Counter()
    for kinds in known:
        counts.update(kinds or {})
    return dict(counts)


def _trouble(ledger: Ledger, clashes: Clashes, *, made: bool) -> tuple[dict[str, int], dict[str, list[str]]]:
    """(counts, examples) of every kind there is, the gravest first."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for trouble, _ in ledger.names().values():
        counts.update(trouble["counts"])
        for kind, names in trouble["examples"].items():
            examples[kind] = [*examples.get(kind, []), *names][:EXAMPLES]
    counts.update(twins=clashes.twins, folders=clashes.folders, repeated=clashes.repeated.total())
    if not made:
        for kind, hashes in (("twins", clashes.twin_hashes), ("folders", clashes.folder_hashes)):
            if hashes:
                from driveshard.upload.dataset_folder.clashes import named

                examples[kind] = named(ledger, hashes)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}, examples
