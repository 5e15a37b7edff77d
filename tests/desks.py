"""A team: people with keyrings of their own, each in a clone of one bare remote that plain git made.

What `cdl sync` would bring stands in for it: `git fetch`, `git push`, and one folder that all clones have as their store.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from cdl.git.repository import Git
from cdl.identity import Identity
from cdl.sharing.trust import Trusted, note
from cdl.workflow.workspace import Workspace
from tests.projects import DATA, Toy, make_toy


class Desk(Toy):
    """One person's clone, keyring and identity."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, email: str, home: Path) -> None:
        super().__init__(root, monkeypatch)
        self.email = email
        self.home = home

    def sign(self, email: str) -> None:
        """What follows is done by somebody, with the keyring of this desk."""
        super().sign(email)
        self._patch.setenv("CDL_KEYRING", str(self.home / "keyring"))
        self._patch.setenv("CDL_IDENTITY", str(self.home / "identity"))

    def me(self) -> Workspace:
        """The project as this desk's person opens it."""
        return self.become(self.email)

    def type(self, *arguments: str, given: str = "") -> str:
        """A command of this desk's person; what it prints."""
        return self.cdl(self.email, *arguments, given=given)

    @property
    def public(self) -> str:
        """The person's public key."""
        return Identity(self.home / "identity").public

    def push(self) -> None:
        """Sends every branch and own ref."""
        git(self.root, "push", "--quiet", "origin", "refs/heads/*:refs/heads/*", "refs/cdl/*:refs/cdl/*")

    def pull(self) -> None:
        """Takes every own ref, and the integration branch forward where it is checked out."""
        git(self.root, "fetch", "--quiet", "origin", "refs/heads/*:refs/remotes/origin/*", "refs/cdl/*:refs/cdl/*")
        git(self.root, "merge", "--quiet", "--ff-only", "origin/main")


class Team:
    """A bare remote, and the desk of whoever made the project."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, roles: bool = True) -> None:
        self.folder = folder
        self.patch = monkeypatch
        home = folder / "homes" / DATA
        made = make_toy(folder / "first", monkeypatch, home / "keyring", roles=roles)
        self.first = Desk(made.root, monkeypatch, DATA, home)
        self.remote, self.store = folder / "remote.git", folder / "store"
        git(folder, "clone", "--quiet", "--bare", str(made.root), str(self.remote))
        git(made.root, "remote", "add", "origin", str(self.remote))
        self._share(made.root)

    def desk(self, email: str) -> Desk:
        """Somebody's clone, made now."""
        root, home = self.folder / "desks" / email, self.folder / "homes" / email
        home.mkdir(parents=True)
        git(self.folder, "clone", "--quiet", str(self.remote), str(root))
        git(root, "fetch", "--quiet", "origin", "refs/cdl/*:refs/cdl/*")
        self._share(root)
        note(Git(root), Trusted(code=True))
        return Desk(root, self.patch, email, home)

    def _share(self, root: Path) -> None:
        own = root / ".cdl/store"
        if own.is_dir():
            shutil.copytree(own, self.store, dirs_exist_ok=True)
            shutil.rmtree(own)
        self.store.mkdir(exist_ok=True)
        own.parent.mkdir(exist_ok=True)
        own.symlink_to(self.store)


def git(folder: Path, *arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout
