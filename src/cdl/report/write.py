"""Where pages are written: a folder that git ignores, one file a page."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from cdl.report.html import html
from cdl.report.markdown import markdown
from cdl.report.page import Page
from cdl.report.text import file_name

Form = Literal["html", "md"]


def text_of(page: Page, form: Form = "html", *, there: Collection[str] = ()) -> str:
    """A page in a form. It links to those pages of its folder that are `there`."""
    linked = frozenset(there)
    return html(page, linked) if form == "html" else markdown(page, linked)


def write(page: Page, folder: Path, *, form: Form = "html", beside: Collection[str] = ()) -> Path:
    """Writes a page into a folder; the file. It links to the pages that lie there, and to those written `beside` it."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.stem for path in folder.glob(f"*.{form}")} | {file_name(name) for name in beside}
    target = folder / f"{file_name(page.name)}.{form}"
    target.write_text(text_of(page, form, there=there), encoding="utf-8")
    return target
