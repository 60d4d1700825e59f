"""Prometheus works here: it scrapes OpenMetrics with exemplars, and promtool objects to bad text."""

import prometheus_client
from aiohttp import web
from prometheus_client.openmetrics import exposition

from tests.peers import prometheus


async def test_a_scrape_brings_values_and_exemplars() -> None:
    registry = prometheus_client.CollectorRegistry()
    histogram = prometheus_client.Histogram("seen_seconds", "Seen.", registry=registry, buckets=(1.0, 2.0))
    histogram.observe(0.5, exemplar={"trace_id": "abc"})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition.generate_latest(registry), headers={"Content-Type": exposition.CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with prometheus.running([f"{host}:{port}"], labels={"region": "eu"}) as server:
            await server.scraped()
            values = await server.query("seen_seconds_count")
            (labels,) = values
            assert values[labels] == 1.0
            assert ("region", "eu") in labels
            (series,) = await server.exemplars("seen_seconds_bucket")
            assert series["exemplars"][0]["labels"] == {"trace_id": "abc"}
    finally:
        await runner.cleanup()


def test_promtool_passes_good_text_and_objects_to_bad() -> None:
    good = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n"
    assert prometheus.check_metrics(good) == []
    assert prometheus.check_metrics(good.replace("a_total", "a"))
    assert prometheus.check_metrics("not a metric at all\n")
