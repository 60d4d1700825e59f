"""What compose's `rules` makes for the local chain: Prometheus and Alertmanager take it, and the pager prints what it is told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.deploy.test_compose import SERVICES
from tests.deploy.test_configurations import DEPLOY
from tests.peers.alertmanager import amtool
from tests.tools import free_port, requires, spawn, wait_until


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    command = [str(part).replace("/etc/stream-probe", str(DEPLOY / "stack")) for part in SERVICES["rules"]["entrypoint"]]
    assert command[:2] == ["probe", "rules"]
    command[command.index("--out") + 1] = str(folder)
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_alertmanager_takes_what_is_made_and_calls_only_the_pager_of_compose(made: Path) -> None:
    file = made / SERVICES["alertmanager"]["command"][0].partition("/etc/made/")[2]
    assert "SUCCESS" in amtool("check-config", file)
    assert set(re.findall(r"url: http://(\w+):", file.read_text())) == {"pager"}


def test_prometheus_takes_its_rules(made: Path) -> None:
    promtool = requires("promtool", package="prometheus")
    (glob,) = re.findall(r'rule_files: \["/etc/made/(.*)"\]', (DEPLOY / "stack" / "prometheus.yml").read_text())
    files = sorted(made.glob(glob))
    assert files
    done = subprocess.run([promtool, "check", "rules", *files], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_the_pager_prints_a_line_an_alert_and_refuses_what_is_none(tmp_path: Path) -> None:
    port = free_port()
    script = tmp_path / "pager.py"
    script.write_text((DEPLOY / "stack" / "pager.py").read_text().replace("9099", str(port)))

    def post(body: object) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/pager", json.dumps(body).encode())
        try:
            return int(urllib.request.urlopen(request, timeout=5).status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except urllib.error.URLError:
            return 0

    alert = {"status": "firing", "labels": {"alertname": "A", "severity": "P1", "region": "eu"}, "annotations": {"summary": "s"}}
    with spawn([sys.executable, script], tmp_path / "log") as child:
        await wait_until(lambda: post({"alerts": [alert]}) == 200, 10.0, "the pager")
        bad: tuple[object, ...] = ([], {"alerts": [1]}, {"alerts": [{}]})
        assert [post(body) for body in bad] == [400, 400, 400]
        assert set(child.text().splitlines()) == {"pager: firing P1 A eu: s; do first: "}
