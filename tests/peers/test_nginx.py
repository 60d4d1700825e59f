"""nginx-rtmp works here: what goes in by RTMP comes out as HLS."""

import subprocess
from pathlib import Path

import aiohttp
import av
import pytest

from tests.peers import nginx
from tests.tools import requires, wait_until


def _clip(path: Path) -> Path:
    """8 s of a moving picture with sound, a keyframe each second."""
    source = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15", "-f", "lavfi", "-i", "sine=frequency=440"]
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-pix_fmt", "yuv420p", "-c:a", "aac", "-t", "8"]
    subprocess.run([requires("ffmpeg"), "-v", "error", *source, *codec, "-y", path], check=True, timeout=30)
    return path


@pytest.mark.parametrize("piped", [False, True])
async def test_what_is_fed_by_rtmp_comes_out_as_hls(tmp_path: Path, piped: bool) -> None:
    async with nginx.running(fragment=1) as server, aiohttp.ClientSession() as http:
        clip = _clip(tmp_path / "clip.flv")
        with server.feed(None if piped else clip) as feed:
            if piped:
                feed.stdin.write(clip.read_bytes())
                feed.stdin.flush()

            async def playlist() -> str:
                async with http.get(server.hls_url()) as answer:
                    return await answer.text() if answer.status == 200 else ""

            text = await wait_until(playlist, 15, "a playlist")
            names = [line for line in text.splitlines() if line.endswith(".ts")]
            async with http.get(server.hls_url().rsplit("/", 1)[0] + "/" + names[0]) as answer:
                segment = tmp_path / "first.ts"
                segment.write_bytes(await answer.read())
        with av.open(segment) as container:
            assert {stream.type for stream in container.streams} == {"video", "audio"}
            assert next(container.decode(video=0)).width == 320
