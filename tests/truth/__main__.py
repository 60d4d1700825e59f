"""`python -m tests.truth [seconds]`: impairments planted in link/ and again in the kernel, and what the probe reports of each.

Needs root (network namespaces, nft, tc). Delay has no counterpart: kernels without sch_netem cannot delay, so link/'s 100 ms
are held against the shift of the end-to-end latency that the probe measures by the code in the picture.
"""

from __future__ import annotations

import sys

from tests.truth.cells import table, under_delay, under_loss, under_rate


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    print(table("5 % loss, each way (link/: independent losses; nft: numgen random)", under_loss(seconds)), flush=True)
    print(table("500 kbit/s towards us, of a stream of 800 kbit/s and sound (link/; tbf)", under_rate(seconds)), flush=True)
    print(table("100 ms each way (link/ alone)", under_delay(seconds)), flush=True)


if __name__ == "__main__":
    main()
