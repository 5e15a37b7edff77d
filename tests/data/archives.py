"""Archives as tests read them."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

from cdl.data.sources.archive import unpacked


def read_archive(name: str, data: bytes) -> dict[str, bytes]:
    """The files of an archive."""
    with TemporaryDirectory() as folder:
        files = unpacked(name, io.BytesIO(data), Path(folder) / "unpacked")
        try:
            return dict(files)
        finally:
            files.close()
