"""`python -m tests.deploy.collector FILE`: takes the collector's place in deploy/chain where there is none.

Prints its address, and writes a line to FILE for each span it gets, with the names that OTLP's JSON has. Until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.peers import otlp


async def serve(file: Path) -> None:
    async with otlp.running() as collector:
        print(collector.url, flush=True)
        with file.open("a", encoding="utf-8") as lines:
            while True:
                await asyncio.sleep(0.1)
                for span in collector.spans:
                    named = {"traceId": span.trace_id, "spanId": span.span_id, "name": span.name}
                    lines.write(json.dumps(named, separators=(",", ":")) + "\n")
                lines.flush()
                collector.spans.clear()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
