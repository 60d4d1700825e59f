"""`${…}` at run time: what the run is, what steps kept, and secrets, which are read once and known to the redactor.

A secret's value leaves this file in two ways only: inside a request that goes to an origin the scenario names, and inside
a Credential, whose repr hides it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.errors import ConfigError, DriverBug, Located, ProbeError
from probe.net.client import Credential, origin_of
from probe.net.redact import Redactor
from probe.plan import HttpCall, Plan, SecretRef

_REFERENCE = re.compile(r"\$\{([^{}]+)\}")
_SECRET_NAME = re.compile(r"token|secret|password|passwd|credential|api_?key", re.IGNORECASE)
_MAX_SECRET = 64 * 1024


class SecretMisplaced(ProbeError):
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
        self.kept_secret: set[str] = set()

    def load_secrets(self) -> None:
        """Read every secret the plan names. Raises ConfigError naming all that are missing."""
        missing: list[Located] = []
        for name, ref in self._plan.secrets.items():
            try:
                self._secrets[name] = value = read_secret(ref)
                self._redactor.add(value)
            except OSError as error:
                kind, argument = ref.source
                what = f"environment variable {argument} is not set" if kind == "env" else f"{argument}: {error.strerror}"
                missing.append(Located(self._plan.scenario, 0, 0, f"platform.secrets.{name}", what))
        if missing:
            raise ConfigError(missing)

    def text(self, template: str) -> str:
        """The template with every reference filled in."""
        return _REFERENCE.sub(lambda match: str(self._value(match[1])), template)

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

    def url(self, template: str) -> str:
        """Absolute: a path is taken under the platform's URL."""
        url = self.text(template)
        return url if "://" in url else self.text(self._plan.platform_url).rstrip("/") + "/" + url.lstrip("/")

    def guard(self, call: HttpCall) -> None:
        """Raises SecretMisplaced where the call would carry a secret to an origin that the scenario did not give it."""
        target = origin_of(self.url(call.url))
        for name in self._secret_names((call.url, call.json, dict(call.headers))):
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
        """Remember what a step kept; a name that sounds like a secret is treated as one."""
        if not isinstance(value, str | int | float | bool):
            value = json.dumps(value)
        self._values[name] = value
        if _SECRET_NAME.search(name) and isinstance(value, str) and len(value) >= 4:
            self.kept_secret.add(name)
            self._redactor.add(value)

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


def read_secret(ref: SecretRef) -> str:
    """The secret's value, trailing newline removed. Raises OSError where there is none."""
    kind, argument = ref.source
    if kind == "env":
        value = os.environ.get(argument)
        if not value:
            raise OSError(0, "not set")
        return value
    with Path(argument).open(encoding="utf-8") as file:
        return file.read(_MAX_SECRET).rstrip("\n")
