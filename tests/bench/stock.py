"""WHEP viewers as aiortc makes them, every frame decoded and thrown away: what ours are compared with.

python -m tests.bench.stock URL TOKEN COUNT says `playing` when each has a frame, and stays until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription


async def view(http: aiohttp.ClientSession, url: str, token: str, playing: asyncio.Semaphore) -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    receivers = [peer.addTransceiver(kind, direction="recvonly").receiver for kind in ("video", "audio")]
    await peer.setLocalDescription(await peer.createOffer())
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
    async with http.post(url, data=peer.localDescription.sdp, headers=headers) as answer:
        await peer.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
    tracks = [receiver.track for receiver in receivers]
    try:
        await tracks[0].recv()
        playing.release()
        async with asyncio.TaskGroup() as group:
            for track in tracks:
                group.create_task(_drain(track))
    finally:
        await peer.close()


async def _drain(track: object) -> None:
    while True:
        await track.recv()  # type: ignore[attr-defined]  # every remote track has it


async def main(url: str, token: str, count: int) -> None:
    playing = asyncio.Semaphore(0)
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        viewers = [group.create_task(view(http, url, token, playing)) for _ in range(count)]
        for _ in viewers:
            await playing.acquire()
        print("playing", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for viewer in viewers:
            viewer.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
