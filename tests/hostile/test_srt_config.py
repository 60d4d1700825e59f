"""What SRT cannot say is told before anything runs, with its place and a remedy; what only a run shows is ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.cli.files import vocabulary
from probe.drivers.base import Spec
from probe.drivers.srt_link import Target
from probe.errors import ConfigError, Failure, Misconfigured
from probe.model.clock import MS
from probe.model.observation import Role
from probe.model.outcome import Aborted
from probe.scenario.load import loads
from tests.drivers.srt_platform import platform
from tests.hostile.engine import run

TEXT = """scenario: x
owner: t
platform:
  url: http://127.0.0.1:1
  secrets: {s: {env: SRT_WORD, for: "srt://h:9"}}
journey:
  - p: {%s}
"""


def loaded(step: str, word: str) -> None:
    loads(TEXT % step, "x.yaml", env={"SRT_WORD": word}, words=vocabulary(), secrets=bool(word))


@pytest.mark.parametrize(("word", "how"), [("canary-98", "too short"), ("canary-" * 12, "too long"), ("ä" * 40, "too long")])
@pytest.mark.parametrize(
    ("step", "place"),
    [
        ("publish: srt, url: 'srt://h:9', passphrase: '${secret.s}'", "x.yaml:7:53 p.passphrase"),
        ("view: {via: srt, url: 'srt://h:9', passphrase: '${secret.s}', verify: moving}", "x.yaml:7:56 p.view.passphrase"),
        ("view: [{via: srt, url: 'srt://h:9', passphrase: '${secret.s}', verify: moving}]", "x.yaml:7:57 p.view[0].passphrase"),
    ],
)
def test_a_passphrase_of_impossible_length_is_told_at_load(step: str, place: str, word: str, how: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(step, word)
    said = str(caught.value)
    assert said == f"{place}: environment variable SRT_WORD is {how} for SRT, whose passphrases have 10 to 79 bytes"
    loaded(step, "ä" * 5)
    loaded(step, "x" * 79)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("latency: 65536ms", "7:50 p.latency: SRT tells its latency in whole ms, at most 65535; write for example 200ms"),
        ("latency: 2m", "7:50 p.latency: SRT tells its latency in whole ms, at most 65535; write for example 200ms"),
        ("latency: 900us", "7:50 p.latency: SRT tells its latency in whole ms, at most 65535; write for example 200ms"),
    ],
)
def test_a_latency_that_srt_cannot_say_is_told_at_load(step: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(f"publish: srt, url: 'srt://h:9', {step}", "")
    assert said in str(caught.value)


@pytest.mark.parametrize("value", ["65536", "-1", "1.5", "120ms", "", "9" * 20, "²"])
def test_so_is_one_in_an_address(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(f"publish: srt, url: 'srt://h:9?mode=caller&latency={value}'", "")
    assert "7:28 p.url: latency=" in str(caught.value) and "at most 65535; write for example latency=200" in str(caught.value)
    loaded("publish: srt, url: 'srt://h:9?latency=65535&streamid=a'", "")
    loaded("publish: srt, url: 'srt://h:9?latency=${run.number}'", "")


async def test_one_that_a_file_holds_is_told_before_anything_runs(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("canary-98\n")
    with pytest.raises(ConfigError, match=r"platform\.secrets\.s: is too short for SRT") as caught:
        await run(
            "  - view: {view: {via: srt, url: 'srt://127.0.0.1:9', passphrase: '${secret.s}', verify: moving}}\n",
            "http://127.0.0.1:9",
            tmp_path,
            platform=f"  secrets: {{s: {{file: {word}, for: 'srt://127.0.0.1:9'}}}}",
        )
    assert "canary" not in str(caught.value)


async def test_one_that_is_put_together_aborts_and_blames_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRT_WORD", "canary-" * 11)
    async with platform() as server:
        ran = await run(
            f"  - view: {{via: srt, url: '{server.url()}', passphrase: '${{secret.s}}${{run.number}}', verify: moving}}\n",
            "http://127.0.0.1:9",
            tmp_path,
            platform=f"  secrets: {{s: {{env: SRT_WORD, for: '{server.url()}'}}}}",
        )
        assert server.heard == 0
    outcome = ran.outcome("view")
    assert isinstance(outcome, Aborted) and "too long for SRT" in outcome.detail and "canary" not in repr(ran.facts), outcome


def spec(url: str, **more: object) -> Spec:
    return Spec(role=Role.VIEWER, protocol="srt", url=url, **more)  # type: ignore[arg-type]


def test_what_an_address_says_is_checked_again() -> None:
    for query in ("latency=65536", "latency=-1", "latency=1e3"):
        with pytest.raises(Failure) as caught:
            Target.of(spec(f"srt://h:9?{query}"))
        assert (caught.value.phase.value, caught.value.reason) == ("resolve", "failed")
    for given in (spec("srt://h:9?passphrase=canary-98"), spec("srt://h:9", passphrase="canary-98")):
        with pytest.raises(Misconfigured, match="too short") as misfit:
            Target.of(given)
        assert "canary" not in str(misfit.value)
    assert Target.of(spec("srt://h:9?latency=0")).latency == 0
    assert Target.of(spec("srt://h:9?latency=65535", latency=7 * MS)).latency == 7 * MS
