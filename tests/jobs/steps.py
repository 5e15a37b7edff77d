"""A project of one module whose jobs do as they are told, for tests of jobs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdl.git.repository import Git
from cdl.git.snapshot import snapshot
from cdl.jobs.closure import closure
from cdl.jobs.environment import environment
from cdl.jobs.job import Job
from cdl.jobs.local import Drive, Jobs, Worker
from cdl.jobs.slots import Need
from cdl.journal.journal import Journal
from cdl.store.store import Store

CODE = """
import os
def work(channel):
    while True:
        message = channel.receive()
        if message["op"] == "stop":
            return
        channel.send({"answer": globals()[message["op"]](message)})
def double(message): return message["value"] * 2
def shout(message): print("LOUD", message["value"], flush=True); return None
def outside(message): return open("../../../../note.txt").read()
def inside(message): return open("note.txt").read()
def fail(message): raise ValueError("CANARY " + str(message["value"]))
def die(message): os.kill(os.getpid(), 9)
def leave(message): os._exit(message["value"])
def sleep(message): import time; time.sleep(60)
def descend(message): import subprocess; return subprocess.Popen(["sleep", "600"]).pid
def around(message): return {k: v for k, v in os.environ.items()}
def where(message): return sorted(os.listdir("."))
def later(message):
    import atexit, threading, time
    threading.Thread(target=lambda: (time.sleep(0.3), print("LATER"))).start()
    atexit.register(print, "GOODBYE")
def whoami(message): return [os.getpid(), os.getppid(), os.getsid(0)]
def state(message):
    import signal, sys, threading
    paths = ["/proc/self/fd/" + fd for fd in os.listdir("/proc/self/fd")]
    files = [os.readlink(path).partition(":")[0] for path in paths if os.path.lexists(path)]
    return {
        "environment": dict(os.environ), "path": sys.path, "arguments": len(sys.argv), "hash": hash("news"),
        "folder": os.getcwd(), "files": sorted(files), "leader": os.getsid(0) == os.getpid() == os.getpgid(0),
        "threads": [threading.active_count(), len(os.listdir("/proc/self/task"))], "umask": os.umask(0o22),
        "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "encodings": [sys.stdout.encoding, sys.stderr.errors],
        "buffered": [sys.stdout.line_buffering, sys.stdout.seekable(), sys.stderr.line_buffering], "flags": str(sys.flags),
    }
"""


def lay_out(folder: Path) -> None:
    """The project's files and repository."""
    Git.init(folder)
    (folder / "steps.py").write_text(CODE)
    (folder / "note.txt").write_text("one\n")
    (folder / ".gitignore").write_text(".cdl/\n")


def open_jobs(folder: Path) -> Jobs:
    """The jobs of the project, as a process opens them."""
    return Jobs(Store(folder / ".cdl" / "store"), Journal(folder / ".cdl"), Git(folder), who="a@example.org")


def make(
    jobs: Jobs,
    *,
    declared: tuple[str, ...] = (),
    warm: str | None = None,
    need: Need | None = None,
    threads: int = 1,
    **parameters: object,
) -> Job:
    """A job of steps.py as it stands."""
    git = jobs.git
    files = git.files(snapshot(git).tree)
    code = closure(files, git.cat, ["steps:work"], declared=declared, section=None)
    return Job(
        loop="steps:work",
        closure=code,
        inputs={},
        parameters=parameters,
        environment=environment(None),
        warm=warm,
        need=need,
        threads=threads,
    )


def asking(found: list[Any], op: str, value: object = None) -> Drive:
    """Asks for one thing, whose answer is found and becomes the output."""

    def drive(worker: Worker) -> Mapping[str, str]:
        found.append(worker.ask({"op": op, "value": value})["answer"])
        worker.tell({"op": "stop"})
        return {"out": str(found[-1])}

    return drive


def parent(process: int) -> int | None:
    """The parent of a process that runs; None for one that ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[1])
