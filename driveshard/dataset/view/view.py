"""``driveshard.view``: a dataset on a page of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from html import escape
from typing import Self

from driveshard.dataset.view.samples import Samples, open_samples
from driveshard.dataset.view.server import Server
from driveshard.dataset.view.site import Site


class View:
    """A page that is served, at ``address``, until it is closed or the process ends. A context manager that closes
    it."""

    def __init__(self, samples: Samples, port: int = 0) -> None:
        self.name = samples.name
        self.samples = len(samples)
        self._dataset = samples
        self._closed = threading.Event()
        try:
            self._server = Server(Site(samples), port)
        except BaseException:
            samples.close()
            raise
        self.address = self._server.address
        self._server.start()

    def wait(self) -> None:
        """Until somebody closes it, or Ctrl-C."""
        while not self._closed.wait(0.5):  # in steps, for Windows hears no Ctrl-C meanwhile
            pass

    def close(self) -> None:
        """End the page."""
        if not self._closed.is_set():
            self._closed.set()
            self._server.stop()
            self._dataset.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<View of {self.name} at {self.address}>"

    def _repr_html_(self) -> str:
        return f'<a href="{escape(self.address)}" target="_blank">{escape(self.name)}: {self.samples:,} samples</a>'


def view(what: str | os.PathLike[str], *, port: int = 0, browser: bool = True) -> View:
    """Serve a page on this machine (127.0.0.1) on which to browse a dataset's samples and filter them by key.

    ``what`` is a directory with parts of driveshard or any zips, a folder's link or id, or the name of a dataset pushed
    from here; of a link only the index and the samples that are shown are fetched. Returns at once; the page is there
    until the View is closed, or the process ends: ``view("photos").wait()`` stays. Port 0 is a free one; ``browser``
    opens it, too.

    Raises SourceMissing, Mismatch, ConfigError for a port that cannot be had, and errors of the way to the dataset.
    """
    shown = View(open_samples(os.fspath(what)), port)
    if browser:
        open_browser(shown.address)
    return shown


def open_browser(address: str) -> None:
    """In a process of its own, as browsers write to whatever stdout is, and some hold on until they are closed."""
    code = "import sys, webbrowser; webbrowser.open(sys.argv[1])"
    null = subprocess.DEVNULL

    def run() -> None:
        try:
            subprocess.run([sys.executable, "-c", code, address], stdin=null, stdout=null, stderr=null, check=False)  # noqa: S603
        except OSError:
            return

    threading.Thread(target=run, name="browser", daemon=True).start()
