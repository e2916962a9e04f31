"""The HTML that people see: share pages, file pages, the private notice.

Pure functions from data to text: no requests, no store. A folder's README is rendered by ``markdown``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from driveshard.emulator.markdown import render_markdown

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5d6778; --line: #dfe3ea; --page: #f6f7f9; --card: #fff;
  --link: #1a56c4; --code: #eef0f4 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c333f; --page: #12151a;
  --card: #1a1f27; --link: #8ab4ff; --code: #252b35 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 1.4rem 0 .4rem } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
p { margin: .5rem 0 } a { color: var(--link) } .soft { color: var(--soft) }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.25rem;
  margin-top: 1.25rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .85rem }
th, td { padding: .5rem .75rem .5rem 0; border-bottom: 1px solid var(--line); white-space: nowrap }
tr:last-child td { border-bottom: 0 }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 12rem }
.number { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; height: auto; border-radius: 8px; display: block }
pre, code { background: var(--code); border-radius: 6px; font: .875rem/1.45 ui-monospace, monospace }
pre { padding: .75rem 1rem; overflow-x: auto } code { padding: .1rem .3rem } pre code { padding: 0 }
.button { display: inline-block; padding: .5rem 1rem; border: 1px solid var(--line); border-radius: 8px;
  text-decoration: none; background: var(--card); font: inherit; color: var(--link); cursor: pointer }
"""


@dataclass(frozen=True)
class Item:
    """One row of a folder page: size in bytes (None for folders), modified as shown, URLs."""

    id: str
    name: str
    is_folder: bool
    size: int | None
    modified: str
    view_url: str
    download_url: str | None


def page(title: str, content: str) -> str:
    """A whole page around its content; everything inline, light and dark."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )


def folder_page(
    name: str,
    items: list[Item],
    *,
    preview_url: str | None,
    readme: str | None,
    parent_url: str | None,
    images: Mapping[str, str] | None = None,
) -> str:
    """The share page of a folder, for a visitor: its README first, for that says what this is; then the files with
    sizes, dates and download links. ``images`` are addresses of pictures in the folder by their names."""
    total = sum(item.size or 0 for item in items)
    count = f"{len(items)} item{'' if len(items) == 1 else 's'}, {human_size(total)}"
    up = f'<p><a href="{escape(parent_url)}">&larr; Up one folder</a></p>' if parent_url else ""
    parts = [f'{up}<h1>{escape(name)}</h1>\n<p class="soft">Shared folder &middot; {count}</p>']
    shown = render_markdown(readme, images) if readme else ""
    if preview_url and escape(preview_url) not in shown:
        parts.append(f'<section><img src="{escape(preview_url)}" alt="Preview of the samples"></section>')
    if shown:
        parts.append(f"<section>{shown}</section>")
    parts.append(f'<section class="files"><h2>Files</h2>{_table(items)}</section>')
    return page(name, "\n".join(parts))


def _table(items: list[Item]) -> str:
    if not items:
        return '<p class="soft">This folder is empty.</p>'
    rows = "\n".join(_row(item) for item in items)
    head = '<tr><th>Name</th><th class="number">Size</th><th>Modified</th><th></th></tr>'
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _row(item: Item) -> str:
    size = "&ndash;" if item.size is None else human_size(item.size)
    link = f'<a href="{escape(item.download_url)}">Download</a>' if item.download_url else ""
    name = f'<a href="{escape(item.view_url)}">{escape(item.name)}{"/" if item.is_folder else ""}</a>'
    return f'<tr><td>{name}</td><td class="number">{size}</td><td>{item.modified}</td><td>{link}</td></tr>'


def file_page(item: Item, *, image_url: str | None, facts: dict[str, str]) -> str:
    """The page of one file: what it is and a download button."""
    cells = ((escape(key), escape(value)) for key, value in facts.items())
    rows = "".join(f"<tr><th>{key}</th><td><code>{value}</code></td></tr>" for key, value in cells)
    image = f'<section><img src="{escape(image_url)}" alt=""></section>' if image_url else ""
    button = f'<p><a class="button" href="{escape(item.download_url or "")}">Download</a></p>'
    size = human_size(item.size or 0)
    head = f'<h1>{escape(item.name)}</h1>\n<p class="soft">{size} &middot; {item.modified}</p>'
    return page(item.name, f"{head}\n{button}\n{image}<section><table><tbody>{rows}</tbody></table></section>")


def private_page() -> str:
    """What a visitor sees of something that is not shared (or does not exist: the page does not tell)."""
    text = (
        "<h1>You need access</h1>\n<p>This item is private, or it does not exist. Its owner can share it with "
        "<em>Anyone with the link</em>; then this page shows it.</p>"
    )
    return page("You need access", text)


def home_page() -> str:
    """The page at the server's root."""
    text = (
        "<h1>Drive on loopback</h1>\n<p>This server speaks the Google Drive v3 API for tests. "
        "Shared folders are at <code>/drive/folders/ID</code>; what happened is at "
        '<a href="/_emulator/stats">/_emulator/stats</a> and <a href="/_emulator/log">/_emulator/log</a>.</p>'
    )
    return page("Drive on loopback", text)


def human_size(size: int) -> str:
    """A size in bytes for people: 999 B, 1.2 KiB, 3.4 GiB."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
