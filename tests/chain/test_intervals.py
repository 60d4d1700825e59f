"""Windows of wall time and a real Alertmanager agree, window by window, also on days on which clocks are changed.

One alert, a route for each window with a receiver of its own: whoever is told, their window is open.
"""

from __future__ import annotations

import io
import random
from datetime import UTC, date, datetime, timedelta

import pytest
from ruamel.yaml import YAML

from probe.rules.routing import stretches
from probe.rules.walltime import Window, spans
from tests.peers import alertmanager as peer
from tests.tools import wait_until

ZONES = (
    "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Etc/UTC",
    "Pacific/Auckland", "Africa/Casablanca",
)  # fmt: skip
# An ordinary noon, New York's first summer's day, Berlin's hour that comes twice (first and second time), a leap day.
MOMENTS = ("2026-06-17T12:00Z", "2026-03-08T07:30Z", "2026-10-25T00:30Z", "2026-10-25T01:30Z", "2028-02-29T23:30Z")


def windows(moment: datetime, rng: random.Random) -> list[Window]:
    """Some that are near enough to the moment to be open at it or just not."""
    out = []
    for _ in range(60):
        edges = sorted((rng.randrange(0, 1441, 30), rng.randrange(0, 1441, 30)))
        if edges[0] == edges[1]:
            continue
        if rng.random() < 0.5:
            days = tuple(sorted(rng.sample(range(7), rng.randint(1, 7))))
            out.append(Window(rng.choice(ZONES), edges[0], edges[1], days))
        else:
            on: date = (moment + timedelta(days=rng.randint(-1, 1))).date()
            out.append(Window(rng.choice(ZONES), edges[0], edges[1], on=on))
    return out


@pytest.mark.parametrize("text", MOMENTS)
async def test_a_window_is_open_where_alertmanager_says_so(text: str) -> None:
    moment = datetime.fromisoformat(text) + timedelta(seconds=1)
    some = windows(moment, random.Random(text))
    at = int(moment.timestamp())
    expected = {f"w{n}" for n, window in enumerate(some) if spans([window], at, at + 1)}
    assert 3 < len(expected) < len(some) - 3
    async with peer.receiving() as receiver:
        names = [f"w{n}" for n in range(len(some))]
        document = {
            "route": {
                "receiver": "last",
                "group_wait": "0s",
                "group_by": ["alertname"],
                "routes": [
                    *({"receiver": name, "active_time_intervals": [name], "continue": True} for name in names),
                    {"receiver": "last", "continue": True},
                ],
            },
            "receivers": [{"name": n, "webhook_configs": [{"url": f"{receiver.url}/{n}"}]} for n in (*names, "last")],
            "time_intervals": [{"name": n, "time_intervals": list(stretches([w]))} for n, w in zip(names, some, strict=True)],
        }
        out = io.StringIO()
        YAML().dump(document, out)
        async with peer.running({"alertmanager.yml": out.getvalue()}, at=moment.astimezone(UTC)) as running:
            await running.post({"alertname": "any"})
            await wait_until(lambda: receiver.told().keys() >= expected | {"last"}, 10.0, "every open window")
            await running.post({"alertname": "afterwards"})
            await wait_until(lambda: {"alertname": "afterwards"} in receiver.told()["last"], 5.0, "what was posted last")
            assert receiver.told().keys() - {"last"} == expected
