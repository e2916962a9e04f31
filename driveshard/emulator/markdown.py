"""The part of Markdown that READMEs of data folders are written in, as HTML. All text is escaped, and an address is
one of the web or a picture that lies in the same folder: whoever wrote the README is a stranger."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from html import escape

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^(#{1,6}) +(.*?)(?: +#+)?$")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)]) +")
_RULE = re.compile(r"^ {0,3}([-*_])(?: *\1){2,} *$")
_DASHES = re.compile(r"^\|?(?: *:?-+:? *\|)+(?: *:?-+:?)? *$")
_INLINE = re.compile(
    r"(?P<code>(?P<ticks>`{1,3})(?P<coded>.{1,2000}?)(?P=ticks)(?!`))"
    r"|!\[(?P<alt>[^\[\]]{0,300})\]\((?P<image>[^\s)]{1,300})\)"
    r"|\[(?P<label>[^\[\]]{1,300})\]\((?P<href>https?://[^\s)]{1,2000})\)"
    r"|<(?P<bare>https?://[^\s<>]{1,2000})>"
    r"|\*\*(?P<strong>[^*]{1,1000})\*\*"
    r"|(?<![\w*])\*(?P<emphasis>[^*\s](?:[^*]{0,1000}[^*\s])?)\*(?![\w*])"
)


def render_markdown(text: str, images: Mapping[str, str] | None = None) -> str:
    """Headings, paragraphs, lists, tables, quotes, fenced and indented code, links, pictures, emphasis; the rest stays
    as it is written. ``images`` are addresses by the names of pictures that may be shown."""
    return "\n".join(_Document(text.splitlines(), images or {}).blocks())


class _Document:
    """One README, read line by line."""

    def __init__(self, lines: list[str], images: Mapping[str, str]) -> None:
        self._lines = lines
        self._images = images
        self._at = 0

    def blocks(self) -> Iterator[str]:
        """The blocks as HTML, in their order."""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if not line.strip():
                self._at += 1
            elif fence := _FENCE.match(line):
                yield self._fenced(fence[1])
            elif line.startswith("    "):
                yield self._indented()
            elif heading := _HEADING.match(line):
                self._at += 1
                level = min(len(heading[1]) + 1, 4)
                yield f"<h{level}>{self._inline(heading[2])}</h{level}>"
            elif _RULE.match(line):
                self._at += 1
                yield "<hr>"
            elif self._is_table():
                yield self._table()
            elif _ITEM.match(line):
                yield self._list()
            elif line.startswith(">"):
                quoted = "\n".join(re.sub(r"^> ?", "", one) for one in self._take(lambda one: one.startswith(">")))
                yield f"<blockquote>{self._inline(' '.join(quoted.split()))}</blockquote>"
            else:
                yield self._paragraph()

    def _take(self, belongs: Callable[[str], object]) -> list[str]:
        start = self._at
        while self._at < len(self._lines) and belongs(self._lines[self._at]):
            self._at += 1
        return self._lines[start : self._at]

    def _fenced(self, fence: str) -> str:
        self._at += 1
        content = self._take(lambda one: not one.strip().startswith(fence))
        self._at += 1
        return _pre(content)

    def _indented(self) -> str:
        content = [one[4:] for one in self._take(lambda one: one.startswith("    ") or not one.strip())]
        while content and not content[-1].strip():
            content.pop()
        return _pre(content)

    def _is_table(self) -> bool:
        following = self._lines[self._at + 1] if self._at + 1 < len(self._lines) else ""
        return "|" in self._lines[self._at] and bool(_DASHES.match(following))

    def _table(self) -> str:
        rows = [_cells(one) for one in self._take(lambda one: "|" in one)]
        head, body = rows[0], rows[2:]
        width = len(head)
        titles = "".join(f"<th>{self._inline(one)}</th>" for one in head)
        lines = (
            "<tr>" + "".join(f"<td>{self._inline(one)}</td>" for one in [*row, *[""] * width][:width]) + "</tr>"
            for row in body
        )
        return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"

    def _list(self) -> str:
        kind = "ol" if self._lines[self._at].lstrip()[0].isdigit() else "ul"
        items: list[str] = []
        for line in self._take(lambda one: _ITEM.match(one) or (one.startswith("  ") and one.strip())):
            if _ITEM.match(line):
                items.append(_ITEM.sub("", line))
            else:
                items[-1] += f" {line.strip()}"
        return f"<{kind}>" + "".join(f"<li>{self._inline(one)}</li>" for one in items) + f"</{kind}>"

    def _paragraph(self) -> str:
        lines = [self._lines[self._at]]
        self._at += 1
        lines += self._take(lambda one: one.strip() and not self._begins_another(one))
        return f"<p>{self._inline(' '.join(line.strip() for line in lines))}</p>"

    def _begins_another(self, line: str) -> bool:
        return bool(_FENCE.match(line) or _HEADING.match(line) or _ITEM.match(line) or line.startswith(">"))

    def _inline(self, text: str) -> str:
        """One run of text, its marks as elements and everything else escaped."""
        pieces = []
        end = 0
        for match in _INLINE.finditer(text):
            pieces += [escape(text[end : match.start()]), self._mark(match)]
            end = match.end()
        return "".join([*pieces, escape(text[end:])])

    def _mark(self, match: re.Match[str]) -> str:
        if match["code"]:
            return f"<code>{escape(match['coded'].strip() or match['coded'])}</code>"
        if match["image"]:
            address = self._images.get(match["image"])
            return f'<img src="{escape(address)}" alt="{escape(match["alt"])}">' if address else escape(match[0])
        if match["strong"]:
            return f"<strong>{self._inline(match['strong'])}</strong>"
        if match["emphasis"]:
            return f"<em>{self._inline(match['emphasis'])}</em>"
        address = match["href"] or match["bare"]
        label = self._inline(match["label"]) if match["label"] else escape(address)
        return f'<a href="{escape(address)}" rel="noreferrer">{label}</a>'


def _pre(lines: list[str]) -> str:
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _cells(row: str) -> list[str]:
    """A bar that is escaped, or inside code, ends no cell."""
    cells = [""]
    coded = False
    inner = row.strip().removeprefix("|")
    for before, letter in zip(" " + inner, inner, strict=False):
        coded ^= letter == "`"
        if letter != "|" or coded:
            cells[-1] += letter
        elif before == "\\":
            cells[-1] = cells[-1][:-1] + "|"
        else:
            cells.append("")
    return [cell.strip() for cell in (cells[:-1] if len(cells) > 1 and not cells[-1].strip() else cells)]
