from collections.abc import Iterable, Mapping

import pytest

from cdl.errors import ConfigError
from cdl.jobs.closure import Closure, closure

FILES = {
    "data/__init__.py": "",
    "data/clean.py": "import re\nfrom . import words\nfrom lib.text import fold\n",
    "data/words.py": "import data.deep as d\n",
    "data/deep.py": "def late():\n    from lib import other\n",
    "data/unused.py": "x = 1\n",
    "lib/text.py": "import numpy\n",
    "lib/other.py": "",
    "tests/test_x.py": "import lib.text\n",
    "tool.sh": "echo\n",
    "words.txt": "a\n",
    "broken.py": "def (:\n",
}


def find(
    *entries: str | list[str], declared: tuple[str, ...] = (), section: object = None, files: Mapping[str, str] = FILES
) -> Closure:
    def cat(blobs: Iterable[str]) -> dict[str, bytes]:
        return {b: b.encode() for b in blobs}

    return closure(files, cat, list(entries), declared=declared, section=section)


def test_it_follows_imports_inside_the_project_only() -> None:
    found = set(find("data.clean:body").files)
    assert found == {
        "data/__init__.py",
        "data/clean.py",
        "data/words.py",
        "data/deep.py",
        "lib/text.py",
        "lib/other.py",
    }


def test_files_commands_and_declared_files() -> None:
    assert set(find("tests/test_x.py").files) == {"tests/test_x.py", "lib/text.py"}
    assert set(find(["sh", "tool.sh", "-x"], declared=("*.txt",)).files) == {"tool.sh", "words.txt"}


def test_its_id_changes_with_what_it_holds_and_with_nothing_else() -> None:
    first = find("data.clean:body").id
    assert find("data.clean:body", files=FILES | {"data/unused.py": "x = 2\n"}).id == first
    assert find("data.clean:body", files=FILES | {"lib/text.py": "import os\n"}).id != first
    assert find("data.clean:body", section={"a": 1}).id != first
    declared = find("data.clean:body", declared=("words.txt",)).id
    assert find("data.clean:body", declared=("words.txt",), files=FILES | {"words.txt": "b\n"}).id != declared


@pytest.mark.parametrize(
    ("entry", "declared", "where"),
    [
        ("data.claen:body", (), "cdl.yaml"),
        ("broken:x", (), "broken.py:1"),
        ("tool.py", (), "cdl.yaml"),
        ("tool.sh", ("*.csv",), "cdl.yaml: files"),
    ],
)
def test_what_is_missing_or_no_python_is_named(entry: str, declared: tuple[str, ...], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find(entry, declared=declared)
    assert caught.value.where == where
