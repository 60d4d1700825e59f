"""`python -m tests.drill.cut [cuts]`: outage and reconnect of viewers in real cuts, as their sessions tell them, against the
truth of the frame stamps and of the packets. Needs root (network namespaces and nft); some 9 s a cut, 24 unless told otherwise.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.drill.cut.cuts import VIEWS, measured
from tests.drill.cut.told import errors, table
from tests.truth.measure import behind
from tests.truth.namespaces import cable

LENGTHS = (0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    lengths = [LENGTHS[number % len(LENGTHS)] for number in range(count)]
    random.Random(1).shuffle(lengths)
    with tempfile.TemporaryDirectory(prefix="cut-") as state, cable() as wire, behind(wire, Path(state)) as platform:
        os.environ.update(platform.environment)
        found = asyncio.run(measured(wire, platform, lengths, 2, tuple(VIEWS), Path(state), tell=_tell))
    print(table(found))
    for words in found.ended:
        print(f"  ended for good: {words}")
    for what in ("outage", "reconnect"):
        for one in found.lived:
            if any(abs(error) > 50 for error in errors([one], what)):
                print(f"  {one.protocol}, {one.length:g} s: {what} told {getattr(one.told, what) / 1e6:.0f}, true "
                      f"{getattr(one.true, what) / 1e6:.0f}, {one.told.outcome}, {one.told.attempts} attempts")  # fmt: skip


if __name__ == "__main__":
    main()
