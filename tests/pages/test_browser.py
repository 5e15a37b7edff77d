"""Pages in a real browser: nothing hangs over the side at any width, no label lies on another, and it loads nothing else.

Needs Chromium (Debian: `apt-get install chromium`); without it these tests are skipped and say so.
"""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from cdl.pages.overview import write_all
from cdl.report import chart
from cdl.report.html import POLICY
from cdl.report.matrix import matrix
from cdl.report.page import Estimate, Page
from cdl.report.write import text_of
from tests.pages.project import Whole
from tests.projects import REVIEW

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS = 60
SLACK = 2  # pixels that two labels may touch by
LONG = [f"a rather long name of the class number {i}" for i in range(17)]
LOOK = """<script>
const boxes = [...document.querySelectorAll('svg')].map(svg => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter(t => !t.closest('g'));
  return {frame: [frame.left, frame.top, frame.right, frame.bottom], name: svg.getAttribute('aria-label'),
    texts: texts.map(t => {const b = t.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom, t.textContent]})};
});
const root = document.documentElement;
parent.document.title = JSON.stringify({wide: root.scrollWidth, room: root.clientWidth, inner: window.innerWidth, boxes,
  paper: getComputedStyle(document.body).backgroundColor, loaded: performance.getEntriesByType('resource').length});
</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")


def chromium(folder: Path, *options: str) -> str:
    """What a headless browser prints. It has a folder of its own and asks for nothing in the background."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--disable-component-update", "--no-first-run", f"--user-data-dir={folder / 'profile'}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout


def looked(folder: Path, html: str, width: int, *options: str) -> dict[str, object]:
    """A page as the browser lays it out in a frame; a copy of it that may run one script of ours, which measures."""
    assert POLICY in html
    measured = html.replace(POLICY, f"{POLICY}; script-src 'unsafe-inline'").replace("</body>", LOOK + "</body>")
    page = folder / "page.html"
    page.write_text(
        f'<body><iframe style="border:0;width:{width}px;height:3000px" srcdoc="{escape(measured)}"></iframe></body>'
    )
    said = chromium(folder, "--window-size=1400,3000", *options, "--dump-dom", page.as_uri())
    title = re.search(r"<title>(.*?)</title>", said, re.DOTALL)
    assert title is not None
    found: dict[str, object] = json.loads(unescape(title[1]))
    return found


def overlaps(found: dict[str, object]) -> list[tuple[str, str, str]]:
    """Labels of a chart that lie on one another or outside of it: (chart, label, label)."""
    wrong = []
    for chart_ in found["boxes"]:  # type: ignore[attr-defined]
        left, top, right, bottom = chart_["frame"]
        texts = chart_["texts"]
        for i, (a, b, c, d, text) in enumerate(texts):
            if a < left - SLACK or c > right + SLACK or b < top - SLACK or d > bottom + SLACK:
                wrong.append((chart_["name"], text, "the frame"))
            for e, f, g, h, other in texts[i + 1 :]:
                if min(c, g) - max(a, e) > SLACK and min(d, h) - max(b, f) > SLACK + 1:
                    wrong.append((chart_["name"], text, other))
    return wrong


def gallery() -> str:
    """Every kind of chart with much in it."""
    page = Page(name="gallery", title="gallery " + "x" * 300)
    values = {name: Estimate(0.5 + i / 40, 0.4 + i / 40, 0.55 + i / 40) for i, name in enumerate(LONG)}
    curves = {name: [(float(a), i + a / 7) for a in range(1, 31)] for i, name in enumerate(LONG)}
    counts = [[90 if i == j else (i * j) % 5 for j in range(len(LONG))] for i in range(len(LONG))]
    section = page.section("charts")
    section.figures(
        chart.bars("bars", {n: 10.0**i for i, n in enumerate(LONG[:9])}),
        chart.estimates("estimates", values, against={LONG[0]: 0.6}, against_name=LONG[1]),
    )
    section.figures(
        chart.lines("few", dict(list(curves.items())[:7]), x="epoch", limits={"a limit with a long name": 9})
    )
    section.figures(
        chart.lines("many", curves, x="epoch", first=LONG),
        chart.histogram("sizes", [1.5**i for i in range(60)], unit="bytes"),
    )
    section.figures(
        chart.scatter(
            "points", [(10.0 ** -(i % 6), i / 9, n) for i, n in enumerate(LONG)], x="rate", y="accuracy", best=LONG[3]
        )
    )
    section.figures(matrix("matrix", LONG, counts), matrix("two", ["left", "right"], [[120_000, 3], [4, 90_000]]))
    section.table(LONG, [[name * 2 for name in LONG]]).listing("code", "+" + "x" * 900)
    section.facts({"y" * 200: "z" * 400})
    return text_of(page)


@pytest.mark.parametrize("width", [400, 1200])
def test_no_label_of_any_chart_lies_on_another_and_nothing_hangs_over_the_side(tmp_path: Path, width: int) -> None:
    found = looked(tmp_path, gallery(), width)
    assert len(found["boxes"]) == 8 and found["inner"] == width  # type: ignore[arg-type]
    assert overlaps(found) == []
    assert found["wide"] == found["room"] and found["loaded"] == 0


def test_every_page_of_a_project_fits_a_telephone(whole: Whole, tmp_path: Path) -> None:
    for path in write_all(whole.toy.become(REVIEW)):
        found = looked(tmp_path, path.read_text(), 400)
        assert found["wide"] == found["room"], path.name
        assert overlaps(found) == [] and found["loaded"] == 0, path.name


def test_light_and_dark(tmp_path: Path) -> None:
    light = looked(tmp_path, gallery(), 1200, "--blink-settings=preferredColorScheme=1")
    dark = looked(tmp_path, gallery(), 1200, "--blink-settings=preferredColorScheme=0")
    assert light["paper"] == "rgb(255, 255, 255)" and dark["paper"] == "rgb(21, 24, 28)"


def test_a_page_prints(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(gallery())
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}", page.as_uri())
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
