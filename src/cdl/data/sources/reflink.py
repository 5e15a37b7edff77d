"""Files put somewhere else without a second copy on disk, where the file system can: both share blocks until one changes."""

import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from cdl.store import whole

FICLONE = 0x40049409  # of Linux: btrfs, xfs, bcachefs, overlays of these
CANNOT = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.ETXTBSY)


def place(source: Path, target: Path, *, mode: int) -> bool:
    """Puts what a file holds into another place, over what was there, whole or not at all; whether blocks are shared."""
    temporary = whole.half(target, b"")
    try:
        with source.open("rb") as old, open(temporary, "wb") as new:
            shared = _shared(old.fileno(), new.fileno())
            if not shared:
                shutil.copyfileobj(old, new, 1 << 20)
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(target.parent)) from error
    return shared


def link(source: Path, target: Path) -> bool:
    """Makes a place another name of a file, over what was there; False where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{whole.HALF}{secrets.token_hex(8)}")
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno in (*CANNOT, errno.EMLINK):
            return False
        raise
    os.replace(temporary, target)
    return True


def _shared(old: int, new: int) -> bool:
    try:
        fcntl.ioctl(new, FICLONE, old)
    except OSError as error:
        if error.errno in CANNOT:
            return False
        raise
    return True
