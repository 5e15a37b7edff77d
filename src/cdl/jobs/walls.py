"""Walls around a process that runs code nobody may trust with test items: what it reads stays inside it.

    limits         memory, processor time, processes, no file written, no core dump
    namespaces     where the system allows it: no network, no other process in sight
    no_new_privs   nothing that it starts gains rights; those of root are given up
    landlock       only the named paths can be opened; nothing can be written
    seccomp        no sockets, no new programs, no tracing, no other process's memory, no marks on files: attributes, times, modes

They are raised once, by the process itself, and stay. A wall that the system has not is left out of the answer; one that is
named stands. Linux by ctypes and without root (landlock(7), seccomp(2)); elsewhere `limits` only.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWNS = 0x10000000, 0x40000000, 0x08000000, 0x00020000
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
LANDLOCK_VERSION = 1  # flag: ask for the version
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
FS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
NET_TCP = 3  # bind and connect, from version 4
OPEN_FILES = 256
KEPT = ("PATH", "LANG", "TZ", "PYTHONHASHSEED", "OMP_NUM_THREADS", "ORT_DISABLE_TELEMETRY", "HOME")

SECOND_ARGUMENT = 24  # where its lower half stands in what a filter is given
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000  # system calls of another numbering on x86_64
# what is denied, by number on each architecture
DENIED = {
    "x86_64": {
        "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "sendto": 44, "sendmsg": 46,
        "execve": 59, "execveat": 322, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "mount": 165, "umount2": 166, "unshare": 272, "setns": 308, "bpf": 321, "perf_event_open": 298,
        "keyctl": 250, "add_key": 248, "request_key": 249, "io_uring_setup": 425, "open_by_handle_at": 304,
        "kexec_load": 246, "init_module": 175, "finit_module": 313, "pidfd_getfd": 438, "pidfd_open": 434,
        "kcmp": 312, "userfaultfd": 323, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463, "removexattr": 197, "lremovexattr": 198,
        "fremovexattr": 199, "removexattrat": 466, "file_setattr": 469, "utime": 132, "utimes": 235, "futimesat": 261,
        "utimensat": 280, "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "chown": 92, "fchown": 93,
        "lchown": 94, "fchownat": 260, "truncate": 76, "sethostname": 170, "setdomainname": 171,
        "inotify_init1": 294, "kill": 62, "tkill": 200, "rt_sigqueueinfo": 129, "chroot": 161, "memfd_create": 319,
    },
    "aarch64": {
        "socket": 198, "connect": 203, "accept": 202, "bind": 200, "listen": 201, "sendto": 206, "sendmsg": 211,
        "execve": 221, "execveat": 281, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "mount": 40, "umount2": 39, "unshare": 97, "setns": 268, "bpf": 280, "perf_event_open": 241,
        "keyctl": 219, "add_key": 217, "request_key": 218, "io_uring_setup": 425, "open_by_handle_at": 265,
        "kexec_load": 104, "init_module": 105, "finit_module": 273, "pidfd_getfd": 438, "pidfd_open": 434,
        "kcmp": 272, "userfaultfd": 282, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "setxattrat": 463, "removexattr": 14, "lremovexattr": 15,
        "fremovexattr": 16, "removexattrat": 466, "file_setattr": 469, "utimensat": 88, "fchmod": 52, "fchmodat": 53,
        "fchmodat2": 452, "fchown": 55, "fchownat": 54, "truncate": 45, "sethostname": 161, "setdomainname": 162,
        "inotify_init1": 26, "kill": 129, "tkill": 130, "rt_sigqueueinfo": 138, "chroot": 51, "memfd_create": 279,
    },
}  # fmt: skip
IOCTL = {"x86_64": 16, "aarch64": 29}
MARKING = (
    0x40086602,
    0x401C5820,
    0x40087602,
    0x41009432,
)  # ioctls that set flags, attributes, version or label of a file
CAPSET = {"x86_64": 126, "aarch64": 91}
CAPABILITIES = 0x20080522  # version 3 of the kernel's structure


def raise_walls(
    *, read: Sequence[Path], write: Sequence[Path], memory: int, cpu_seconds: int, processes: int
) -> list[str]:
    """Confines this process for good; the names of the walls that stand.

    `memory` is in bytes beyond what is mapped now. Paths of `read` can be read and their libraries loaded, paths of `write`
    also written. The environment is emptied of all but what Python needs.
    """
    for name in list(os.environ):
        if name not in KEPT:
            del os.environ[name]
    found = []
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if _namespaces(libc):
            found.append("namespaces")
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            found.append("no_new_privs")
            _give_up_rights(libc)
            if _landlock(libc, read, write):
                found.append("landlock")
    if _limits(memory, cpu_seconds, processes, bool(write)):
        found.append("limits")
    if "no_new_privs" in found and _seccomp(ctypes.CDLL(None, use_errno=True)):
        found.append("seccomp")
    return found


def _namespaces(libc: ctypes.CDLL) -> bool:
    """A network and System V namespace of its own; with root at once, else inside a user namespace where allowed."""
    if os.geteuid() == 0 and libc.unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS) == 0:
        return True
    return bool(libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) == 0)


def _give_up_rights(libc: ctypes.CDLL) -> None:
    """Gives up what root, or the owner of a namespace, may do beyond others."""
    number = CAPSET.get(platform.machine())
    if number is not None:
        libc.syscall(number, struct.pack("<Ii", CAPABILITIES, 0), struct.pack("<6I", *[0] * 6))


def _limits(memory: int, cpu_seconds: int, processes: int, writes: bool) -> bool:
    mapped = _mapped()
    wanted = [
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, processes if os.geteuid() else resource.RLIM_INFINITY),
    ]
    if mapped is not None:
        wanted.append((resource.RLIMIT_AS, mapped + memory))
    if not writes:
        wanted.append((resource.RLIMIT_FSIZE, 0))
    return _set(wanted)


def limit_memory(memory: int) -> bool:
    """Lets this process, and those it starts, take so many bytes beyond what it has; False where the system cannot."""
    mapped = _mapped()
    return mapped is not None and _set([(resource.RLIMIT_AS, mapped + memory)])


def _set(wanted: Sequence[tuple[int, int]]) -> bool:
    for kind, value in wanted:
        _, hard = resource.getrlimit(kind)
        if value == resource.RLIM_INFINITY:
            continue
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):
            return False
    return True


def _mapped() -> int | None:
    """Bytes of address space in use; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (FileNotFoundError, PermissionError):
        return None


def _landlock(libc: ctypes.CDLL, read: Sequence[Path], write: Sequence[Path]) -> bool:
    version = libc.syscall(LANDLOCK_CREATE, None, 0, LANDLOCK_VERSION)
    if version < 1:
        return False
    every = FS_BY_VERSION[min(version, max(FS_BY_VERSION))]
    attributes = struct.pack("<QQ", every, NET_TCP) if version >= 4 else struct.pack("<Q", every)
    rules = libc.syscall(LANDLOCK_CREATE, attributes, len(attributes), 0)
    if rules < 0:
        return False
    try:
        for paths, allowed in ((read, EXECUTE | READ_FILE | READ_DIR), (write, every)):
            for path in paths:
                _allow(libc, rules, path, allowed & every)
        return bool(libc.syscall(LANDLOCK_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path, allowed: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return  # what cannot be opened now cannot be opened behind the wall either
    try:
        if not path.is_dir():
            allowed &= EXECUTE | READ_FILE | WRITE_FILE
        rule = struct.pack("<Qi", allowed, handle)
        if libc.syscall(LANDLOCK_ADD, rules, RULE_PATH_BENEATH, rule, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, errno.errorcode.get(number, "landlock"), str(path))
    finally:
        os.close(handle)


def _seccomp(libc: ctypes.CDLL) -> bool:
    """A filter in classic BPF: denied calls answer EPERM, calls of another architecture end the process."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        return False
    load, equal, greater, answer = 0x20, 0x15, 0x35, 0x06
    kill, deny, allow = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000
    numbers = sorted(DENIED[machine].values())
    program = [
        (load, 0, 0, 4),  # the architecture
        (equal, 1, 0, ARCHITECTURES[machine]),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),  # the number of the call
        (greater, 0, 1, X32),
        (answer, 0, 0, kill),
    ]
    for number in numbers:
        program += [(equal, 0, 1, number), (answer, 0, 0, deny)]
    marking = [line for command in MARKING for line in ((equal, 0, 1, command), (answer, 0, 0, deny))]
    program += [(equal, 0, len(marking) + 1, IOCTL[machine]), (load, 0, 0, SECOND_ARGUMENT), *marking]
    program.append((answer, 0, 0, allow))
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    whole = Program(len(program), ctypes.addressof(buffer))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0) == 0)
