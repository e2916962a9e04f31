"""The pages of a consent: who asks for what, the code of a device, and refusals. Pure functions from data to HTML."""

from __future__ import annotations

from html import escape

from driveshard.emulator.pages import page


def consent_page(request: str, client: str, scopes: list[str]) -> str:
    """The form that allows or denies; each scope is a box that may be unticked."""
    boxes = "".join(
        f'<p><label><input type="checkbox" name="scope" value="{escape(scope)}" checked> <code>{escape(scope)}</code>'
        "</label></p>"
        for scope in scopes
    )
    text = (
        f"<h1>{escape(client)} wants access to your Drive</h1>\n"
        f'<form id="consent" method="post" action="/consent"><input type="hidden" name="request" value="{request}">'
        f"<section>{boxes}</section><p>{_buttons()}</p></form>"
    )
    return page("Sign in to the emulated Drive", text)


def device_page(code: str) -> str:
    """The form in which a person types the code that a device shows."""
    text = (
        '<h1>Connect a device</h1>\n<form id="device" method="post" action="/device">'
        f'<p><label>Code <input name="user_code" value="{escape(code)}"></label></p><p>{_buttons()}</p></form>'
    )
    return page("Connect a device", text)


def notice_page(title: str, text: str) -> str:
    """A sentence in a page of its own."""
    return page(title, f"<h1>{escape(title)}</h1>\n<p>{escape(text)}</p>")


def _buttons() -> str:
    return (
        '<button class="button" id="allow" name="action" value="allow">Allow</button> '
        '<button class="button" id="deny" name="action" value="deny">Cancel</button>'
    )
