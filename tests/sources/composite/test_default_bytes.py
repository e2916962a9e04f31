"""What the generator makes without any of its later keys stays what it always was: datasets that are half way go on."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

from PIL import Image

from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.model import SampleRange
from driveshard.sources.composite.source import CompositeSource

LABELS = """\
{"background":"b.bmp","flip":true,"foreground":"f.png","height":16,"scale":0.5,"width":32,"x":15,"y":14}
{"background":"b.bmp","flip":true,"foreground":"f.png","height":16,"scale":0.5,"width":32,"x":19,"y":26}
{"background":"b.bmp","flip":false,"foreground":"f.png","height":16,"scale":0.5,"width":32,"x":17,"y":41}
{"background":"b.bmp","flip":false,"foreground":"f.png","height":16,"scale":0.5,"width":32,"x":24,"y":6}
"""
SPOTS = [(15, 14), (19, 26), (17, 41), (24, 6)]
KEYS = ["bg_000/fg_000_f_00", "bg_000/fg_000_f_01", "bg_000/fg_000_o_00", "bg_000/fg_000_o_01"]


def inputs(root: Path) -> tuple[Image.Image, Image.Image]:
    """One background and one foreground that are pasted as they are, so that the expected bytes need no scaling."""
    ramp = Image.linear_gradient("L").resize((64, 64))
    background = Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180)))
    alpha = Image.radial_gradient("L").resize((32, 16)).point(lambda value: max(0, 255 - 2 * value))
    foreground = Image.new("RGBA", (32, 16), (220, 40, 90, 0))
    foreground.putalpha(alpha)
    for folder, name, image in (("bg", "b.bmp", background), ("fg", "f.png", foreground)):
        (root / folder).mkdir()
        image.save(root / folder / name)
    return background, foreground


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30, optimize=True)
    return buffer.getvalue()


def expected(background: Image.Image, foreground: Image.Image) -> list[tuple[str, bytes]]:
    """By Pillow alone, so that another version of its codec changes both sides."""
    members = []
    for number, (key, spot, label) in enumerate(zip(KEYS, SPOTS, LABELS.splitlines(), strict=True)):
        patch = foreground.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number < 2 else foreground
        image, mask = background.copy(), Image.new("L", (64, 64))
        image.paste(patch.convert("RGB"), spot, patch.getchannel("A"))
        mask.paste(patch.getchannel("A"), spot)
        members += [(f"{key}.image.jpg", jpeg(image)), (f"{key}.json", label.encode()), (f"{key}.mask.jpg", jpeg(mask))]
    return members


def test_members_of_a_plain_job_are_what_they_always_were(tmp_path: Path) -> None:
    pictures = inputs(tmp_path)
    source = CompositeSource(tmp_path / "bg", tmp_path / "fg", size=64, placements=2, min_scale=0.5, max_scale=0.5)
    with ZipWriter(tmp_path / "part.zip") as writer:
        packed = source.pack(SampleRange(0, 4), writer, 0)
        writer.close()
    with zipfile.ZipFile(tmp_path / "part.zip") as archive:
        made = [(name, archive.read(name)) for name in archive.namelist()]
    assert made == expected(*pictures)
    assert (packed.samples, packed.files) == (4, 12)
    assert [one for index in range(4) for one in source.members(index)] == [
        (name.encode(), data) for name, data in made
    ]


def test_settings_of_a_plain_job_are_what_a_ledger_has_of_it(tmp_path: Path) -> None:
    """They are compared with what was noted when the dataset began: one more key, and it would not go on."""

    def sha256(path: Path) -> str:
        data = path.read_bytes()
        whole = b"%s\0%d\0%s" % (path.name.encode(), len(data), hashlib.sha256(data).digest())
        return hashlib.sha256(whole).hexdigest()

    inputs(tmp_path)
    assert CompositeSource(tmp_path / "bg", tmp_path / "fg").settings() == {
        "kind": "composite",
        "generator": 1,
        "size": 200,
        "placements": 20,
        "flip": True,
        "quality": 30,
        "optimize": True,
        "seed": 1,
        "min_scale": 0.3,
        "max_scale": 0.7,
        "backgrounds": {"count": 1, "sha256": sha256(tmp_path / "bg" / "b.bmp")},
        "foregrounds": {"count": 1, "sha256": sha256(tmp_path / "fg" / "f.png")},
    }
