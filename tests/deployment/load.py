"""Load on a service from a process of its own: connections that ask as fast as they are answered, every answer checked.

    python load.py PORT CONNECTIONS OUT BIASES     BIASES: {"m-1": 0.0, ...}, what each package adds to the toy's logit

Ends with its standard input, then writes OUT: {"answered": [[id, seconds, model], ...], "failed": [[what, seconds, local port],
...], "wrong": [...], "latencies": [...], "seconds"}; seconds are of the clock that all processes of a machine share. An answer is
right when it is what the package that answered must say. A connection is left when an answer says `Connection: close`.
"""

import asyncio
import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools

HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds for one answer
TOLERANCE = 1e-5  # of a probability: batches may round otherwise


@dataclass
class Answer:
    """What the parser hears."""

    body: bytes = b""
    close: bool = False
    complete: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.close |= name.lower() == b"connection" and value.lower() == b"close"

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


@dataclass
class Load:
    port: int
    biases: dict[str, float]
    answered: list[tuple[str, float, str]] = field(default_factory=list)
    failed: list[tuple[str, float, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    stopping: bool = False
    number: int = 0

    async def client(self) -> None:
        """One client: as many connections, one after the other, as the service tells it to take."""
        while not self.stopping:
            local = 0
            try:
                reader, writer = await asyncio.open_connection(HOST, self.port)
            except OSError as error:
                self.failed.append((f"connect: {error!r}", time.monotonic(), local))
                await asyncio.sleep(0.01)
                continue
            try:
                local = writer.get_extra_info("sockname")[1]
                await self.ask_until_closed(reader, writer)
            except (OSError, EOFError, TimeoutError, httptools.HttpParserError) as error:
                self.failed.append((repr(error), time.monotonic(), local))
            finally:
                writer.close()

    async def ask_until_closed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests on one connection."""
        while not self.stopping:
            self.number += 1
            x = (self.number % 41 - 20) / 10
            path, body = self.request(x)
            head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
            start = time.monotonic()
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = Answer()
            parser = httptools.HttpResponseParser(answer)
            while not answer.complete:
                data = await asyncio.wait_for(reader.read(65536), PATIENCE)
                if not data:
                    raise EOFError("closed before the answer")
                parser.feed_data(data)
            now = time.monotonic()
            self.latencies.append(now - start)
            self.check(parser.get_status_code(), json.loads(answer.body), path, x, now)
            if answer.close:
                return

    def request(self, x: float) -> tuple[str, bytes]:
        """Half of them by each protocol; the toy divides by 5 what is no tensor."""
        if self.number % 2:
            return "/predict", json.dumps({"item": {"x": 5 * x, "y": 0.0}}).encode()
        tensor = {"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [x, 0.0]}
        return "/v2/models/toy/infer", json.dumps({"inputs": [tensor]}).encode()

    def check(self, status: int, found: dict[str, Any], path: str, x: float, now: float) -> None:
        """Notes an answer, and whether it is what a package says."""
        if status != 200:
            self.failed.append((f"{status} {found}", now, 0))
            return
        if path == "/predict":
            identity, said, models = found["id"], found["probabilities"]["right"], list(self.biases)
        else:
            identity, said = found["parameters"]["ids"][0], found["outputs"][0]["data"][1]
            models = [found["model_version"]]
        right = [m for m in models if abs(said - 1 / (1 + math.exp(-(4 * x + self.biases[m])))) < TOLERANCE]
        if not right:
            self.wrong.append(f"{path} {x}: {found}")
        self.answered.append((identity, now, models[0] if len(models) == 1 else ""))

    async def run(self, connections: int) -> None:
        """Until standard input ends."""
        clients = [asyncio.create_task(self.client()) for _ in range(connections)]
        sys.stdout.write("loading\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        self.stopping = True
        await asyncio.gather(*clients)


def main() -> None:
    port, connections, out, biases = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
    load, start = Load(port, biases), time.monotonic()
    asyncio.run(load.run(connections))
    keys = ("answered", "failed", "wrong", "latencies")
    content = {key: getattr(load, key) for key in keys} | {"seconds": time.monotonic() - start}
    out.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
