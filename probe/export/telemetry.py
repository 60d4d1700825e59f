"""An agent's telemetry by OTLP/HTTP: traces and metrics, through a spool each, to one collector.

Two spools because they fail apart: a collector that takes no metrics must not hold traces back, and neither may crowd the other
out of the disk. Whatever the collector does, those who measure see two calls that return at once: `traces` puts spans into a
short queue, and a snapshot of the metrics is taken every few seconds by a task; encoding, compressing and the disk are a
thread's of our own.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from probe.errors import ConfigError, Located
from probe.export import otlp_spans
from probe.export.families import Families
from probe.export.otlp_metrics import Snapshots
from probe.export.otlp_rules import REFUSALS
from probe.export.otlp_sender import Sender, packed
from probe.export.sampling import drawn
from probe.export.spans import Span
from probe.export.spool import Counts, Spool
from probe.export.spool_figures import SpoolFigures
from probe.model.clock import Clock
from probe.version import VERSION

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_MOST_WAITING = 100  # traces between those who measure and the thread
_FIGURES_SECONDS = 1.0
CLOSING_SECONDS = 5.0
_WHYS = ("busy", "unencodable", *REFUSALS)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to and how much. `endpoint` is the base address (`/v1/traces` is added), empty where nothing is to be sent;
    `headers` reads the secrets that go with it and may fail; `every` in seconds; `share` of the traces that nobody will ask
    about; `limit` in bytes on disk; `certificate`: of an authority of one's own, PEM."""

    endpoint: str
    region: str
    instance: str
    headers: Callable[[], Mapping[str, str]] = dict
    every: float = 15.0
    share: float = 0.1
    limit: int = 256_000_000
    certificate: Path | None = None


class Telemetry:
    """`opened` makes one; nothing here raises, and nothing but `flush` waits."""

    def __init__(self, settings: Settings, families: Families, clock: Clock) -> None:
        self._settings, self._families, self._clock = settings, families, clock
        self._about = {
            "service.name": "stream-probe",
            "service.version": VERSION,
            "service.instance.id": settings.instance,
            "streamprobe.region": settings.region,
        }
        self._snapshots = Snapshots(families.registry, self._about, clock.wall().unix_ns)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="telemetry")
        self._waiting: deque[Sequence[Span]] = deque()
        self._encoding = False
        self._came = asyncio.Event()
        self._spools: dict[str, Spool] = {}
        self._senders: dict[str, Sender] = {}
        self._figures: list[Callable[[], None]] = []
        for outcome in ("kept", "sampled_out"):
            families.touch("self_traces_total", {"outcome": outcome})

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings, families: Families, clock: Clock, directory: Path) -> AsyncIterator[Telemetry]:
        """Sends while the block lasts, and for at most five seconds after it; what is left then waits in `directory` for the
        next time. Raises ConfigError for an endpoint or certificate that cannot be used, SpoolInUse for a directory that
        another process has."""
        telemetry = cls(settings, families, clock)
        broke: Exception | None = None
        async with AsyncExitStack() as stack:
            stack.callback(telemetry._executor.shutdown)
            if settings.endpoint:
                await telemetry._open(stack, directory)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(task) for task in telemetry._tasks()]
                try:
                    yield telemetry
                except Exception as error:
                    broke = error  # not through the group, which would wrap it
                finally:
                    await telemetry.flush(CLOSING_SECONDS)
                    for task in tasks:
                        task.cancel()
        if broke is not None:
            raise broke

    def traces(self, spans: Sequence[Span], keep: bool) -> None:
        """One run's spans. `keep`: whatever the sampling says."""
        if not spans or not self._senders:
            return
        keep = keep or drawn(spans[0].trace_id, self._settings.share)
        self._families.add("self_traces_total", {"outcome": "kept" if keep else "sampled_out"})
        if not keep:
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()
            self._spools["traces"].missed("busy")
        self._waiting.append(spans)
        self._came.set()

    async def flush(self, deadline: float) -> bool:
        """Take a snapshot now and send all there is; returns whether within `deadline` seconds everything was delivered (or
        refused for good)."""
        try:
            async with asyncio.timeout(deadline):
                if self._senders:
                    await self._snapshot()
                for sender in self._senders.values():
                    sender.hurry()  # once: whoever refuses everything is not to be fed all there is in the last seconds
                while self._waiting or self._encoding or any(spool.count for spool in self._spools.values()):  # noqa: ASYNC110  # threads empty them
                    await asyncio.sleep(0.05)
                return True
        except TimeoutError:
            return False
        finally:
            self.refresh()

    def counts(self) -> dict[str, Counts]:
        """What became of everything, by kind: traces and metrics."""
        return {kind: spool.counts() for kind, spool in self._spools.items()}

    def refresh(self) -> None:
        """Carry our own figures into the metrics; done every second by itself."""
        for figures in self._figures:
            figures()

    async def _open(self, stack: AsyncExitStack, directory: Path) -> None:
        base = _base(self._settings.endpoint)
        context = await self._in_thread(partial(_trust, self._settings.certificate)) if base.scheme == "https" else True
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                # Idle connections are closed before the other side does: a request that meets that would look like a failure.
                connector=aiohttp.TCPConnector(ssl=context, limit=4, keepalive_timeout=2.0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"stream-probe/{VERSION}"},
                auto_decompress=False,
            )
        )
        for kind in ("traces", "metrics"):
            spool = await self._in_thread(partial(Spool, directory, self._settings.limit // 2, name=kind))
            stack.push_async_callback(self._in_thread, spool.close)
            sender = Sender(
                kind,
                base / "v1" / kind,
                spool,
                session=session,
                headers=self._settings.headers,
                clock=self._clock,
                executor=self._executor,
            )
            self._spools[kind], self._senders[kind] = spool, sender
            figures = SpoolFigures(self._families, spool, _WHYS)
            self._figures += [figures.refresh, _Delivered(self._families, sender).refresh]

    def _tasks(self) -> list[Coroutine[Any, Any, None]]:
        if not self._senders:
            return []
        return [self._encode(), self._measure(), self._tell(), *(sender.run() for sender in self._senders.values())]

    async def _encode(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            while self._waiting:
                self._encoding = True
                await self._in_thread(partial(self._put_spans, self._waiting.popleft()))
                self._encoding = False
                self._senders["traces"].wake()

    async def _measure(self) -> None:
        while True:
            await self._snapshot()
            await asyncio.sleep(self._settings.every)

    async def _tell(self) -> None:
        while True:
            self.refresh()
            await asyncio.sleep(_FIGURES_SECONDS)

    async def _snapshot(self) -> None:
        self.refresh()
        await self._in_thread(partial(self._put_metrics, self._clock.wall().unix_ns))
        self._senders["metrics"].wake()

    def _put_spans(self, spans: Sequence[Span]) -> None:
        spool = self._spools["traces"]
        try:
            for payload in otlp_spans.payloads(spans, self._about):
                spool.put(packed(payload))
        except Exception:
            spool.missed("unencodable")
            _log.exception("a trace could not be encoded")

    def _put_metrics(self, now: int) -> None:
        spool = self._spools["metrics"]
        try:
            for payload in self._snapshots.take(now):
                spool.put(packed(payload))
        except Exception:
            spool.missed("unencodable")
            _log.exception("metrics could not be encoded")

    async def _in_thread(self, what: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, what)


class _Delivered:
    """Carries what a sender knows into metrics."""

    def __init__(self, families: Families, sender: Sender) -> None:
        self._families, self._sender = families, sender
        self._kind = {"kind": sender.kind}
        self._sent = self._rejected = 0
        for name in ("self_telemetry_sent_total", "self_telemetry_rejected_total"):
            families.touch(name, self._kind)

    def refresh(self) -> None:
        sent, rejected, up = self._sender.sent, self._sender.rejected, self._sender.up
        self._families.add("self_telemetry_sent_total", self._kind, sent - self._sent)
        self._families.add("self_telemetry_rejected_total", self._kind, rejected - self._rejected)
        self._families.set("self_telemetry_up", self._kind, None if up is None else float(up))
        self._sent, self._rejected = sent, rejected


def _base(endpoint: str) -> URL:
    try:
        url = URL(endpoint)
        usable = url.scheme in ("http", "https") and bool(url.host)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError([Located("telemetry.endpoint", 0, 0, "", "is no address; write http://collector:4318")])
    return url.with_query(None).with_fragment(None)


def _trust(certificate: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certificate)
    except (OSError, ssl.SSLError) as error:
        said = error.strerror or "no certificate is in it"
        raise ConfigError([Located(str(certificate), 0, 0, "", f"cannot be used as a certificate authority: {said}")]) from error
