"""READMEs as HTML: what is written is seen, and nothing of it is believed."""

from __future__ import annotations

import time

import pytest

from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.emulator.markdown import render_markdown
from driveshard.upload.dataset_folder.card import Card
from driveshard.upload.dataset_folder.contents import Contents


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a\nb", "<p>a b</p>"),
        ("# t\ntext", "<h2>t</h2>\n<p>text</p>"),
        ("text\n# t", "<p>text</p>\n<h2>t</h2>"),
        ("- `x`\n- y\n  more", "<ul><li><code>x</code></li><li>y more</li></ul>"),
        ("1. x\n2. y", "<ol><li>x</li><li>y</li></ol>"),
        ("```\n<a>\n\n- b\n```\nafter", "<pre>&lt;a&gt;\n\n- b</pre>\n<p>after</p>"),
        ("```sh\nx | y\n```", "<pre>x | y</pre>"),
        ("```\nnever closed", "<pre>never closed</pre>"),
        ("text\n\n    code\n\n    more\n\nafter", "<p>text</p>\n<pre>code\n\nmore</pre>\n<p>after</p>"),
        (
            "| a | b |\n|---|---|\n| `x|y` | **z** |\n| 1 |",
            "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody>"
            "<tr><td><code>x|y</code></td><td><strong>z</strong></td></tr><tr><td>1</td><td></td></tr></tbody></table>",
        ),
        ("a | b", "<p>a | b</p>"),
        ("> quoted\n> more", "<blockquote>quoted more</blockquote>"),
        ("---", "<hr>"),
        ("2 * 3 * 4 and *so*", "<p>2 * 3 * 4 and <em>so</em></p>"),
        ("[x](http://y/?a=1&b=2)", '<p><a href="http://y/?a=1&amp;b=2" rel="noreferrer">x</a></p>'),
        ("<https://y/>", '<p><a href="https://y/" rel="noreferrer">https://y/</a></p>'),
        ("[x](javascript:alert)", "<p>[x](javascript:alert)</p>"),
        ("![p](p.jpg) ![q](q.jpg)", '<p><img src="/uc?id=1&amp;x" alt="p"> ![q](q.jpg)</p>'),
        ("", ""),
    ],
)
def test_markdown(text: str, html: str) -> None:
    assert render_markdown(text, {"p.jpg": "/uc?id=1&x"}) == html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "# <img src=x onerror=alert(1)>",
        '[<b>](https://y/"onmouseover="x)',
        '![" onerror="x](p.jpg)',
        "| <i> |\n|---|\n| <i> |",
        "- <u>",
        "`<u>`",
        "> <u>",
        "**<u>**",
    ],
)
def test_nothing_of_it_is_believed(text: str) -> None:
    html = render_markdown(text, {"p.jpg": "/p"})
    for mark in ("<script", "<img src=x", "<b>", "<i>", "<u>", '"onmouseover', '" onerror="'):
        assert mark not in html


@pytest.mark.parametrize(
    "text", ["|" * 50_000, "`" * 50_000, "![" * 25_000, "*a" * 25_000, "[" * 50_000, "<http://" * 9_000]
)
def test_a_strangers_readme_takes_no_time(text: str) -> None:
    began = time.monotonic()
    render_markdown(f"{text}\n|---|")
    assert time.monotonic() - began < 5


def test_a_card_is_shown_as_it_is_meant() -> None:
    part = ManifestPart(0, "d-00000.zip", "i", 10, "m", "s" * 64, 1, 1, "a.jpg", "a.jpg")
    manifest = Manifest("d", "j", {}, 1, 1, (part,))
    contents = Contents("", 1, 1, {"jpg": [1, 10]}, {}, {"label": {"cat": 1}})
    card = Card(manifest, "https://drive.google.com/drive/folders/X?usp=sharing", "anyone", contents=contents)
    html = render_markdown(card.encode().decode())
    assert html.count("<table>") == 2 and html.count("<pre>") == 5 and "```" not in html and "**" not in html
    assert '<a href="https://drive.google.com/drive/folders/X?usp=sharing"' in html
    assert "<pre>pip install driveshard</pre>" in html and "<h3>Get it with driveshard</h3>" in html
    assert "<strong>label</strong>: <code>cat</code> 1" in html
