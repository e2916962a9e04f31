"""The card in the dataset's folder, for somebody who has the link and has never heard of driveshard: what it is, who
may read it, and how to get all of it or one file, with driveshard and without."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import url2pathname

from driveshard.archive.manifest import Manifest, ManifestPart, split
from driveshard.config.card_words import CardWords
from driveshard.core.formatting import human_size, plural
from driveshard.upload.dataset_folder.contents import OTHERS, Contents, noted_contents
from driveshard.upload.dataset_folder.settling import sentences
from driveshard.upload.ledger.ledger import Ledger

CARD, PREVIEW = "README.md", "preview.jpg"
_MOST_PARTS = 200  # listed
_MOST_FIELDS = 12

_TOGETHER = "Files whose path is the same up to the first dot of the name belong to one sample."
_TOGETHER_TREES = (
    "Files of one name in several folders (`fg_bg/x.jpg`, `fg_bg_mask/x_mask.jpg`) belong to one sample;"
    ' `driveshard.Dataset(..., key="trees")` reads them so, and they are counted so here.'
)
_UNPACK = """\
mkdir -p {folder}
for part in {zips}; do unzip -q -o "$part" -d {folder}; done
"""
_READ = """\
import json
import zipfile

where = {{}}  # file -> the zip that has it
for part in {parts}:
    with zipfile.ZipFile(part["name"]) as archive:
        where.update(dict.fromkeys(archive.namelist(), part["name"]))
name = {member}
with zipfile.ZipFile(where[name]) as archive:
    data = archive.read(name)
print(f"{{len(where)}} files; {{name}} has {{len(data)}} bytes")
"""
_LISTED = 'json.load(open("manifest.json", encoding="utf-8"))["parts"]'
_IN_PAGES = """(
    part
    for page in json.load(open("manifest.json", encoding="utf-8"))["pages"]
    for part in json.load(open(page["name"], encoding="utf-8"))["parts"]
)"""


@dataclass(frozen=True, slots=True)
class Card:
    """What a card is made from. ``link`` is the folder's, ``shared`` who may read it (``anyone``, ``nobody``, ...),
    ``trouble`` a sentence for each kind of member names that other tools trip over, ``paged`` whether the manifest is
    split."""

    manifest: Manifest
    link: str | None
    shared: str
    words: CardWords = field(default_factory=CardWords)
    contents: Contents | None = None
    has_preview: bool = False
    trouble: Sequence[str] = ()
    paged: bool = False

    @property
    def _listing(self) -> str:
        """What lists the parts."""
        return "`manifest-*.json`" if self.paged else "`manifest.json`"

    def encode(self) -> bytes:
        """As Markdown."""
        blocks = [
            *self._head(),
            *self._with_driveshard(),
            *self._without(),
            *self._inside(),
            *self._terms(),
            *self._parts(),
        ]
        return "\n\n".join([*blocks, ""]).removesuffix("\n").encode("utf-8", "backslashreplace")

    def _head(self) -> Iterator[str]:
        manifest = self.manifest
        yield f"# {manifest.name}"
        if self.words.text:
            yield self.words.text
        zips = plural(len(manifest.parts), "zip file")
        yield (
            f"{plural(manifest.samples, 'sample')} ({plural(manifest.files, 'file')},"
            f" {human_size(manifest.size)}) in {zips}. {readers_sentence(self.shared, self.link)}"
        )
        if self.link and not _is_local(self.link):
            yield f"Link: <{self.link}>"
        if self.has_preview:
            yield f"![Some of the samples]({PREVIEW})"

    def _with_driveshard(self) -> Iterator[str]:
        where = shlex.quote(_place(self.link)) if self.link else "LINK"
        member = _example(self.manifest.parts)
        yield "## Get it with driveshard"
        yield "driveshard is a Python program (3.11 or newer). To install it:"
        yield _fenced("sh", "pip install driveshard")
        if not _is_local(self.link or "") and self.shared != "anyone":
            yield "Only people whom it is shared with can read it, so log in first:"
            yield _fenced("sh", "driveshard login --scope drive.readonly")
        yield "All of it, checked on arrival; run it again to go on after an interruption:"
        yield _fenced("sh", f"driveshard pull {where} {shlex.quote(self.manifest.name)}")
        yield "One file, without fetching the rest; and the list of all files:"
        target = shlex.quote(member.rpartition("/")[2] if member else "FILE")
        wanted = shlex.quote(member) if member else "MEMBER"
        yield _fenced("sh", f"driveshard cat {where} {wanted} > {target}\ndriveshard ls {where}")

    def _without(self) -> Iterator[str]:
        name = shlex.quote(self.manifest.name)
        digits = max((len(str(part.number)) for part in self.manifest.parts), default=0)
        zips = " ".join(f"{name}-{'?' * count}.zip" for count in range(5, max(5, digits) + 1))
        lists = f"`manifest.json` and all {self._listing}" if self.paged else self._listing
        yield "## Get it without driveshard"
        yield (
            f"Every part is a plain zip. Download the zips and {lists} into one folder (a browser does), and"
            " unpack the zips in the order of their numbers: a file in a later one replaces one of the same name."
        )
        yield _fenced("sh", _UNPACK.format(folder=shlex.quote(f"{self.manifest.name}-files"), zips=zips))
        member = _example(self.manifest.parts)
        yield "Or leave them packed and read them from Python:"
        example = repr(member) if member else "next(iter(where))"
        yield _fenced("python", _READ.format(parts=_IN_PAGES if self.paged else _LISTED, member=example))
        verb = "list" if self.paged else "lists"
        yield f"{self._listing} {verb} the parts with their sizes, md5 and sha256 checksums."
        if self.trouble:
            yield "\n".join(f"- Mind: `{line}`." for line in self.trouble)

    def _inside(self) -> Iterator[str]:
        inside = self.contents
        yield "## What is inside"
        yield _TOGETHER_TREES if self.manifest.source.get("layout") == "trees" else _TOGETHER
        if inside is None or not inside.of:
            return
        seen = "" if inside.of >= self.manifest.samples else f" (of {plural(inside.of, 'sample')} looked at)"
        yield "\n".join([f"| field | files{seen} | size | a file |", "|---|---|---|---|", *_fields(inside)])
        if inside.folders:
            yield "\n".join(
                [
                    f"| folder | samples{seen} |",
                    "|---|---|",
                    *(f"| `{_cell(name) or '.'}` | {count:,} |" for name, count in inside.folders.items()),
                ]
            )
        whole = inside.looked_at >= self.manifest.samples
        seen = "" if whole else f" (of {plural(inside.looked_at, 'sample')} looked at)"
        for name, values in inside.labels.items():
            told = ", ".join(f"`{_cell(value)}` {count:,}" for value, count in values.items())
            yield f"- **{_cell(name)}**{seen}: {told}"

    def _terms(self) -> Iterator[str]:
        words = self.words
        if words.licence or words.contact:
            yield "## Licence and contact"
        if words.licence:
            yield f"Licence: {words.licence}"
        if words.contact:
            yield f"Contact: {words.contact}"

    def _parts(self) -> Iterator[str]:
        parts = self.manifest.parts
        yield "## Parts"
        yield "\n".join(
            ["| part | samples | files | size | sha256 |", "|---|---|---|---|---|", *map(_row, parts[:_MOST_PARTS])]
        )
        if len(parts) > _MOST_PARTS:
            yield f"... and {len(parts) - _MOST_PARTS:,} more in {self._listing}."
        yield "Packed by driveshard."


def card_of(ledger: Ledger, manifest: Manifest, shared: str, *, has_preview: bool | None = None) -> bytes:
    """The card of a dataset whose parts are all released, from what its ledger knows; ``has_preview`` is given while
    one is just being written."""
    words = CardWords(**ledger.get("words", {}))
    if has_preview is None:
        preview = ledger.artifact(PREVIEW)
        has_preview = preview is not None and preview[1] is not None
    link = ledger.get("link")
    trouble, paged = sentences(ledger), bool(split(manifest))
    return Card(manifest, link, shared, words, noted_contents(ledger), has_preview, trouble, paged).encode()


def readers_sentence(shared: str, link: str | None) -> str:
    """Who may read, for a visitor."""
    if _is_local(link or ""):
        return "Whoever can see this folder can read it."
    if shared == "anyone":
        return "Anyone who has the link can read it, without an account."
    if shared == "nobody":
        return "It is private: only its owner can open the link."
    return f"It is shared with {', '.join(map(_reader, shared.split(', ')))}: log in to Google to open the link."


def _reader(who: str) -> str:
    kind, _, value = who.partition(":")
    return f"everybody at {value}" if kind == "domain" else value or who


def _is_local(link: str) -> bool:
    return link.startswith("file:")


def _place(link: str) -> str:
    """The link as a command takes it: a plain folder by its path."""
    return url2pathname(urlsplit(link).path) if _is_local(link) else link


def _example(parts: Sequence[ManifestPart]) -> str | None:
    """A member whose name can stand in a command."""
    names = (name for part in parts for name in (part.first, part.last))
    return next((one for one in names if one and one.isprintable() and one[0] != "-" and "`" not in one), None)


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _cell(text: str) -> str:
    """Text from a name inside a table or between backticks."""
    return text.replace("`", "'").replace("|", "/")


def _fields(inside: Contents) -> Iterator[str]:
    ordered = sorted(inside.fields.items(), key=lambda one: (one[0] == OTHERS, -one[1][0], one[0]))
    for name, (files, size) in ordered[:_MOST_FIELDS]:
        said = f"`{_cell(name)}`" if name else "(no ending)"
        yield f"| {said} | {files:,} | {human_size(size)} | {human_size(size / files)} |"
    rest = ordered[_MOST_FIELDS:]
    if rest:
        files, size = sum(one[0] for _, one in rest), sum(one[1] for _, one in rest)
        yield f"| others | {files:,} | {human_size(size)} | {human_size(size / files)} |"


def _row(part: ManifestPart) -> str:
    return f"| {part.name} | {part.samples:,} | {part.files:,} | {human_size(part.size)} | `{part.sha256[:16]}...` |"
