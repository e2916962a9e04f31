"""Encodes one small image after another as JPEG, without what Image.save does anew for each."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

_DONE = 1  # what Pillow's encoders answer when all went into the buffer


class JpegEncoder:
    """Gives the bytes that ``image.save(..., "JPEG")`` gives for images of one mode and size.

    At 200 x 200 pixels a tenth of a composite's time goes into Image.save's bookkeeping. Pillow's codec is therefore
    called as Image.save calls it, with the settings that a first save worked out. That is no public interface: when
    Pillow answers otherwise than by the very same bytes at that first time, every image goes through Image.save.
    """

    def __init__(self, mode: str, size: tuple[int, int], quality: int, optimize: bool) -> None:
        self._options = {"quality": quality, "optimize": optimize}
        self._room = max(65536, 4 * size[0] * size[1])  # libjpeg needs room for the whole file at once
        probe = Image.linear_gradient("L").resize(size).convert(mode)
        saved = self._save(probe)
        self._config: tuple[Any, ...] = getattr(probe, "encoderconfig", ())
        self._direct = self._works(probe, saved)

    def encode(self, image: Image.Image) -> bytes:
        data = self._encode_directly(image) if self._direct else None
        return self._save(image) if data is None else data

    def _works(self, probe: Image.Image, saved: bytes) -> bool:
        try:
            return self._encode_directly(probe) == saved
        except Exception:  # whatever another Pillow makes of this call, Image.save is there
            return False

    def _encode_directly(self, image: Image.Image) -> bytes | None:
        """The file, or None when it did not fit the buffer."""
        encoder = Image._getencoder(image.mode, "jpeg", image.mode, self._config)
        try:
            encoder.setimage(image.im, (0, 0, *image.size))
            _, status, data = encoder.encode(self._room)
        finally:
            encoder.cleanup()
        return data if status == _DONE else None

    def _save(self, image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **self._options)
        return buffer.getvalue()
