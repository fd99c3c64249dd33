"""Markdown, such as a model card, becomes safe HTML."""

import re

import pytest

from kerasemo.reporting.markdown import html_of_markdown


def without_line_breaks(markup: str) -> str:
    return re.sub(r"\n(?=<|$)|(?<=>)\n", "", markup).replace("\n", " ")


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("---\nlicense: mit\n---\n# A", "<pre>license: mit</pre><h3>A</h3>"),
        ("# A\n\n## B", "<h3>A</h3><h4>B</h4>"),
        ("One\ntwo `x`.", "<p>One two <code>x</code>.</p>"),
        (
            "1. first\n   goes on\n2. second",
            "<ol><li>first goes on</li><li>second</li></ol>",
        ),
        ("```\n<b>\n```", "<pre><code>&lt;b&gt;</code></pre>"),
        ("```\nnever closed", "<pre><code>never closed</code></pre>"),
        (
            "| a | b |\n|---|--:|\n| 1 | 2 |",
            '<div class="wide"><table><thead><tr><th scope="col">a</th>'
            '<th style="text-align:right" scope="col">b</th></tr></thead><tbody><tr><td>1</td>'
            '<td style="text-align:right">2</td></tr></tbody></table></div>',
        ),
        ("", ""),
        ("[x](javascript:alert(1)) [y](a.html)", "<p>[x](javascript:alert(1)) y (a.html)</p>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("![a picture](b.png)", "<p>a picture (b.png)</p>"),
    ],
)
def test_markdown_becomes_html(markdown, expected):
    assert without_line_breaks(html_of_markdown(markdown)) == expected
