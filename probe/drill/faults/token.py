"""Tokens expire under those who use them: the embedded platform's, by its own switchboard.

Every token given out so far is refused from one instant on, and what was opened by one ends; who logs in again is let in. That
the tokens are no longer good is seen by one that opens nothing and is as old as theirs. Another platform's way of ending tokens
is a switch of its own, which is the `http` fault's; a token that expires by its own time needs no fault but a longer hold.
"""

from __future__ import annotations

from typing import ClassVar

from probe.drill.faults.base import FaultIO, Observed, Params, Prepared, Preparing, Record
from probe.drill.faults.sandbox import Place, SandboxFault, SandboxParams


class TokenParams(Place):
    """Which sandbox's."""


class TokenFault:
    about: ClassVar[str] = "every token given out so far is refused, and what it opened ends; logging in again helps"
    params: ClassVar[type[Params]] = TokenParams

    def __init__(self) -> None:
        self._sandbox = SandboxFault()

    async def prepare(self, params: TokenParams, given: Preparing) -> Prepared:
        place = {name: getattr(params, name) for name in Place.model_fields}
        return await self._sandbox.prepare(SandboxParams(plant=({"fault": "tokens_revoked"},), **place), given)

    async def inject(self, record: Record, io: FaultIO) -> None:
        await self._sandbox.inject(record, io)

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        return await self._sandbox.observe(record, io)

    async def restore(self, record: Record, io: FaultIO) -> None:
        await self._sandbox.restore(record, io)
