"""The card in the dataset's folder: what it is and how to read it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.core.formatting import human_size, plural

CARD, PREVIEW = "README.md", "preview.jpg"


def card(manifest: Manifest, has_preview: bool, names: Sequence[str] = ()) -> bytes:
    """The dataset card: what this is and how to get it, with and without driveshard, and which ``names`` of members
    make trouble, a sentence a kind."""
    out = io.StringIO()
    out.write(f"# {manifest.name}\n\n")
    out.write(
        f"{manifest.samples:,} samples ({manifest.files:,} files, {human_size(manifest.size)}) in"
        f" {plural(len(manifest.parts), 'zip part')}, packed by driveshard.\n\n"
    )
    if has_preview:
        out.write(f"![samples]({PREVIEW})\n\n")
    out.write("## Use it\n\n")
    out.write("Every part is a plain zip: download the parts and open them with any zip tool, in the order of their\n")
    out.write("numbers (a member in a later part replaces one of the same name in an earlier part).\n\n")
    out.write("".join(f"- Mind: `{line}`.\n" for line in names) + ("\n" if names else ""))
    out.write("With driveshard, LINK being this folder's link:\n\n")
    commands = ("pull LINK DIRECTORY", "ls LINK", "cat LINK MEMBER > FILE", "verify LINK")
    out.write("".join(f"    driveshard {one}\n" for one in commands) + "\n")
    out.write("`manifest.json` lists the parts with their sizes, md5 and sha256 checksums.\n\n")
    out.write("## Samples\n\nFiles whose path is the same up to the first dot of the name belong to one sample.\n\n")
    out.write("| part | samples | files | size | sha256 |\n|---|---|---|---|---|\n")
    for part in manifest.parts[:200]:
        out.write(_row(part))
    if len(manifest.parts) > 200:
        out.write(f"\n... and {len(manifest.parts) - 200:,} more in `manifest.json`.\n")
    return out.getvalue().encode("utf-8", "backslashreplace")


def _row(part: ManifestPart) -> str:
    return f"| {part.name} | {part.samples:,} | {part.files:,} | {human_size(part.size)} | `{part.sha256[:16]}...` |\n"
