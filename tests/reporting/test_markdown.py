"""A model card as markup."""

import re

from kerasemo.reporting.markdown import html_of_markdown


def test_a_card_is_markup():
    card = "---\nlicense: mit\n---\n# A\n\nOne\ntwo `x`.\n\n## B\n\n1. first\n   goes on\n2. second\n\n"
    card += "```\n<b>\n```\n| a | b |\n|---|--:|\n| 1 | 2 |\n"
    html = re.sub(r"\s*\n\s*", " ", html_of_markdown(card))
    for expected in (
        "<pre>license: mit</pre>",
        "<h3>A</h3>",
        "<p>One two <code>x</code>.</p>",
        "<h4>B</h4>",
        "<pre><code>&lt;b&gt; </code></pre>",
        '<div class="wide"',
        "<td>1</td>",
    ):
        assert expected in html, html
    assert html.count("<li>") == 2
    assert "first goes on" in html and "second" in html
    assert html_of_markdown("") == ""
    assert "never closed" in html_of_markdown("```\nnever closed")


def test_markup_in_a_card_is_text():
    assert "<script" not in html_of_markdown("a <script>alert(1)</script> [x](javascript:alert)")
