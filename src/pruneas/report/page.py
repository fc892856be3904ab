"""One HTML file that needs nothing else: no script, nothing fetched, its style inside; for a screen, a phone and paper.

A browser is told the same: the page's policy forbids scripts and whatever would have to be fetched.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import quote

from pruneas.report.figures import Figure, Grids, Line, Rows
from pruneas.report.markup import Markup, joined, tag
from pruneas.report.svg import DARK, LIGHT, STYLE, draw

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, *parts: str) -> str:
    """The whole document."""
    style = Markup(f":root {{ {LIGHT} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}\n")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style, Markup(STYLE + _STYLE)),
    )
    body = tag("body", tag("main", *parts))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def section(title: str, *parts: str) -> Markup:
    return tag("section", tag("h2", title), *parts)


def paragraph(*parts: str, kind: str | None = None) -> Markup:
    return tag("p", *parts, class_=kind)


def figures(*shown: Figure) -> Markup:
    """Figures side by side where there is room."""
    return tag("div", *map(figure, shown), class_="figures")


def figure(shown: Figure) -> Markup:
    """A title, the drawing, what it says, and its values as text, which every reader and every phone can get at."""
    tips = _tips(shown)
    values = tag("details", tag("summary", f"{len(tips)} values"), tag("ul", *(tag("li", tip) for tip in tips)))
    drawings = tag("div", *draw(shown), class_="drawings")
    caption = tag("figcaption", shown.caption)
    return tag("figure", tag("h3", shown.title), drawings, caption, *([values] if tips else []))


def _tips(shown: Figure) -> list[str]:
    if isinstance(shown, Rows):
        return [tip for row in shown.rows for tip in [row.tip] * row.is_drawn + [tick.tip for tick in row.ticks]]
    if isinstance(shown, Grids):
        return [tip for grid in shown.grids for tip in grid.tips]
    series = ([each.tip] if isinstance(each, Line) else [mark.tip for mark in each.marks] for each in shown.series)
    return [tip for tips in series for tip in tips]


def unbroken(*parts: str) -> Markup:
    """Parts of a cell that end no line within themselves."""
    return tag("span", joined([tag("span", part, class_="unbroken") for part in parts], " "))


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, strong: Collection[int] = (), dense: bool = False
) -> Markup:
    """A table, on a phone a list of cards. Cells are text or markup; the rows with a number in `strong` are set off.

    `dense`: one of many columns, smaller, in which only names are broken where they have no space.
    """
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in columns)))
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, data_label=name) for name, cell in zip(columns[1:], row[1:], strict=True)),
            class_="strong" if index in strong else None,
        )
        for index, row in enumerate(rows)
    ]
    return tag("table", head, tag("tbody", *body), class_="cards dense" if dense else "cards")


def facts(pairs: Sequence[tuple[str, str]]) -> Markup:
    """Names and what belongs to them, below one another."""
    return tag("dl", *(part for name, text in pairs for part in (tag("dt", name), tag("dd", text))))


def link(to: str, text: str) -> Markup:
    """A link to a file, by its path from the page's folder; on paper it is its text alone."""
    return tag("a", text, href=quote(to))


def code(text: str) -> Markup:
    return tag("pre", tag("code", text))


def folded(summary: str, *parts: str, is_printed: bool = False) -> Markup:
    """Parts that are shown when they are asked for, and on paper where `is_printed` says so."""
    return tag("details", tag("summary", summary), *parts, class_="printed" if is_printed else None)


def listing(items: Sequence[str]) -> Markup:
    return tag("ul", *(tag("li", item) for item in items))


def tiles(shown: Sequence[tuple[str, str, str]]) -> Markup:
    """The few numbers that matter: what it is, the number, and what it is held against."""
    return tag(
        "div",
        *(
            tag("div", tag("span", name, class_="name"), tag("strong", value), tag("span", note, class_="note"))
            for name, value, note in shown
        ),
        class_="tiles",
    )


_STYLE = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 64px; }
.kicker { margin: 0; color: var(--muted); font-size: .85rem; overflow-wrap: anywhere; }
h1 { margin: .3rem 0 .6rem; font-size: clamp(1.2rem, 1rem + .8vw, 1.5rem); line-height: 1.35; letter-spacing: -.005em;
  max-width: 42em; overflow-wrap: anywhere; }
h2 { margin: 0 0 .6rem; font-size: 1.25rem; }
h3 { margin: 0 0 .5rem; font-size: 1rem; }
section { margin-top: 2.6rem; padding-top: 1.2rem; border-top: 1px solid var(--rule); }
p { margin: .5rem 0; max-width: 46em; }
.muted, figcaption, .note { color: var(--muted); font-size: .88rem; }
.warning { border-left: 4px solid var(--failed); padding: .5rem .8rem; background: var(--panel); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin: 1.2rem 0 0; }
.tiles > div { background: var(--panel); border-radius: 8px; padding: 12px 14px; display: flex;
  flex-direction: column; }
.tiles .name { color: var(--muted); font-size: .85rem; }
.tiles strong { font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 28px 40px;
  align-items: start; margin: 1rem 0; }
figure { margin: 0; min-width: 0; max-width: 580px; }
figcaption { margin-top: .4rem; }
details { margin: .4rem 0; font-size: .88rem; }
summary { cursor: pointer; color: var(--muted); }
details ul { max-height: 18rem; overflow: auto; }
ul { padding-left: 1.2rem; margin: .4rem 0; }
li { overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-variant-numeric: tabular-nums;
  font-size: .94rem; }
th, td { text-align: left; padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--rule); vertical-align: top;
  overflow-wrap: anywhere; }
thead th { color: var(--muted); font-weight: 600; font-size: .85rem; overflow-wrap: normal; }
tbody th { font-weight: 600; }
table.dense { font-size: .88rem; line-height: 1.4; }
table.dense td { overflow-wrap: normal; }
.unbroken { white-space: nowrap; }
tr.strong > * { background: var(--panel); font-weight: 700; }
tr.strong > th { box-shadow: inset 4px 0 0 var(--winner); padding-left: 12px; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.2rem; margin: .8rem 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--panel); border-radius: 8px; padding: 12px 14px; overflow-x: auto; font-size: .88rem;
  line-height: 1.45; }
a { color: inherit; text-underline-offset: .15em; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
footer { margin-top: 3rem; color: var(--muted); font-size: .85rem; }
@media screen and (max-width: 620px) {
  main { padding: 18px 16px 48px; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  table.cards thead { display: none; }
  table.cards tr { display: block; padding: .7rem 0; border-bottom: 1px solid var(--rule); }
  table.cards th, table.cards td { display: flex; justify-content: space-between; gap: 1rem; border: 0;
    padding: .12rem 0; text-align: right; }
  table.cards tbody th { font-size: 1.02rem; }
  table.cards td::before { content: attr(data-label); color: var(--muted); font-weight: 400; text-align: left; }
  table.cards td:empty { display: none; }
  table.cards tr.strong { background: var(--panel); box-shadow: inset 4px 0 0 var(--winner); padding: .7rem 12px; }
  tr.strong > th { box-shadow: none; padding-left: 0; }
}
@media print {
  @page { margin: 14mm; }
  html, body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  section { margin-top: 1.4rem; }
  h2, h3 { break-after: avoid; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
  .tiles strong { font-size: 1.15rem; }
  table { font-size: 8.8pt; }
  table.dense { font-size: 8pt; }
  thead th { font-size: inherit; }
  th, td { padding: .25rem .6rem .25rem 0; }
  figure, svg, tr, pre, .tiles { break-inside: avoid; }
  .figures { grid-template-columns: 1fr 1fr; gap: 18px 28px; }
  details:not([open], .printed) { display: none; }
  details.printed::details-content { content-visibility: visible; }
  pre { white-space: pre-wrap; }
  a { text-decoration: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
