import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import json, os, sys, threading
from pathlib import Path
import numpy
from cdl.jobs.walls import raise_walls
system = ("/usr", "/lib", "/lib64", "/proc", "/etc/ld.so.cache", "/dev/null", sys.prefix, sys.base_prefix)
libraries = [Path(p) for p in (*system, *sys.path) if p]
reads = [*libraries, Path(sys.argv[1])]
walls = raise_walls(read=reads, write=[], memory=1 << 30, cpu_seconds=60, processes=64)
found = {"walls": walls}
def tried(name, attempt):
    try:
        attempt()
        found[name] = "done"
    except Exception as error:
        found[name] = type(error).__name__
"""
END = "\nprint(json.dumps(found))\n"


def walled(tmp_path: Path, body: str, *arguments: str) -> dict[str, object]:
    inside = tmp_path / "inside"
    inside.mkdir(exist_ok=True)
    (inside / "item").write_text("inside")
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + body + END, str(inside), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def needs(found: dict[str, object], wall: str) -> None:
    walls = found["walls"]
    if not isinstance(walls, list) or wall not in walls:
        pytest.skip(f"this system has no {wall}: {walls}")


def test_files_outside_cannot_be_read_and_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    body = """
tried("inside", lambda: Path(sys.argv[1], "item").read_text())
tried("outside", lambda: Path(sys.argv[2]).read_text())
tried("write_inside", lambda: Path(sys.argv[1], "new").write_text("x"))
tried("write_temporary", lambda: Path("/tmp/cdl-walls-test").write_text("x"))
tried("write_memory", lambda: Path("/dev/shm/cdl-walls-test").write_text("x"))
tried("list_home", lambda: os.listdir("/var"))
"""
    found = walled(tmp_path, body, str(tmp_path / "secret"))
    needs(found, "landlock")
    assert found["inside"] == "done"
    for name in ("outside", "write_inside", "write_temporary", "write_memory", "list_home"):
        assert found[name] == "PermissionError", name
    assert not Path("/tmp/cdl-walls-test").exists() and not (tmp_path / "inside/new").exists()


def test_no_socket_no_program_no_signal(tmp_path: Path) -> None:
    body = """
import socket, subprocess
tried("connect", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 2))
tried("local", lambda: socket.socket(socket.AF_UNIX))
tried("program", lambda: subprocess.run([sys.executable, "-c", "1"]))
tried("signal", lambda: os.kill(os.getppid(), 0))
"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        found = walled(tmp_path, body, str(listener.getsockname()[1]))
        with pytest.raises(TimeoutError):
            listener.accept()
    needs(found, "seccomp")
    assert {found[n] for n in ("connect", "local", "program", "signal")} == {"PermissionError"}


def test_no_file_is_marked_and_root_is_nobody(tmp_path: Path) -> None:
    """A mark on a file that can be read would stay when the process is gone: an attribute, a time, a mode, a flag."""
    body = """
import fcntl, socket
item = Path(sys.argv[1], "item")
tried("attribute", lambda: os.setxattr(item, "user.mark", b"x"))
tried("removed", lambda: os.removexattr(item, "user.before"))
tried("time", lambda: os.utime(item, (1, 1)))
tried("mode", lambda: item.chmod(0o600))
tried("owner", lambda: os.chown(item, os.getuid(), os.getgid()))
tried("length", lambda: os.truncate(item, 1))
with open(item) as file:
    tried("file_time", lambda: os.utime(file.fileno(), (1, 1)))
    tried("file_mode", lambda: os.fchmod(file.fileno(), 0o600))
    tried("flag", lambda: fcntl.ioctl(file, 0x40086602, (0x40).to_bytes(8, "little")))
    tried("project", lambda: fcntl.ioctl(file, 0x401C5820, bytes(28)))
    found["terminal"] = file.isatty()
tried("host", lambda: socket.sethostname(socket.gethostname()))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
found["rights"] = int(status["CapEff"], 16) | int(status["CapPrm"], 16)
"""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "item").write_text("inside")
    before = os.stat(inside / "item").st_mode
    found = walled(tmp_path, body)
    needs(found, "seccomp")
    tried = (
        "attribute",
        "removed",
        "time",
        "mode",
        "owner",
        "length",
        "file_time",
        "file_mode",
        "flag",
        "project",
        "host",
    )
    assert {name: found[name] for name in tried} == dict.fromkeys(tried, "PermissionError")
    assert found["terminal"] is False and found["rights"] == 0
    assert os.stat(inside / "item").st_mode == before and (inside / "item").read_text() == "inside"


def test_memory_is_limited_and_the_environment_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDL_KEY", "secret")
    body = """
tried("memory", lambda: numpy.ones((3 << 30) // 8))
found["environment"] = sorted(os.environ)
"""
    found = walled(tmp_path, body)
    needs(found, "limits")
    assert found["memory"] in ("MemoryError", "_ArrayMemoryError")
    environment = found["environment"]
    assert isinstance(environment, list) and "CDL_KEY" not in environment and "PATH" in environment


@pytest.mark.parametrize("library", ["numpy", "torch", "onnxruntime"])
def test_libraries_still_work_inside(tmp_path: Path, library: str) -> None:
    work = {
        "numpy": "found['sum'] = float((numpy.ones((200, 200)) @ numpy.ones((200, 200)))[0, 0])",
        "torch": "found['sum'] = float((torch.ones(200, 200) @ torch.ones(200, 200))[0, 0])",
        "onnxruntime": "found['sum'] = float(session.run(None, {'x': numpy.full((1,), 199, numpy.float32)})[0][0])",
    }[library]
    setup = f"import {library}\n"
    if library == "onnxruntime":
        setup += """
from onnx import TensorProto, helper
node = helper.make_node("Add", ["x", "one"], ["y"])
one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], [one])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
"""
        work = "session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])\n" + work
    body = BEGIN.replace("walls = raise_walls", setup + "walls = raise_walls")
    inside = tmp_path / "inside"
    inside.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", body + work + END, str(inside)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["sum"] == 200.0
