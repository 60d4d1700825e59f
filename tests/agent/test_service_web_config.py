"""Prometheus' web-config file: what it may say, and who is let in by it."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from pathlib import Path

import aiohttp
import bcrypt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from probe.agent.service import auth
from probe.agent.service.listening import serving
from probe.agent.service.web_config import read_web_config
from probe.clock import SystemClock
from probe.errors import ConfigError
from tests.agent.desks import Desk, served
from tests.agent.test_service import probed
from tests.net.servers import Authority
from tests.tools import wait_until

PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users: {{scraper: '{HASH}'}}\n"


def written(folder: Path, text: str) -> Path:
    (folder / "web.yaml").write_text(text)
    return folder / "web.yaml"


def login(user: str, password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(user, password)}


KNOWN = login("scraper", PASSWORD)


def tls(certificate: Path, more: str = "") -> str:
    return f"tls_server_config: {{cert_file: {certificate.name}, key_file: {certificate.name}{more}}}\n"


def secure(url: str) -> str:
    return url.replace("http://", "https://")


MISTAKES = [
    ("[]", ":1:1 is not a mapping; it may hold tls_server_config, http_server_config and basic_auth_users"),
    ("tls_server_confg: {}", ":1:1 tls_server_confg: unknown field; did you mean 'tls_server_config'?"),
    ("tls_server_config: {key_file: k}", ":1:20 tls_server_config.cert_file: is missing"),
    (
        "tls_server_config: {cert_file: no.pem, key_file: no.key}",
        ":1:32 tls_server_config.cert_file: no.pem cannot be read: No such file or directory\n"
        ":1:50 tls_server_config.key_file: no.key cannot be read: No such file or directory",
    ),
    (
        "tls_server_config: {cert_file: web.yaml, key_file: web.yaml}",
        ":1:32 tls_server_config.cert_file: holds no certificate as PEM",
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}",
        ":1:61 tls_server_config.min_version: is broken; use TLS12 or TLS13",
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAnyClientCert}",
        ":1:66 tls_server_config.client_auth_type: takes certificates that nobody verifies; "
        "use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}",
        ":1:20 tls_server_config: client_ca_file and a client_auth_type that verifies go together",
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, cipher_suites: [TLS_AES_128_GCM_SHA256]}",
        ":1:20 tls_server_config: cipher_suites is known to Prometheus, and not supported here",
    ),
    ("rate_limit: {interval: 1s}", ":1:1 rate_limit is known to Prometheus, and not supported here"),
    ("basic_auth_users: {a: hunter2}", ":1:23 basic_auth_users.a: is not a bcrypt hash; make one with: htpasswd -nBC 10 USER"),
    ("basic_auth_users: {a: 12345}", ":1:23 basic_auth_users.a: is not a bcrypt hash; make one with: htpasswd -nBC 10 USER"),
    (
        "basic_auth_users: {a: $2b$20$" + "a" * 53 + "}",
        ":1:23 basic_auth_users.a: its cost is 20; at most 14, or each password that is tried takes seconds",
    ),
    (
        'http_server_config: {headers: {X-Frame-Options: "a\\r\\nb: c"}}',
        ":1:49 http_server_config.headers.X-Frame-Options: is not one line of plain text",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[text[:60] for text, _ in MISTAKES])
def test_a_file_that_is_wrong_says_where_and_never_what_may_be_a_password(text: str, message: str, tmp_path: Path):
    path = written(tmp_path, text + "\n")
    with pytest.raises(ConfigError) as caught:
        read_web_config(path)
    found = str(caught.value).replace(str(path), "")
    assert found == message
    assert "hunter2" not in found and "12345" not in found


def test_a_key_that_is_anothers_or_locked_is_said_and_not_asked_for(tmp_path: Path):
    authority = Authority(tmp_path)
    certificate, other = authority.pem("127.0.0.1"), authority.pem("other")
    text = f"tls_server_config: {{cert_file: {certificate.name}, key_file: {other.name}}}\n"
    with pytest.raises(ConfigError, match="key_file: is not the key of cert_file"):
        read_web_config(written(tmp_path, text))
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    other.write_bytes(locked)
    with pytest.raises(ConfigError, match="locked by a passphrase"):
        read_web_config(written(tmp_path, text))
    other.write_text("hello")
    with pytest.raises(ConfigError, match="key_file: holds no private key"):
        read_web_config(written(tmp_path, text))


async def test_a_file_that_is_wrong_is_found_before_anything_is_served(tmp_path: Path):
    with pytest.raises(ConfigError, match="web.yaml:1:23"):
        async with serving(Desk(), ("127.0.0.1", 0), written(tmp_path, "basic_auth_users: {a: b}\n"), SystemClock()):
            pass


def test_an_empty_file_guards_nothing_and_http2_may_be_written(tmp_path: Path):
    assert not read_web_config(written(tmp_path, "")).authenticates
    assert read_web_config(written(tmp_path, "http_server_config: {http2: false}\n")).tls is None


async def test_tls_is_spoken_from_the_version_it_says(tmp_path: Path):
    authority = Authority(tmp_path)
    web = written(tmp_path, tls(authority.pem("127.0.0.1"), ", min_version: TLS13"))
    desk, old = Desk(), authority.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with served(desk, web) as (client, url):
        async with client.get(f"{secure(url)}/metrics", ssl=authority.client()) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"{secure(url)}/metrics", ssl=old)
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"{url}/metrics")
        await wait_until(lambda: desk.count("self_http_dropped_total", kind="handshake") >= 2)


async def test_who_has_no_certificate_of_the_authority_is_not_let_in(tmp_path: Path):
    authority = Authority(tmp_path)
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    wanted = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem"
    web = written(tmp_path, tls(authority.pem("127.0.0.1"), wanted))
    known, desk = authority.client(), Desk()
    known.load_cert_chain(authority.pem("prometheus"))
    async with served(desk, web) as (client, url):
        async with client.post(f"{secure(url)}/-/reload", ssl=known, headers={"X-Forwarded-For": "10.0.0.1"}) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"{secure(url)}/metrics", ssl=authority.client())


async def test_a_password_is_asked_for_checked_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checked: list[str] = []
    matches = auth._matches

    def counted(password: str, hashed: str) -> bool:
        checked.append(password)
        return matches(password, hashed)

    monkeypatch.setattr(auth, "_matches", counted)
    wrong = [login("scraper", "x" * 100), login("scraper", "nul\0"), login("nobody", PASSWORD)]
    async with served(Desk(), written(tmp_path, USERS)) as (client, url):
        async with client.get(f"{url}/metrics") as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        for _ in range(3):
            async with client.get(f"{url}/metrics", headers=KNOWN) as answer:
                assert answer.status == 200
            for one in wrong:
                async with client.get(f"{url}/metrics", headers=one) as answer:
                    assert answer.status == 401
        assert len(checked) == 4  # one of which was nobody's: an unknown name costs what a known one does
        for header in ("Basic", "Basic %%%", "Basic /w==", "Bearer x", "Basic " + "QQ==" * 1000):
            async with client.get(f"{url}/runs", headers={"Authorization": header}) as answer:
                assert answer.status == 401
        assert len(checked) == 4


async def test_guesses_do_not_keep_out_who_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    held, matches = threading.Event(), auth._matches
    async with served(Desk(), written(tmp_path, USERS)) as (client, url):

        async def status(user: dict[str, str]) -> int:
            async with client.get(f"{url}/metrics", headers=user) as answer:
                return answer.status

        assert await status(KNOWN) == 200
        monkeypatch.setattr(auth, "_matches", lambda password, hashed: held.wait(10) and matches(password, hashed))
        async with asyncio.TaskGroup() as group:
            guesses = [group.create_task(status(login("scraper", f"guess {n}"))) for n in range(auth._LINE + 4)]
            await wait_until(lambda: sum(guess.done() for guess in guesses) == 4)
            assert await status(KNOWN) == 200
            held.set()
        assert sorted(guess.result() for guess in guesses) == [401] * auth._LINE + [503] * 4


async def test_health_needs_no_password_and_tells_strangers_no_reasons(tmp_path: Path):
    desk = Desk()
    desk.unready = ["the configuration is not taken: agent.yaml:3:1"]
    async with served(desk, written(tmp_path, USERS)) as (client, url):
        async with client.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        async with client.get(f"{url}/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "503 Service Unavailable\n")
        async with client.get(f"{url}/readyz", headers=KNOWN) as answer:
            assert desk.unready[0] in await answer.text()


async def test_without_authentication_only_this_machine_sets_something_going(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    desk = Desk()
    desk.probing = lambda *_: probed(True)
    strangers = [
        {"X-Forwarded-For": "10.0.0.7"}, {"Forwarded": "for=10.0.0.7"}, {"Host": "agent.example"}, {"Host": "[x"},
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
    ]  # fmt: skip
    async with served(desk, host="0.0.0.0") as (client, url):
        for stranger in strangers:
            for method, path in (("POST", "/-/reload"), ("GET", "/probe?scenario=x")):
                async with client.request(method, url + path, headers=stranger) as answer:
                    assert answer.status == 403, stranger
            async with client.get(f"{url}/metrics", headers=stranger) as answer:
                assert answer.status == 200
        assert (desk.reloads, desk.asked) == (0, [])
        async with client.post(f"{url}/-/reload") as answer:
            assert answer.status == 200
    assert "there is no authentication" in caplog.text
    caplog.clear()
    async with served(desk, written(tmp_path, USERS), host="0.0.0.0") as (client, url):
        async with client.post(f"{url}/-/reload", headers={**KNOWN, "X-Forwarded-For": "10.0.0.7"}) as answer:
            assert answer.status == 200
        async with client.post(f"{url}/-/reload", headers={**KNOWN, "Origin": "https://evil.example"}) as answer:
            assert answer.status == 403
    assert "there is no authentication" not in caplog.text


@pytest.mark.parametrize(("peer", "here"), [
    ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::1%lo", True), ("10.0.0.1", False),
    ("::ffff:10.0.0.1", False), ("fe80::1%eth0", False), ("localhost", False), ("", False),
])  # fmt: skip
def test_which_addresses_are_this_machine(peer: str, here: bool):
    assert auth.is_loopback(peer) is here


async def test_headers_of_the_file_come_before_ours(tmp_path: Path):
    headers = '{X-Frame-Options: SAMEORIGIN, Strict-Transport-Security: max-age=60, X-Content-Type-Options: ""}'
    web = written(tmp_path, f"http_server_config: {{headers: {headers}}}\n")
    async with served(Desk(), web) as (client, url), client.get(f"{url}/") as answer:
        assert answer.headers.getall("X-Frame-Options") == ["SAMEORIGIN"]
        assert answer.headers["Strict-Transport-Security"] == "max-age=60"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_file_is_read_again_when_it_changes_and_kept_as_it_was_where_it_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "probe")
    web, desk = written(tmp_path, ""), Desk()
    async with served(desk, web, look=0.05) as (client, url):

        async def status(path: str, wanted: int) -> bool:
            async with client.get(url + path) as answer:
                return answer.status == wanted

        assert await status("/metrics", 200)
        written(tmp_path, USERS)
        await wait_until(lambda: status("/metrics", 401))
        written(tmp_path, "basic_auth_users: {a: hunter2}\n")
        await wait_until(lambda: status("/readyz", 503))
        assert await status("/metrics", 401)
        written(tmp_path, "{}\n")
        await wait_until(lambda: status("/readyz", 200))
        assert await status("/metrics", 200)
    assert "hunter2" not in caplog.text and "web.yaml:1:23" in caplog.text


async def test_a_certificate_that_is_renewed_holds_for_the_next_client(tmp_path: Path):
    first, second = Authority(tmp_path), Authority(tmp_path)
    certificate = first.pem("127.0.0.1")
    async with served(Desk(), written(tmp_path, tls(certificate)), look=0.05) as (_, url):

        async def takes(authority: Authority) -> bool:
            async with aiohttp.ClientSession() as client:
                try:
                    async with client.get(f"{secure(url)}/healthz", ssl=authority.client()) as answer:
                        return answer.status == 200
                except aiohttp.ClientSSLError:
                    return False

        assert await takes(first)
        assert not await takes(second)
        assert second.pem("127.0.0.1") == certificate
        await wait_until(lambda: takes(second))
