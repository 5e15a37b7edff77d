"""Makes project.tar.gz: a project and its `.cdl` as an earlier version of the code left them.

    git worktree add /tmp/before ca29161
    PYTHONPATH=/tmp/before/src:/tmp/before python tests/old/make.py tests/old/project.tar.gz

It holds a bundle of the repository and the folder `.cdl`; the key is the one that all toy projects have.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from cdl.model.evaluate import evaluate
from tests.projects import DATA, make_toy, table


def main(out: Path) -> None:
    """Writes the archive."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        root = Path(name)
        toy = make_toy(root / "toy", patch, root / "keyring", roles=True)
        toy.data(table(40))
        model = toy.model()
        evaluate(toy.become(DATA), model)
        toy.become(DATA).git.run("switch", "--quiet", "main")
        toy.become(DATA).journal.index.close()
        bundle = ["git", "-C", str(toy.root), "bundle", "create", "--quiet", str(root / "repository.bundle"), "--all"]
        subprocess.run(bundle, check=True)
        with tarfile.open(out, "w:gz") as archive:
            for path, into in ((root / "repository.bundle", "repository.bundle"), (toy.root / ".cdl", ".cdl")):
                archive.add(path, into, filter=nobody)


def nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member without who made it and when."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]))
