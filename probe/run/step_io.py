"""The StepIO of one step: its view of variables, accounts and sessions, and a client that signs requests with its span."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from probe.model.clock import Clock
from probe.model.observation import Observation
from probe.net.client import Client, Credential
from probe.run.context import Context
from probe.run.vars import Vars


@dataclass(slots=True)
class RunStepIO:
    clock: Clock
    http: Client
    _vars: Vars
    _ctx: Context
    _step: str
    _viewers: Callable[[str], list[str]]

    def text(self, template: str) -> str:
        return self._vars.text(template)

    def data(self, template: Any) -> Any:
        return self._vars.data(template)

    def url(self, template: str) -> str:
        return self._vars.url(template)

    def credential(self, account: str | None) -> Credential | None:
        return self._vars.credential(account)

    def keep(self, name: str, value: Any) -> None:
        self._vars.keep(name, value)

    def viewers(self, who: str = "viewers") -> list[str]:
        return self._viewers(who)

    def emit(self, fact: Observation) -> None:
        self._ctx.emit(fact, self._step)

    def note(self, text: str) -> None:
        self._ctx.note(text, self._step)
