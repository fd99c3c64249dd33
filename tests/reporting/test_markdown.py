"""A model card as markup."""

from kerasemo.reporting.markdown import html_of_markdown


def test_a_card_is_markup():
    card = "---\nlicense: mit\n---\n# A\n\nOne\ntwo `x`.\n\n## B\n\n1. first\n   goes on\n2. second\n\n"
    card += "```\n<b>\n```\n| a | b |\n|---|--:|\n| 1 | 2 |\n"
    assert html_of_markdown(card) == (
        "<pre>license: mit</pre><h3>A</h3><p>One two <code>x</code>.</p><h4>B</h4><ol><li>first goes on</li><li>second</li></ol>"
        '<pre>&lt;b&gt;</pre><div class="wide"><table><thead><tr><th scope="col">a</th><th scope="col">b</th></tr></thead>'
        "<tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>"
    )
    assert (
        html_of_markdown("") == ""
        and html_of_markdown("```\nnever closed") == "<pre>never closed</pre>"
    )
