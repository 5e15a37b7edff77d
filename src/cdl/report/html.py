"""Writes a page as HTML: one file with all that it needs, no script, nothing from outside; it forbids itself both."""

import base64
from html import escape

from cdl.report.page import (
    Cell,
    Code,
    Figure,
    Figures,
    Fixed,
    Link,
    Listing,
    Mark,
    Notice,
    Page,
    Part,
    Pictures,
    Several,
    Table,
    Text,
    plain,
)
from cdl.report.text import file_name, visible

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
PICTURE = 56  # pixels of an example
LONG_HEAD = 16  # characters of a column's name that may take several lines
NAVIGATED = 3  # sections from which on the page lists them
STYLE = """
:root{color-scheme:light dark;--text:#1c1f23;--soft:#5b636d;--line:#dcdfe3;--paper:#fff;--band:#f5f6f8;--accent:#0b62a8;
--good:#00714d;--bad:#b3261e;--warn:#8a5300;--add:#e2f4e8;--cut:#fbe6e4}
@media(prefers-color-scheme:dark){:root{--text:#e6e8eb;--soft:#a2aab4;--line:#363b42;--paper:#15181c;--band:#1e2227;
--accent:#6cb6f5;--good:#4cc38a;--bad:#ff8a80;--warn:#f0b44c;--add:#123524;--cut:#45201d}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--text);background:var(--paper);max-width:72rem;
margin:0 auto;padding:1.5rem clamp(.8rem,3vw,2rem) 3rem;overflow-wrap:anywhere}
h1{font-size:1.55rem;line-height:1.25;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .5rem;padding-top:.8rem;
border-top:1px solid var(--line)}p{margin:.5rem 0;max-width:46rem}.soft,.subtitle,footer{color:var(--soft)}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.warn{color:var(--warn)}
a{color:var(--accent)}nav{margin:1rem 0 0;font-size:.92rem}nav a{margin-right:.9rem;display:inline-block}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--band);padding:.05em .3em;border-radius:3px}
.notice{margin:1rem 0 0;padding:.6rem .9rem;background:var(--band);border-left:4px solid var(--soft);border-radius:3px}
.notice.good{border-color:var(--good)}.notice.bad{border-color:var(--bad)}.notice.warn{border-color:var(--warn)}
.notice,.notice.bad{font-weight:400;color:var(--text)}.notice p{margin:0;max-width:none}
.notice code{display:inline-block;margin:.35rem .5rem 0 0}
.scroll{overflow-x:auto;margin:.6rem 0;background:
linear-gradient(to right,var(--paper) 40%,transparent) 0/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--paper) 40%,transparent) 100%/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--line),transparent) 100%/.8rem 100% no-repeat}table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.28rem .95rem .28rem 0;border-bottom:1px solid var(--line);
font-variant-numeric:tabular-nums;overflow-wrap:normal;white-space:nowrap}th{color:var(--soft);font-weight:600}
thead th{white-space:normal;vertical-align:bottom}thead th.t{min-width:8rem}td.n,th.n{text-align:right}
table.facts th{font-weight:400}table.facts td,td.t{white-space:normal;overflow-wrap:anywhere}td.t{min-width:11rem;max-width:36rem}
@media(max-width:40rem){table.facts th{white-space:normal;min-width:6rem}}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1rem 2rem;margin:.8rem 0}
figure{margin:0;min-width:0}figcaption{font-weight:600}figure .note{font-size:.9rem;color:var(--soft);margin:.1rem 0}
svg{display:block;max-width:100%;height:auto;margin:.25rem 0}svg text{fill:var(--text);font:12px system-ui,sans-serif}
svg .soft{fill:var(--soft)}svg .grid{stroke:var(--line)}svg .whisker{stroke:var(--text);stroke-width:1.6}
svg .limit{stroke:#d55e00;stroke-dasharray:5 4}svg .back{stroke:var(--soft);opacity:.45}
details{margin:.3rem 0}summary{cursor:pointer;color:var(--soft);font-size:.9rem}
pre{font:12.5px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--band);padding:.7rem;overflow-x:auto;
border-radius:3px;margin:.5rem 0;overflow-wrap:normal}pre span{display:block;min-height:1.45em}
pre .add{background:var(--add)}pre .cut{background:var(--cut)}pre .head{color:var(--soft)}
.pictures{display:flex;flex-wrap:wrap;gap:.6rem;margin:.6rem 0}.pictures figure{text-align:center;font-size:12px}
.pictures img{image-rendering:pixelated;border:1px solid var(--line);display:block}.pictures figcaption{font-weight:400}
footer{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:.6rem;font-size:.88rem}
@media print{:root{color-scheme:light;
--text:#000;--soft:#444;--line:#bbb;--paper:#fff;--band:#f3f3f3;--good:#005c3e;--bad:#9a1b14;
--warn:#6d4200;--add:#e2f4e8;--cut:#fbe6e4}body{max-width:none;padding:0;font-size:11pt}nav{display:none}
details:not([open]){display:none}figure,tr,.notice{break-inside:avoid}h2{break-after:avoid}pre{white-space:pre-wrap}.scroll{overflow:visible}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def html(page: Page, linked: frozenset[str] = frozenset()) -> str:
    """The whole page."""
    sections = page.written()
    links = "".join(f'<a href="#s{i}">{_text(s.title)}</a> ' for i, s in enumerate(sections))
    body = [f"<header><h1>{_text(page.title)}</h1>"]
    if page.subtitle:
        body.append(f'<p class="subtitle">{_text(page.subtitle)}</p>')
    body += [_notice(notice) for notice in page.notices]
    body.append(f"<nav>{links}</nav></header><main>" if len(sections) >= NAVIGATED else "</header><main>")
    for i, section in enumerate(sections):
        parts = "".join(_part(linked, part) for part in section.parts)
        body.append(f'<section><h2 id="s{i}">{_text(section.title)}</h2>{parts}</section>')
    body.append("</main>")
    if page.made:
        body.append(f"<footer>{_text(page.made)}</footer>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
        '<meta name="referrer" content="no-referrer"/>'
        f"<title>{_text(page.title)}</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _notice(notice: Notice) -> str:
    commands = "".join(f"<code>{_text(c)}</code>" for c in notice.commands)
    return f'<div class="notice {notice.tone}"><p>{_text(notice.text)}</p>{commands}</div>'


def _part(linked: frozenset[str], part: Part) -> str:
    match part:
        case Text():
            return f"<p>{cell(linked, part.cell)}</p>"
        case Table():
            return _table(linked, part)
        case Figures():
            return f'<div class="figures">{"".join(_figure(linked, f) for f in part.figures)}</div>'
        case Pictures():
            return f'<div class="pictures">{"".join(_picture(*p) for p in part.pictures)}</div>'
        case Listing():
            return _listing(part)


def cell(linked: frozenset[str], value: Cell) -> str:
    """A cell in a line."""
    match value:
        case Link() if file_name(value.page) in linked:
            return f'<a href="{escape(file_name(value.page), quote=True)}.html">{_text(value.text)}</a>'
        case Code() | Link():
            return f"<code>{_text(value.text)}</code>"
        case Mark(text, tone) if tone != "plain":
            return f'<span class="{tone}">{_text(text)}</span>'
        case Several():
            return ", ".join(cell(linked, c) for c in value.cells)
        case None:
            return '<span class="soft">–</span>'
    return _text(plain(value))


def _table(linked: frozenset[str], table: Table) -> str:
    if not table.columns:
        rows = "".join(
            f"<tr><th>{cell(linked, row[0])}</th>{''.join(_data(linked, c) for c in row[1:])}</tr>"
            for row in table.rows
        )
        return f'<div class="scroll"><table class="facts">{rows}</table></div>'
    right = [all(_counts(row[i]) for row in table.rows) for i in range(len(table.columns))]
    head = "".join(f"<th{_head(c, r)}>{_breakable(c)}</th>" for c, r in zip(table.columns, right, strict=True))
    rows = "".join(
        "<tr>" + "".join(_data(linked, c, r) for c, r in zip(row, right, strict=True)) + "</tr>" for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _data(linked: frozenset[str], value: Cell, right: bool = False) -> str:
    long = ' class="t"' if len(plain(value)) > 40 else ""
    return f"<td{_n(right) or long}>{cell(linked, value)}</td>"


def _counts(value: Cell) -> bool:
    """Whether a cell is a plain number, which stands at the right."""
    return value is None or (isinstance(value, int | float | Fixed) and not isinstance(value, bool))


def _breakable(name: str) -> str:
    """A column's name, which may break after a dot or an underscore."""
    return _text(name).replace(".", ".<wbr/>").replace("_", "_<wbr/>")


def _head(name: str, right: bool) -> str:
    found = (["n"] if right else []) + (["t"] if len(name) > LONG_HEAD else [])
    return f' class="{" ".join(found)}"' if found else ""


def _n(right: bool) -> str:
    return ' class="n"' if right else ""


def _figure(linked: frozenset[str], figure: Figure) -> str:
    note = f'<p class="note">{_text(figure.note)}</p>' if figure.note else ""
    told = (
        f"<details><summary>as a table</summary>{_table(linked, figure.table)}</details>" if figure.table.rows else ""
    )
    return f"<figure><figcaption>{_text(figure.title)}</figcaption>{note}{figure.svg}{told}</figure>"


def _picture(caption: str, data: bytes) -> str:
    name, coded = escape(visible(caption), quote=True), base64.b64encode(data).decode()
    source = f'src="data:image/png;base64,{coded}"'
    return f'<figure><img width="{PICTURE}" height="{PICTURE}" alt="{name}" {source}/><figcaption>{name}</figcaption></figure>'


def _listing(listing: Listing) -> str:
    lines = "".join(f"<span{_line_class(line)}>{_text(line)}</span>" for line in listing.text.split("\n"))
    return f"<details open><summary>{_text(listing.title)}</summary><pre>{lines}</pre></details>"


def _line_class(line: str) -> str:
    if line.startswith(("+++", "---", "diff ", "index ", "@@", "new file", "deleted file")):
        return ' class="head"'
    return ' class="add"' if line.startswith("+") else ' class="cut"' if line.startswith("-") else ""


def _text(text: str) -> str:
    return escape(visible(text), quote=True)
