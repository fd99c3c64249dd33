"""What a model card is written in -> markup: headings, paragraphs, lists, tables, code; everything else is text."""

import re
from collections.abc import Iterator

from pipelines.html.markup import escape

_FENCE, _RULE = "```", "---"
_ITEM = re.compile(r"\s*(?:[-*+]|(\d+)[.)])\s+(.*)")
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_SPAN = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\*([^*\s][^*]*)\*|\[([^\]]*)\]\(([^)\s]*)\)")
_DIVIDER = re.compile(r"[\s|:-]+")
HIGHEST, LOWEST = 3, 5
"""The levels of the headings: those of a page stand above."""


def rendered(text: str) -> str:
    """Return Markdown as markup that is safe whatever it says; addresses are shown, not linked.

    >>> rendered("# Limits\\n\\n- *all* **acted** speech, `a<b`\\n- see [it](x.html)\\n")
    '<h3>Limits</h3><ul><li><em>all</em> <b>acted</b> speech, <code>a&lt;b</code></li><li>see it (x.html)</li></ul>'
    """
    lines = text.splitlines()
    above = HIGHEST - min(
        (len(found[1]) for line in lines if (found := _HEADING.fullmatch(line))), default=1
    )
    return "".join(_blocks(lines, above))


def _blocks(lines: list[str], above: int) -> Iterator[str]:
    place = 0
    while place < len(lines):
        line, start = lines[place], place
        if line.startswith(_FENCE) or (
            place == 0 and line.strip() == _RULE
        ):  # code, or what hubs keep of a card at its head
            end = _FENCE if line.startswith(_FENCE) else _RULE
            place = (
                next(
                    (n for n in range(start + 1, len(lines)) if lines[n].strip() == end), len(lines)
                )
                + 1
            )
            yield f"<pre>{escape(chr(10).join(lines[start + 1 : place - 1]))}</pre>"
        elif heading := _HEADING.fullmatch(line):
            level = min(LOWEST, len(heading[1]) + above)
            yield f"<h{level}>{_inline(heading[2])}</h{level}>"
            place += 1
        elif line.lstrip().startswith("|"):
            place = _end(lines, place, lambda one: one.lstrip().startswith("|"))
            yield _rows(lines[start:place])
        elif item := _ITEM.fullmatch(line):
            place = _end(
                lines,
                place,
                lambda one: (
                    bool(_ITEM.fullmatch(one)) or (one.startswith("  ") and bool(one.strip()))
                ),
            )
            yield _items(lines[start:place], "ol" if item[1] else "ul")
        elif line.strip() and line.strip() != _RULE:
            place = _end(
                lines,
                place,
                lambda one: (
                    bool(one.strip())
                    and not one.startswith(("|", "#", _FENCE))
                    and not _ITEM.match(one)
                ),
            )
            yield f"<p>{_inline(' '.join(map(str.strip, lines[start:place])))}</p>"
        else:
            place += 1


def _end(lines: list[str], place: int, belongs) -> int:
    """Return where a block ends that has at least one line."""
    return next((n for n in range(place + 1, len(lines)) if not belongs(lines[n])), len(lines))


def _items(lines: list[str], kind: str) -> str:
    items: list[str] = []
    for line in lines:
        if found := _ITEM.fullmatch(line):
            items.append(found[2])
        else:
            items[-1] += " " + line.strip()
    return f"<{kind}>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</{kind}>"


def _rows(lines: list[str]) -> str:
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in lines
        if not _DIVIDER.fullmatch(line)
    ]
    head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in rows[0]) if rows else ""
    body = "".join(
        f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rows[1:]
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _inline(text: str) -> str:
    """Return a line with its spans of code, emphasis and addresses."""
    marked, done = "", 0
    for found in _SPAN.finditer(text):
        code, bold, slanted, name, address = found.groups()
        if code:
            span = f"<code>{escape(code)}</code>"
        elif bold or slanted:
            span = f"<b>{_inline(bold)}</b>" if bold else f"<em>{_inline(slanted)}</em>"
        else:
            span = escape(f"{name} ({address})")
        marked += escape(text[done : found.start()]) + span
        done = found.end()
    return marked + escape(text[done:])
