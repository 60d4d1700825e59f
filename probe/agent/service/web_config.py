"""Prometheus' web-config file: TLS, basic auth and headers of the HTTP service.

The format is prometheus/exporter-toolkit's `docs/web-configuration.md`, so that one file serves every exporter of a host. What
Python's TLS cannot do (client certificates that nobody verifies, Go's cipher suites and curves) is refused by name rather than
passed over: whoever wrote it down counts on it. HTTP/2 may be switched on or off in the file and is never offered.

No message repeats what stands where a password hash should: it may be the password.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from probe.errors import ConfigError
from probe.scenario.fields import Model
from probe.scenario.located import dotted, read, validated
from probe.scenario.text import Document, parse

Header = Literal[
    "Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "X-XSS-Protection", "Content-Security-Policy"
]
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_DEAREST = 14  # of bcrypt's costs: about a second of a core for each password that is tried
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_ABSENT = (
    "cert", "key", "client_ca", "client_allowed_sans", "cipher_suites", "prefer_server_cipher_suites", "curve_preferences",
)  # fmt: skip


def _bcrypt(value: Any) -> Any:
    match = _HASH.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is not a bcrypt hash; make one with: htpasswd -nBC 10 USER")
    if not 4 <= int(match[1]) <= _DEAREST:
        raise ValueError(f"its cost is {int(match[1])}; at most {_DEAREST}, or each password that is tried takes seconds")
    return value


def _header(value: Any) -> Any:
    if not isinstance(value, str) or not value.isprintable() or not value.isascii() or len(value) > 4096:
        raise ValueError("is not one line of plain text")
    return value


def _supported(value: Any, absent: tuple[str, ...]) -> Any:
    for name in absent if isinstance(value, dict) else ():
        if name in value:
            raise ValueError(f"{name} is known to Prometheus, and not supported here")
    return value


def _client_auth(value: Any) -> Any:
    if value in ("RequestClientCert", "RequireAnyClientCert"):
        raise ValueError("takes certificates that nobody verifies; use VerifyClientCertIfGiven or RequireAndVerifyClientCert")
    return value


def _version(value: Any) -> Any:
    if value in ("TLS10", "TLS11"):
        raise ValueError("is broken; use TLS12 or TLS13")
    return value


ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
Version = Annotated[Literal["TLS12", "TLS13"], BeforeValidator(_version)]


class TlsServer(Model):
    """Certificates. Paths are relative to the file."""

    cert_file: str = Field(min_length=1)
    key_file: str = Field(min_length=1)
    client_auth_type: Annotated[ClientAuth, BeforeValidator(_client_auth)] = "NoClientCert"
    client_ca_file: str | None = Field(None, min_length=1)
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"

    @model_validator(mode="before")
    @classmethod
    def _here(cls, value: Any) -> Any:
        return _supported(value, _ABSENT)

    @model_validator(mode="after")
    def _whole(self) -> TlsServer:
        if (self.client_auth_type == "NoClientCert") != (self.client_ca_file is None):
            raise ValueError("client_ca_file and a client_auth_type that verifies go together")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        return self


class HttpServer(Model):
    """`headers` are added to every answer, in place of ours of the same name; an empty one is none."""

    http2: bool = True
    headers: dict[Header, Annotated[str, BeforeValidator(_header)]] = Field({})


class WebFile(Model):
    """The file."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer(headers={})
    basic_auth_users: dict[Annotated[str, Field(min_length=1)], Annotated[str, BeforeValidator(_bcrypt)]] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _here(cls, value: Any) -> Any:
        return _supported(value, ("rate_limit",))


@dataclass(frozen=True, slots=True)
class Web:
    """How the service is guarded. `users`: bcrypt hashes by name; `files`: what it was read from."""

    tls: ssl.SSLContext | None = None
    certified: bool = False  # every client has shown a certificate that we verified
    users: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def authenticates(self) -> bool:
        return bool(self.users) or self.certified


def read_web_config(path: Path) -> Web:
    """Read the file and what it names. Raises ConfigError with every mistake."""
    document = parse(read(path), str(path))
    data = {} if document.data is None else document.data
    if not document.mistakes and not isinstance(data, dict):
        document.mistake((), "is not a mapping; it may hold tls_server_config, http_server_config and basic_auth_users")
    config = None if document.mistakes else validated(document, WebFile, data)
    if config is None:
        raise ConfigError(sorted(dict.fromkeys(document.mistakes), key=lambda m: (m.line, m.column)))
    files, context, certified = [path], None, False
    if (tls := config.tls_server_config) is not None:
        context = _context(document, tls, path.parent)
        files += [path.parent / name for name in (tls.cert_file, tls.key_file, tls.client_ca_file) if name]
        certified = tls.client_auth_type == "RequireAndVerifyClientCert"
    if document.mistakes:
        raise ConfigError(document.mistakes)
    headers: dict[str, str] = {name: value for name, value in config.http_server_config.headers.items() if value}
    return Web(context, certified, config.basic_auth_users, headers, tuple(files))


def _context(document: Document, tls: TlsServer, folder: Path) -> ssl.SSLContext | None:
    """What the certificates come to; None, with the mistakes in the document, where they come to nothing."""
    good = [_readable(document, folder, name, value) for name, value in (
        ("cert_file", tls.cert_file), ("key_file", tls.key_file), ("client_ca_file", tls.client_ca_file),
    ) if value is not None]  # fmt: skip
    if not all(good):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    context.set_alpn_protocols(["http/1.1"])
    asked: list[bool] = []

    def passphrase() -> str:  # which would be asked for at the terminal
        asked.append(True)
        return ""

    try:
        context.load_cert_chain(folder / tls.cert_file, folder / tls.key_file, password=passphrase)
    except ssl.SSLError as error:
        if not _certificates(folder / tls.cert_file):
            _wrong(document, "cert_file", "holds no certificate as PEM")
        elif asked:
            _wrong(document, "key_file", "is locked by a passphrase, which nobody can be asked for")
        else:
            mismatch = "MISMATCH" in (error.reason or "")
            _wrong(document, "key_file", "is not the key of cert_file" if mismatch else "holds no private key as PEM")
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(folder / tls.client_ca_file)
        except ssl.SSLError:
            _wrong(document, "client_ca_file", "holds no certificate as PEM")
        required = tls.client_auth_type == "RequireAndVerifyClientCert"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _readable(document: Document, folder: Path, name: str, value: str) -> bool:
    try:
        with (folder / value).open("rb"):
            return True
    except OSError as error:
        _wrong(document, name, f"{value} cannot be read: {error.strerror}")
    except ValueError:
        _wrong(document, name, "is not a path")
    return False


def _wrong(document: Document, name: str, message: str) -> None:
    place = ("tls_server_config", name)
    document.mistake(place, message, dotted(place))


def _certificates(path: Path) -> bool:
    """Whether there is one; OpenSSL does not say which of the files it was that it could not read."""
    from cryptography import x509  # 3 MiB that an agent without such a mistake does without

    try:
        return bool(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError):
        return False
