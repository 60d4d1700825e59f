"""nginx-rtmp as Debian ships it: RTMP in, HLS and DASH out, told nothing of us.

`running` starts it in the foreground on loopback ports of its own with a configuration in a temporary folder; `feed` lets
ffmpeg push a file or its standard input as FLV over RTMP. The media is copied, never encoded again: what the playlist
names is what was fed. nginx writes a segment when a keyframe comes after `fragment` seconds.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers.supervisor import supervised
from tests.tools import Child, free_port, missing, requires, spawn

MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")

_CONFIGURATION = """\
load_module {module};
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
rtmp {{
    server {{
        listen 127.0.0.1:{rtmp};
        application live {{
            live on;
            hls on;
            hls_path {folder}/hls;
            hls_fragment {fragment}s;
            hls_playlist_length {window}s;
            dash on;
            dash_path {folder}/dash;
            dash_fragment {fragment}s;
            dash_playlist_length {window}s;
            allow publish 127.0.0.1;
            deny publish all;
        }}
    }}
}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{
        application/vnd.apple.mpegurl m3u8;
        video/mp2t ts;
        application/dash+xml mpd;
    }}
    server {{
        listen 127.0.0.1:{http};
        location /hls {{
            root {folder};
            add_header Cache-Control no-cache;
        }}
        location /dash {{
            root {folder};
            add_header Cache-Control no-cache;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx-rtmp."""

    child: Child
    folder: Path
    rtmp_port: int
    http_port: int

    def rtmp_url(self, stream: str = "room") -> str:
        return f"rtmp://127.0.0.1:{self.rtmp_port}/live/{stream}"

    def hls_url(self, stream: str = "room") -> str:
        return f"http://127.0.0.1:{self.http_port}/hls/{stream}.m3u8"

    def dash_url(self, stream: str = "room") -> str:
        return f"http://127.0.0.1:{self.http_port}/dash/{stream}.mpd"

    @contextlib.contextmanager
    def feed(self, source: Path | None, stream: str = "room", *, form: str = "flv", loop: bool = True) -> Iterator[Child]:
        """Push the media file `source`, at its own pace and over and over while `loop`; or, for None, what is written to
        the child's standard input as `form` (flv, mpegts, …), at the pace it is written."""
        ffmpeg = requires("ffmpeg")
        if source is None:
            read = ["-fflags", "nobuffer", "-analyzeduration", "500k", "-probesize", "100k", "-f", form, "-i", "pipe:0"]
        else:
            read = ["-re", *(["-stream_loop", "-1"] if loop else []), "-i", str(source)]
        command = [ffmpeg, "-hide_banner", "-loglevel", "warning", *read, "-c", "copy", "-f", "flv", self.rtmp_url(stream)]
        with spawn(command, self.folder / f"feed-{stream}.log", pipe=source is None) as child:
            yield child


@contextlib.asynccontextmanager
async def running(fragment: float = 6.0, window: float | None = None, down: float | None = None) -> AsyncIterator[Nginx]:
    """nginx-rtmp with HLS and DASH segments of `fragment` seconds and a playlist of `window` (default: five segments). `down`:
    under a supervisor, which starts it anew so many seconds after it ended."""
    command = requires("nginx")
    if not MODULE.exists():
        missing("nginx has no RTMP module (package libnginx-mod-rtmp)")
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        (folder / "hls").mkdir()
        (folder / "dash").mkdir()
        rtmp, http = free_port(), free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                module=MODULE,
                user="user root;" if os.geteuid() == 0 else "",
                folder=folder,
                rtmp=rtmp,
                http=http,
                fragment=f"{fragment:g}",
                window=f"{window or 5 * fragment:g}",
            )
        )
        run = supervised([command, "-e", "stderr", "-p", folder, "-c", configuration], down)
        with spawn(run, folder / "nginx.log") as child:
            await child.says("start worker process")
            yield Nginx(child, folder, rtmp, http)
