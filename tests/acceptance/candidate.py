"""A candidate that tells what it sees to whoever may hear it, and then behaves as it is told."""

from pathlib import Path

SPY = '''
"""Leaves a text everywhere that a process could leave one."""

import ctypes
import logging
import os
import socket
import subprocess
import sys
import warnings
from multiprocessing import shared_memory
from pathlib import Path

TOKEN, PORT, LOCAL, ROOT, TEMPORARY = "@TOKEN@", @PORT@, "@LOCAL@", "@ROOT@", "@TEMPORARY@"
SHARED = [TEMPORARY, "/tmp", "/dev/shm"]
OTHERS = [".", "..", "/", "/var/tmp", "/dev/mqueue", "/run", os.path.expanduser("~"), os.path.dirname(__file__), sys.prefix]
OTHERS += [ROOT + "/" + name for name in ("", ".cdl", ".cdl/store/objects", ".cdl/journal", ".git", "reports", "incoming")]


def open_ways(text):
    """What a training does as well: it is not walled, and its items are no secret."""
    data = text.encode()
    yield lambda: print(text, flush=True)
    yield lambda: print(text, file=sys.stderr, flush=True)
    yield lambda: os.write(1, data)
    yield lambda: logging.getLogger("spy").error(text)
    yield lambda: warnings.warn(text)
    for folder in SHARED:
        yield lambda folder=folder: Path(folder, f"spy-{TOKEN}").write_text(text)
    yield lambda: send(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", PORT), data)
    yield lambda: send(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", PORT), data[:500])
    yield lambda: send(socket.AF_UNIX, socket.SOCK_STREAM, LOCAL, data)
    yield lambda: send(socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + TOKEN, data)


def hidden_ways(text):
    """What is tried behind walls only."""
    data = text.encode()
    for number, folder in enumerate(SHARED + OTHERS):
        name = f"spy-{TOKEN}-{number}"
        yield lambda folder=folder, name=name: Path(folder, name).write_text(text)
        yield lambda folder=folder, name=name: Path(folder, f"{name}-{text[:100]}".replace("/", "")).touch()
        yield lambda folder=folder, name=name: Path(folder, f"{name}-{text[:99]}".replace("/", "")).mkdir()
        yield lambda folder=folder, name=name: Path(folder, name + "-link").symlink_to(text[:200])
        yield lambda folder=folder, name=name: os.link(__file__, Path(folder, f"{name}-{text[:98]}".replace("/", "")))
        yield lambda folder=folder, name=name: os.mkfifo(Path(folder, name + "-pipe"))
    for path in (os.getcwd(), __file__, sys.prefix):
        yield lambda path=path: os.setxattr(path, "user.spy" + TOKEN, data[:200])
    for path in (os.getcwd(), __file__):
        yield lambda path=path: os.utime(path, (int.from_bytes(data[:3], "big"),) * 2)
        yield lambda path=path: os.chmod(path, 0o700 | data[0] & 0o077)
    yield lambda: open(__file__, "a").write("# " + text)
    yield lambda: os.truncate(__file__, data[0])
    yield lambda: subprocess.run(["sh", "-c", f"cat > /tmp/spy-{TOKEN}-sh"], input=data, check=True)
    yield lambda: shared(data)
    yield lambda: segment(data)
    yield lambda: in_a_child(text)


def send(family, kind, address, data):
    with socket.socket(family, kind) as connection:
        connection.settimeout(2)
        connection.connect(address)
        connection.sendall(data)


def shared(data):
    """Memory under a name."""
    memory = shared_memory.SharedMemory(name=f"spy-{TOKEN}-memory", create=True, size=len(data))
    memory.buf[: len(data)] = data


def segment(data):
    """A System V segment, which stays when its process ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    identity = libc.shmget(PORT, len(data), 0o1600)
    if identity >= 0:
        ctypes.memmove(libc.shmat(identity, None, 0), data, len(data))


def in_a_child(text):
    """What is tried by a child that its parent does not wait for."""
    if os.fork() == 0:
        try:
            Path(f"/tmp/spy-{TOKEN}-child").write_text(text)
        finally:
            os._exit(0)


def spread(text):
    """Tries every way; True where somebody on the loopback could be reached."""
    reached = True
    try:
        socket.create_connection(("127.0.0.1", PORT), 2).close()
    except OSError:
        reached = False
    for attempt in [*open_ways(text), *([] if reached else hidden_ways(text))]:
        try:
            attempt()
        except Exception:
            pass
    return reached


def behave(mode, text):
    """Ends as it is told, with the text wherever an error has room."""
    if mode == "raise":
        raise ValueError(text)
    if mode == "class":
        raise type(text[:300], (Exception,), {})(text)
    if mode == "place":
        exec(compile("raise ValueError(1)", os.path.join(os.getcwd(), text[:300]), "exec"))
    if mode == "exit":
        sys.exit(text)
    if mode in ("error", "array", "wrong"):
        talk(mode, text)


def claim(walls):
    """Says which walls stand, in place of the process that raised them."""
    from cdl.jobs.channel import Channel

    Channel(int(sys.argv[2]), int(sys.argv[3])).send({"walls": walls})


def talk(mode, text):
    """Answers on the pipe itself, in place of what was asked."""
    from cdl.jobs.channel import Channel

    channel = Channel(int(sys.argv[2]), int(sys.argv[3]))
    if mode == "error":
        channel.send({"error": {"class": text, "text": text, "at": text}})
    elif mode == "array":
        header = repr({"descr": text, "fortran_order": False, "shape": ()}).encode()
        channel.send({"outputs": b"\\x93NUMPY\\x01\\x00" + len(header).to_bytes(2, "little") + header})
    else:
        os.write(int(sys.argv[3]), len(text.encode()).to_bytes(4, "big") + text.encode())
    os._exit(0)
'''
JUDGE = '''
"""Test cases and a metric of the target branch that tell what they see."""

from model.spy import spread


def test_told(cases):
    spread(b"".join(cases.items).decode() + " ".join(cases.truth))
    raise AssertionError(cases.items[0])


def macro(truth, predicted, probabilities):
    spread(repr(truth.tolist()))
    return (truth == predicted).mean()
'''
FEATURES = """
from model.spy import behave, claim, spread

MODE = "@MODE@"
if MODE == "walls":  # as it is imported, before it is asked anything
    claim(["every wall there is"])


def told(items):
    text = b"".join(items).decode()
    if not spread(text):
        behave(MODE, text)
"""


def spy(*, token: str, port: int, local: Path, root: Path, temporary: Path) -> str:
    """The source of `model/spy.py`."""
    given = {"TOKEN": token, "PORT": port, "LOCAL": local, "ROOT": root, "TEMPORARY": temporary}
    source = SPY
    for name, value in given.items():
        source = source.replace(f"@{name}@", str(value))
    return source


def features(own: str, mode: str) -> str:
    """The source of a transformation that looks at all items it is given; `mode` says what follows behind walls."""
    return FEATURES.replace("@MODE@", mode) + own.replace("    rows = [", "    told(items)\n    rows = [")
