"""One HTML page: headings, text, facts, tables, figures. It needs no script and nothing from outside, and allows neither."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root{color-scheme:light dark;--text:#1b1b1b;--soft:#5c5c5c;--line:#d8d8d8;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--text:#e8e8e8;--soft:#a8a8a8;--line:#3c3c3c;--paper:#161616}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;margin:.5rem 0;display:block;overflow-x:auto}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:600}svg{display:block;max-width:100%;height:auto;margin:.75rem 0}
svg text{fill:var(--text);font:11px system-ui,sans-serif}svg text.title{font-weight:600;font-size:13px}
svg .grid{stroke:var(--line)}svg .whisker{stroke:var(--text);stroke-width:2}svg .limit{stroke:#d55e00;stroke-dasharray:5 4}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(24rem,1fr));gap:0 1rem}
.thumbnails{display:flex;flex-wrap:wrap;gap:.5rem}.thumbnails figure{margin:0;text-align:center;font-size:11px}
.thumbnails img{image-rendering:pixelated;border:1px solid var(--line)}.good{color:#007a53}.bad{color:#c23b00;font-weight:600}
"""


class Page:
    """A page in the making; its parts appear in the order they are added."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = []

    def heading(self, text: str) -> "Page":
        """A section begins."""
        self._parts.append(f"<h2>{escape(text)}</h2>")
        return self

    def text(self, text: str) -> "Page":
        """A paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")
        return self

    def facts(self, facts: Mapping[str, Any]) -> "Page":
        """Names and values, one a line."""
        rows = "".join(f"<tr><th>{escape(k)}</th><td>{_cell(v)}</td></tr>" for k, v in facts.items())
        self._parts.append(f"<table>{rows}</table>")
        return self

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> "Page":
        """Rows under a header."""
        head = "".join(f"<th>{escape(c)}</th>" for c in columns)
        body = "".join("<tr>" + "".join(f"<td>{_cell(row.get(c))}</td>" for c in columns) + "</tr>" for row in rows)
        self._parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        return self

    def figures(self, *markups: str) -> "Page":
        """What cdl.report.chart made, side by side where there is room."""
        self._parts.append(f'<div class="figures">{"".join(markups)}</div>')
        return self

    def thumbnails(self, markup: str) -> "Page":
        """Small pictures, over the whole width."""
        self._parts.append(markup)
        return self

    def html(self) -> bytes:
        """The whole page, UTF-8."""
        title = escape(self.title)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"/>'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>'
            '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
            f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>{''.join(self._parts)}</body></html>"
        ).encode()


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if value is True:
        return '<span class="good">held</span>'
    if value is False:
        return '<span class="bad">not held</span>'
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(str(value))
