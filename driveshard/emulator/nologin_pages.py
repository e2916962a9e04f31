"""The HTML of the site that serves links to visitors without a login, in the shape that programs read it.

Pure functions from data to text. What matters to a reader: titles, classes, ids, hrefs and the form's fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from driveshard.emulator.pages import human_size


@dataclass(frozen=True)
class Entry:
    """One item of an embedded folder: its address, its name, and the day it was modified as shown."""

    id: str
    name: str
    href: str
    modified: str


def _page(title: str, content: str, body_class: str = "") -> str:
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        f'<body class="{body_class}">{content}</body></html>'
    )


def embedded_page(name: str, entries: list[Entry]) -> str:
    """`/embeddedfolderview`: the folder's name as the title, an entry for each item, no sizes, no pages."""
    if not entries:
        return _page(name, '<div class="flip-empty">No files in this folder.</div>', "flip-embedded")
    items = "".join(
        f'<div class="flip-entry" id="entry-{escape(entry.id)}" tabindex="0" role="link"><div class="flip-entry-info">'
        f'<a href="{escape(entry.href)}" target="_blank"><div class="flip-entry-title">{escape(entry.name)}</div></a>'
        f'</div><div class="flip-entry-last-modified"><div>{escape(entry.modified)}</div></div></div>'
        for entry in entries
    )
    return _page(name, f'<div class="flip-folder"><div class="flip-entries">{items}</div></div>', "flip-embedded")


def scan_page(name: str, size: int, action: str, hidden: dict[str, str]) -> str:
    """The question before the download of a file too large to scan: `#download-form` with hidden fields."""
    fields = "".join(
        f'<input type="hidden" name="{escape(key)}" value="{escape(value)}">' for key, value in hidden.items()
    )
    text = (
        '<div id="uc-text"><p class="uc-warning-caption">Google Drive can\'t scan this file for viruses.</p>'
        f'<p class="uc-warning-subcaption"><span class="uc-name-size">{escape(name)} ({human_size(size)})</span>'
        " is too large for Google to scan for viruses. Would you still like to download this file?</p>"
        f'<form id="download-form" action="{escape(action)}" method="get"><input type="submit" id="uc-download-link"'
        f' value="Download anyway">{fields}</form></div>'
    )
    return _page("Google Drive - Virus scan warning", text)


def quota_page() -> str:
    """What comes, with status 200, instead of a file that was downloaded too often."""
    text = (
        '<div id="uc-text"><p class="uc-error-caption">Sorry, you can\'t view or download this file at this time.</p>'
        '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try'
        " accessing the file again later.</p></div>"
    )
    return _page("Google Drive - Quota exceeded", text)


def missing_page() -> str:
    """What comes for an address that leads to nothing."""
    return _page(
        "Page Not Found", "<p>Sorry, unable to open the file at this time.</p><p>Please check the address.</p>"
    )


def sign_in_page() -> str:
    """Where private items lead: a form for a login, never the file."""
    text = '<h1>Sign in</h1><form method="post"><input type="email" name="identifier" id="identifierId"></form>'
    return _page("Sign in - Google Accounts", text)
