"""Markdown, such as a model card, as HTML that is safe on a page, whatever the text says."""

from markdown_it import MarkdownIt
from markdown_it.token import Token

from pipelines.html.markup import escape

HIGHEST_HEADING, LOWEST_HEADING = 3, 5
"""The levels of the headings; the headings of the page are above."""

_FRONT_MATTER = "---"


def html_of_markdown(text: str) -> str:
    r"""Return Markdown as HTML. HTML in the text is shown as text; addresses are shown, not linked.

    The highest heading of the text becomes `<h3>`. A head between lines `---` (the metadata of a
    model card) is shown as it is.

    >>> print(html_of_markdown("# Limits\n\n*All* speech is **acted**, `a<b`; see [it](x.html)."))
    <h3>Limits</h3>
    <p><em>All</em> speech is <strong>acted</strong>, <code>a&lt;b</code>; see it (x.html).</p>
    """
    front_matter, body = _split_front_matter(text)
    parser = MarkdownIt("js-default")
    tokens = parser.parse(body)
    headings = [int(token.tag[1]) for token in tokens if token.type == "heading_open"]
    shift = HIGHEST_HEADING - min(headings, default=1)
    rendered: list[Token] = []
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(LOWEST_HEADING, int(token.tag[1]) + shift)}"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        elif token.type == "inline":
            token.children = _without_links(token.children or [])
        if token.type == "table_open":
            rendered.append(Token("wide_open", "div", 1, attrs={"class": "wide"}, block=True))
        rendered.append(token)
        if token.type == "table_close":
            rendered.append(Token("wide_close", "div", -1, block=True))
    body_html = parser.renderer.render(rendered, parser.options, {})
    return (f"<pre>{escape(front_matter)}</pre>\n" if front_matter else "") + body_html.rstrip("\n")


def _split_front_matter(text: str) -> tuple[str, str]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != _FRONT_MATTER:
        return "", text
    for number, line in enumerate(lines[1:], start=1):
        if line.strip() == _FRONT_MATTER:
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :])
    return "", text


def _without_links(tokens: list[Token]) -> list[Token]:
    """Return inline tokens with the address of each link and image as text."""
    plain: list[Token] = []
    addresses: list[str] = []
    for token in tokens:
        if token.type == "link_open":
            addresses.append(str(token.attrGet("href")))
        elif token.type == "link_close":
            plain.append(_text_token(f" ({addresses.pop()})"))
        elif token.type == "image":
            plain.append(_text_token(f"{token.content} ({token.attrGet('src')})"))
        else:
            plain.append(token)
    return plain


def _text_token(text: str) -> Token:
    token = Token("text", "", 0)
    token.content = text
    return token
