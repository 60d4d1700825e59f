"""The cluster's API, as faults use it: lightkube (kubeconfig with its plugins, or the pod's own account), each call bounded.

What its server says against us becomes `Denied` with status and reason; its messages quote names, never tokens. Imported when
a fault is used: whoever drills no cluster needs no library for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from probe.drill.faults.base import NotUndone, Observed, Record, Refused, State
from probe.errors import ProbeError

if TYPE_CHECKING:
    from lightkube import AsyncClient

LABEL = "stream-probe.drill"
WITHIN = 5.0  # s for one call
MOST = 500  # objects that a selector may match
_SHOWN = 160
T = TypeVar("T")


class Denied(ProbeError):
    """The API did not do it. `status` 0: it could not be asked."""

    def __init__(self, words: str, status: int = 0) -> None:
        self.status = status
        super().__init__(words[:_SHOWN])


def kubeconfig() -> str:
    """The kubeconfig that will be used, by its absolute path, so that another process uses the same; empty: the pod's account."""
    named = os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
    path = Path(named or "~/.kube/config").expanduser()
    return str(path.resolve()) if named or path.exists() else ""


@asynccontextmanager
async def connected(record: Record) -> AsyncIterator[AsyncClient]:
    """A client of `record`'s kubeconfig, context and namespace. Raises Denied."""
    try:
        import httpx2
        from lightkube import AsyncClient, KubeConfig
        from lightkube.core.exceptions import ConfigError as BadKubeconfig
    except ImportError:
        raise Denied("lightkube is not installed here: pip install 'stream-probe[kubernetes]'") from None
    try:
        path = record["kubeconfig"]
        known = KubeConfig.from_file(path) if path else KubeConfig.from_service_account()
        single = known.get(record["context"] or None)
        if single is None:
            raise Denied(f"the kubeconfig has no context {record['context'] or '(current)'}")
        client = AsyncClient(config=single, namespace=record.get("namespace") or None, timeout=httpx2.Timeout(WITHIN))
    except (BadKubeconfig, OSError, AssertionError) as error:
        raise Denied(f"no cluster can be reached: {str(error) or type(error).__name__}") from None
    try:
        yield client
    finally:
        await client.close()


async def asked(call: Awaitable[Any]) -> Any:
    """What the API answers; untyped, since to the library every field may be missing, to the API not those that we read.
    Raises Denied."""
    import httpx2
    from lightkube.core.exceptions import ApiError

    try:
        async with asyncio.timeout(WITHIN):
            return await call
    except ApiError as error:
        status = error.status
        raise Denied(f"the API answers {status.code} {status.reason}: {status.message}", int(status.code or 0)) from None
    except httpx2.HTTPStatusError as error:
        raise Denied(f"the API answers {error.response.status_code}", error.response.status_code) from None
    except TimeoutError:
        raise Denied(f"the API did not answer within {WITHIN:g} s") from None
    except (httpx2.HTTPError, ValueError, OSError) as error:
        raise Denied(f"the API cannot be asked: {type(error).__name__}") from None


async def listed(objects: AsyncIterator[Any]) -> list[Any]:
    """All of a list, at most MOST. Raises Denied."""

    async def take() -> list[Any]:
        found = []
        async for one in objects:
            found.append(one)
            if len(found) > MOST:
                raise Denied(f"matches more than {MOST} objects")
        return found

    found: list[Any] = await asked(take())
    return found


async def refusing(call: Callable[[], Awaitable[T]], where: str = "") -> T:
    """For `prepare`: what is denied is refused."""
    try:
        return await call()
    except Denied as denied:
        raise Refused(str(denied), where) from None


async def looking(call: Callable[[], Awaitable[Observed]]) -> Observed:
    """For `observe`: what could not be looked at is unknown."""
    try:
        return await call()
    except Denied as denied:
        return Observed(State.UNKNOWN, str(denied))


async def undoing(call: Callable[[], Awaitable[None]]) -> None:
    """For `restore`: what is denied is not undone."""
    try:
        await call()
    except Denied as denied:
        raise NotUndone(str(denied)) from None


def selector(labels: str) -> dict[str, str]:
    """`app=origin,tier=edge` → labels; only equality, which lists and policies take alike. Raises Refused."""
    found = {}
    for part in labels.split(","):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not (name and separator and value) or "!" in name or value.startswith("="):
            raise Refused(f"{labels!r} is no selector; write name=value, joined by commas", "pods")
        found[name] = value
    return found


def ready(pod: Any) -> bool:
    """Serving, as its services see it."""
    status = pod.status
    conditions = (status.conditions if status is not None else None) or ()
    return pod.metadata.deletionTimestamp is None and any(c.type == "Ready" and c.status == "True" for c in conditions)
