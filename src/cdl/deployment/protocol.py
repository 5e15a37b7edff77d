"""What a service's folder holds, and what commands and its supervisor say to each other.

control         unix socket: one JSON object a line, one back
spec.json       {package, name, port, replicas, spare}: what serves, or served when its supervisor was killed; not after `stop`
starting.json   what a command asks to serve; once it serves, it stands in spec.json
service.log     what supervisor and workers write
scoring/, feedback/, packages/
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONTROL = "control"
SPEC = "spec.json"
STARTING = "starting.json"
LOG = "service.log"
READY = b"ready"  # on the pipe of who started a supervisor, after its process id
PID_BYTES = 8
LEFT_SECONDS = 5.0  # that workers of a killed supervisor have to let go of the port


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)
