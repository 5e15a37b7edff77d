"""docs/first-project.md is typed as it stands, block by block, and ends with a service that answers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "first-project.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def typed(folder: Path) -> str:
    """The page as a shell script; the port that a person reads off is taken from the command's answer."""
    lines = ["set -euo pipefail", f"cd {folder}"]
    for kind, body in BLOCK.findall(PAGE.read_text()):
        if kind in ("yaml", "python"):
            named = re.match(r"# (\S+\.py)\n", body)
            name = named[1] if named else "cdl.yaml"
            lines.append(f"cat > {name} <<'FILE'\n{body}FILE")
        else:
            applied = "cdl deploy apply production --json > applied.json; PORT=$(python -c "
            applied += '\'import json; print(json.load(open("applied.json"))["port"])\'); : '
            lines.append(body.replace("cdl deploy apply production ", applied).replace(":PORT", ":$PORT"))
    return "\n".join(lines)


def test_the_page_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    around = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "CDL_"))}
    around |= {f"GIT_{role}_{what}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    around |= {"GIT_CONFIG_GLOBAL": os.devnull, "CDL_KEYRING": str(tmp_path / "keyring")}
    around["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{around['PATH']}"
    script = typed(tmp_path)
    assert "$PORT" in script and "applied.json" in script
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=around, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    answer = re.search(r'\{"id":"q-[^\n]*?\}\}', done.stdout)
    assert answer and json.loads(answer[0])["category"] == "right"
    assert "test.accuracy" in done.stdout and "production is stopped" in done.stderr + done.stdout
