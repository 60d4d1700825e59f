"""`${…}` at run time: what the run is, what steps kept, and secrets, which are read once and known to the redactor.

A secret's value leaves this file in two ways only: inside a request that goes to an origin the scenario names, and inside
a Credential, whose repr hides it.

What a server answered is a value, never a template: it is filled in once and not looked at again. Inside an address it
stays the piece it stands for: it begins no query, fragment or other directory, for the request may go to another service
than the one that answered, and with somebody's token.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from probe.errors import ConfigError, DriverBug, Located, Misconfigured
from probe.model.srt import passphrase_misfit
from probe.net.client import Credential, origin_of
from probe.net.redact import Redactor
from probe.net.secret import named, read_secret
from probe.plan import CutStep, HttpCall, HttpStep, Plan, PublishStep, ViewStep, WebsocketStep

_REFERENCE = re.compile(r"\$\{([^{}]+)\}")
_SECRET_NAME = re.compile(r"token|secret|password|passwd|credential|api_?key", re.IGNORECASE)
_MAX_VALUE = 16 * 1024
_SHORTEST_SECRET = 4
_SECRET_PART = 12
_ADDRESS_PARTS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*|[/?#&=]")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_IN_PATH, _IN_QUERY = "/:@!$&'()*+,;=%", "/:@!$&'()*+,;=%?"
_DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


class SecretMisplaced(Misconfigured):
    """A step would send a secret where the scenario does not say it goes. Nothing was sent."""


class Vars:
    """The values of one run. `redactor` learns every secret before anything can be sent."""

    def __init__(self, plan: Plan, redactor: Redactor) -> None:
        self._plan = plan
        self._redactor = redactor
        self._secrets: dict[str, str] = {}
        self._values: dict[str, Any] = {
            "run.id": plan.run_id,
            "run.number": plan.run_number,
            "run.tag": f"probe-{plan.run_id}",
            "region": plan.region,
            "publish_region": plan.publish_region,
            "platform.url": plan.platform_url,
        }
        self._in_urls = {name for url in _urls(plan) for name in _REFERENCE.findall(url)}
        self._tokens = {name for token in plan.accounts.values() for name in _REFERENCE.findall(token)}

    def load_secrets(self) -> None:
        """Read every secret the plan names. Raises ConfigError naming all that are missing, or that are no SRT passphrase where
        they are to be one."""
        missing: list[Located] = []
        for name, ref in self._plan.secrets.items():
            try:
                self._secrets[name] = value = read_secret(ref.source)
                self._redactor.add(value)
                for part in _ADDRESS_PARTS.split(value) if _ABSOLUTE.match(value) else ():
                    if len(part) >= _SECRET_PART:  # of an address that is a secret, its paths are
                        self._redactor.add(part)
            except OSError as error:
                what = f"{named(ref.source)} {error.strerror}"
                missing.append(Located(self._plan.scenario, 0, 0, f"platform.secrets.{name}", what))
        passphrases = {match[1] for text in _passphrases(self._plan) if (match := _REFERENCE.fullmatch(text))}
        for name, value in self._secrets.items():
            if f"secret.{name}" in passphrases and (misfit := passphrase_misfit(value)):
                missing.append(Located(self._plan.scenario, 0, 0, f"platform.secrets.{name}", f"is {misfit}"))
        if missing:
            raise ConfigError(missing)

    def text(self, template: str, own: Mapping[str, str] | None = None) -> str:
        """The template with every reference filled in. `own`: values of this one session."""
        return _REFERENCE.sub(lambda match: (own or {}).get(match[1]) or str(self._value(match[1])), template)

    def items(self, name: str, at_most: int) -> list[str]:
        """The first texts or numbers of a kept list. Raises ValueError where it is none, or holds what no address can."""
        try:
            found = json.loads(self.text(f"${{{name}}}"))
        except ValueError:
            found = None
        if not isinstance(found, list):
            raise ValueError(f"{name} is not a list")
        items = [str(item) for item in found if isinstance(item, str | int)][:at_most]
        for item in items:
            _check_value(item, in_url=True)
        return items

    def data(self, template: Any) -> Any:
        """The same through lists and mappings; a string that is one reference keeps its value's type."""
        match template:
            case str():
                whole = _REFERENCE.fullmatch(template)
                return self._value(whole[1]) if whole else self.text(template)
            case Mapping():
                return {key: self.data(value) for key, value in template.items()}
            case list() | tuple():
                return [self.data(value) for value in template]
            case _:
                return template

    def url(self, template: str, own: Mapping[str, str] | None = None) -> str:
        """Absolute: a path is taken under the platform's URL. `own`: values of this one session."""

        def piece(match: re.Match[str]) -> str:
            value = (own or {}).get(match[1]) or str(self._value(match[1]))
            if match.start() == 0 or "." in match[1]:
                return value  # an address or path of its own; what the run provides
            return quote(value, safe=_IN_QUERY if "?" in template[: match.start()] else _IN_PATH)

        url = _REFERENCE.sub(piece, template)
        return url if _ABSOLUTE.match(url) else self.text(self._plan.platform_url).rstrip("/") + "/" + url.lstrip("/")

    def guard_media(self, url: str, *templates: str) -> None:
        """Raises SecretMisplaced where a secret beside a media address is not for that address's origin."""
        for name in self._secret_names(templates):
            try:
                target = origin_of(url)
            except ValueError:
                raise SecretMisplaced(f"secret {name} goes with an address, and what stands there is none") from None
            if target not in {origin_of(self.text(origin)) for origin in self._plan.secrets[name].origins}:
                raise SecretMisplaced(f"secret {name} is not for {target}; name that origin in platform.secrets.{name}.for")

    def guard(self, call: HttpCall) -> None:
        """Raises SecretMisplaced where the call would carry a secret to an origin that the scenario did not give it."""
        names = self._secret_names((call.url, call.json, dict(call.headers)))
        target = origin_of(self.url(call.url)) if names else ""
        for name in names:
            if target not in {origin_of(self.text(origin)) for origin in self._plan.secrets[name].origins}:
                raise SecretMisplaced(f"secret {name} is not for {target}; name that origin in platform.secrets.{name}.for")

    def _secret_names(self, template: Any) -> set[str]:
        match template:
            case str():
                return {name[7:] for name in _REFERENCE.findall(template) if name.startswith("secret.")}
            case Mapping():
                return {name for value in template.values() for name in self._secret_names(value)}
            case list() | tuple():
                return {name for value in template for name in self._secret_names(value)}
            case _:
                return set()

    def keep(self, name: str, value: Any) -> None:
        """Remember what a step kept; an account's token, and a name that sounds like a secret, are treated as one.

        Raises ValueError for what no text, or no part of an address where it is to be one, can hold."""
        secret = name in self._tokens or _SECRET_NAME.search(name) is not None
        for text in _strings(value) if secret else ():
            if len(text) >= _SHORTEST_SECRET:
                self._redactor.add(text)
        if not isinstance(value, str | int | float | bool):
            try:
                value = json.dumps(value)
            except RecursionError:
                raise ValueError("nested too deeply") from None
        _check_value(value, in_url=name in self._in_urls)
        self._values[name] = value

    def has(self, name: str) -> bool:
        return name in self._values

    def unknown(self, template: Any) -> list[str]:
        """Names in the template that nothing has provided so far."""
        match template:
            case str():
                names = _REFERENCE.findall(template)
                return [
                    name
                    for name in names
                    if name not in self._values and not (name.startswith("secret.") and name[7:] in self._secrets)
                ]
            case Mapping():
                return [name for value in template.values() for name in self.unknown(value)]
            case list() | tuple():
                return [name for value in template for name in self.unknown(value)]
            case _:
                return []

    def credential(self, account: str | None) -> Credential | None:
        """Whose bearer token goes along: None where the account has none. Bound to the platform's origin, or, for a secret
        used as it is, to the origins that the scenario gives it."""
        template = self._plan.accounts.get(account or "")
        if template is None:
            return None
        match = _REFERENCE.fullmatch(template)
        if match and match[1].startswith("secret."):
            origins = frozenset(origin_of(self.text(o)) for o in self._plan.secrets[match[1][7:]].origins)
        else:
            if match and not self.has(match[1]):
                return None
            origins = frozenset({origin_of(self._plan.platform_url)})
        return Credential(self.text(template), origins)

    def _value(self, name: str) -> Any:
        if name.startswith("secret."):
            return self._secrets[name[7:]]
        try:
            return self._values[name]
        except KeyError:
            raise DriverBug(f"nothing has provided ${{{name}}} yet") from None


def _urls(plan: Plan) -> Iterator[str]:
    """Every address of the plan, as written."""
    for step in (*plan.journey, *plan.final):
        match step:
            case HttpStep():
                yield from (url for url in (step.call.url, step.undo.url if step.undo else None, step.socket) if url)
            case WebsocketStep() | PublishStep():
                yield step.url
            case ViewStep():
                yield from (view.url for view in step.views)
            case CutStep():
                yield from (call.url for call in (step.call,) if call)
            case _:
                pass


def _passphrases(plan: Plan) -> Iterator[str]:
    """Every passphrase of the plan, as written."""
    for step in (*plan.journey, *plan.final):
        for what in (step,) if isinstance(step, PublishStep) else step.views if isinstance(step, ViewStep) else ():
            if what.protocol == "srt":
                yield what.access.passphrase


def _strings(value: Any) -> Iterator[str]:
    """What a kept secret consists of; as deep as a secret may lie."""
    match value:
        case bool() | None:
            pass
        case str() | int() | float():
            yield str(value)
        case Mapping():
            yield from (text for item in value.values() if isinstance(item, str) for text in _strings(item))
        case list():
            yield from (text for item in value if isinstance(item, str) for text in _strings(item))
        case _:
            pass


def _check_value(value: str | int | float | bool, *, in_url: bool) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number beyond all numbers")
    text = str(value)
    if len(text) > _MAX_VALUE:
        raise ValueError(f"longer than {_MAX_VALUE} characters")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("half a character")
    if in_url and (not text or not text.isprintable() or _DOTS.search(text)):
        raise ValueError("nothing that may stand in an address")
