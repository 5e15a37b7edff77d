"""A candidate that tells what it sees to whoever may hear it: nothing of a test item is found anywhere afterwards."""

import ctypes
import json
import os
import platform
import secrets
import selectors
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cdl.data.dataset import dataset_record, training
from cdl.data.ready import released
from cdl.errors import JobFailed
from cdl.jobs.walls import ARCHITECTURES, LANDLOCK_CREATE, LANDLOCK_VERSION
from cdl.model.code import model_code
from cdl.model.evaluate import evaluate
from cdl.model.loading import EXPECTED_WALLS
from cdl.model.source import model_record
from cdl.pages.find import write_page
from cdl.workflow.workspace import Workspace
from tests.acceptance.candidate import JUDGE, features, spy
from tests.acceptance.seen import CDL, Wanted, everything, files_below
from tests.projects import DATA, FEATURES, YAML, Toy, make_toy, table

JUDGED = YAML.replace(
    "    epochs: 4\n", '    epochs: 1\n    tests: checks/judge.py\n    metrics: ["checks.judge:macro"]\n'
)
OLDEST = 1 << 24  # seconds: what a time made of three bytes is below
SHARED = ("/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", os.path.expanduser("~"), sys.prefix)
# how a candidate ends -> what a person may be told of it
ENDS = {
    "raise": r"model/spy\.py:\d+: ValueError",
    "class": r"model/spy\.py:\d+: an error of its own",
    "place": "^ValueError",
    "exit": "the worker ended before it answered",
    "error": "an error of its own",
    "array": "the model's answer has not the declared form",
    "wrong": "the worker ended before it answered",
    "walls": "the model's answer has not the declared form",
}


class Ears:
    """Listens on the loopback, at a path and at a name without one, and keeps what it hears."""

    def __init__(self, path: Path, token: str) -> None:
        self.heard = bytearray()
        first = socket.create_server(("127.0.0.1", 0))
        self.port = int(first.getsockname()[1])
        packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        packets.bind(("127.0.0.1", self.port))
        self._sockets = [first, packets]
        for address in [str(path), *(["\0" + token] if sys.platform == "linux" else [])]:
            self._sockets.append(socket.socket(socket.AF_UNIX))
            self._sockets[-1].bind(address)
            self._sockets[-1].listen()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        """Hears out who is there, and listens no more."""
        self._end.set()
        self._thread.join()
        for listener in self._sockets:
            listener.close()

    def _listen(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for listener in self._sockets:
                waiting.register(listener, selectors.EVENT_READ)
            while (ready := waiting.select(0.1)) or not self._end.is_set():
                for key, _ in ready:
                    self._hear(key.fileobj)  # type: ignore[arg-type]

    def _hear(self, listener: socket.socket) -> None:
        if listener.type == socket.SOCK_DGRAM:
            self.heard += listener.recv(1 << 16)
            return
        with listener.accept()[0] as caller:
            while data := caller.recv(1 << 16):
                self.heard += data


class Theatre:
    """A project whose candidate is a spy, with ears, and temporary folders of which a copy is kept before they go."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.token, self.temporary, self.kept = secrets.token_hex(4), root / "temporary", root / "kept"
        self.temporary.mkdir()
        self.kept.mkdir()
        patch.setenv("TMPDIR", str(self.temporary))
        patch.setattr(tempfile, "tempdir", str(self.temporary))
        patch.setattr(tempfile, "TemporaryDirectory", self._keeping())
        self.ears = Ears(root / "ears", self.token)
        given = {"token": self.token, "port": self.ears.port, "local": root / "ears"}
        files = {
            "model/spy.py": spy(**given, root=root / "toy", temporary=self.temporary),  # type: ignore[arg-type]
            "model/features.py": features(FEATURES, "answer"),
            "checks/judge.py": JUDGE,
        }
        self.toy: Toy = make_toy(root / "toy", patch, root / "keyring", yaml=JUDGED, files=files)
        lines = table(120).splitlines()
        rows = [f"{line},NOTE-{self.token}-{i:03d}" for i, line in enumerate(lines[1:])]
        self.toy.data("\n".join([lines[0] + ",note", *rows]) + "\n")

    def variant(self, model: str, mode: str) -> str:
        """The same model with a source that ends in another way; its id."""
        workspace = self.toy.become(DATA)
        workspace.git.run("switch", "--quiet", "-C", f"exp/{mode}", "main")
        self.toy.write("model/features.py", features(FEATURES, mode))
        self.toy.commit(workspace, mode)
        code = model_code(workspace, "side", workspace.git.head())
        source = {"commit": code.commit, "tree": code.tree, "closure": code.closure.id}
        record = msgspec.structs.replace(model_record(workspace, model), code=source)
        return workspace.registry.commit(record, command="model register", line=mode).ids[0]

    def left(self) -> list[str]:
        """Whatever the spy's name stands on, outside of the project."""
        folders = {os.path.realpath(folder) for folder in SHARED if os.path.isdir(folder)}
        return sorted(f"{f}/{name}" for f in folders for name in os.listdir(f) if self.token in name)

    def close(self) -> None:
        """Takes away what was left, by a training or through a wall that did not stand."""
        self.ears.close()
        for path in self.left():
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                os.unlink(path)

    def _keeping(self) -> type:
        kept = self.kept

        class Keeping(tempfile.TemporaryDirectory):  # type: ignore[type-arg]
            def cleanup(self) -> None:
                if os.path.isdir(self.name):
                    shutil.copytree(self.name, kept / Path(self.name).name, symlinks=True)
                super().cleanup()

        return Keeping


def every_wall_can_stand() -> bool:
    """Whether the system has what the walls are made of."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return False
    return bool(ctypes.CDLL(None).syscall(LANDLOCK_CREATE, None, 0, LANDLOCK_VERSION) >= 1)


@pytest.fixture
def theatre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Theatre]:
    made = Theatre(tmp_path, monkeypatch)
    try:
        yield made
    finally:
        made.close()


def notes(workspace: Workspace) -> tuple[set[bytes], dict[bytes, bytes]]:
    """The notes of training items, and the contents of test items by their notes."""
    dataset, snapshot = released(workspace, "points")
    tree = workspace.vault("points", by="test").tree(dataset_record(workspace, dataset).test)
    given = training(workspace, dataset, snapshot).contents
    sealed = [*tree.contents().values()]
    return {json.loads(c)["note"].encode() for c in given}, {json.loads(c)["note"].encode(): c for c in sealed}


@pytest.mark.skipif(not every_wall_can_stand(), reason="this system has no landlock")
def test_a_candidate_finds_nobody_to_tell_and_leaves_nothing(theatre: Theatre) -> None:
    toy = theatre.toy
    model = toy.model("exp/answer", who=DATA)
    given, sealed = notes(toy.become(DATA))
    # a training is not walled: the spy is heard, and its files lie where they may
    heard = bytes(theatre.ears.heard)
    assert sum(note in heard for note in given) > 10 and not any(note in heard for note in sealed)
    assert {os.path.dirname(path) for path in theatre.left()} == {"/tmp", os.path.realpath("/dev/shm")}
    made = evaluate(toy.become(DATA), model)
    assert set(made.result["walls"]) >= EXPECTED_WALLS
    assert made.result["tests"] == {"test_told": "fail"} and made.result["items"] == len(sealed) > 10
    told = []
    for mode, said in ENDS.items():
        candidate = theatre.variant(model, mode)
        with pytest.raises(JobFailed, match=said) as caught:
            evaluate(toy.become(DATA), candidate)
        told.append(f"{caught.value}\n{caught.value!r}".encode())
        if mode in ("raise", "class"):
            said_here = subprocess.run([str(CDL), "model", "evaluate", candidate], cwd=toy.root, capture_output=True)
            assert said_here.returncode == 1 and b"Traceback" not in said_here.stderr
            told += [said_here.stdout, said_here.stderr]
    write_page(toy.become(DATA), model)
    theatre.ears.close()
    places = everything(toy, theatre.temporary, theatre.kept)
    places |= {"told": b"\n".join(told), "heard": bytes(theatre.ears.heard), "left": "\n".join(theatre.left()).encode()}
    places |= files_below(*(Path(path) for path in theatre.left()))
    wanted = Wanted()
    for note, content in sealed.items():
        wanted.add("a note", note)
        wanted.add_hashes("a content", content)
    assert len(list(theatre.kept.glob("cdl-job-*"))) >= 4 + len(ENDS)
    assert wanted.seen(places) == []
    assert_nothing_was_changed(theatre, places)


def assert_nothing_was_changed(theatre: Theatre, places: dict[str, bytes]) -> None:
    """What a process could say without a byte: names, times, modes and attributes of files, and memory that stays."""
    behind_walls = f"spy-{theatre.token}-"
    assert not [place for place in places if behind_walls in place] and not any(
        map(behind_walls.__contains__, theatre.left())
    )
    for path in theatre.kept.glob("cdl-job-*/code/**/*"):
        found = path.lstat()
        assert found.st_mtime > OLDEST and (not path.is_file() or stat.S_IMODE(found.st_mode) == 0o444), path
    if sys.platform == "linux":
        assert not [name for name in os.listxattr(sys.prefix) if theatre.token in name]
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        assert str(theatre.ears.port) not in [line.split()[0] for line in segments]
