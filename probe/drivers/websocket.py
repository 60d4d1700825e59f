"""The websocket step: a message sent on one socket and seen on others."""

from __future__ import annotations

from probe.drivers.audience import witnessed
from probe.drivers.base import StepIO
from probe.drivers.service import Deadline, phase_of
from probe.errors import DriverBug
from probe.model.outcome import Done, Outcome, Skipped
from probe.net.sockets import send_text
from probe.plan import Step, WebsocketStep


class WebsocketDriver:
    """Runs WebsocketStep. Without `seen_by` it is done when the message was handed to an open socket."""

    async def run(self, step: Step, io: StepIO) -> Outcome:
        """Done, Skipped(no_viewers), or raises Failure: what a socket came to, not_seen."""
        if not isinstance(step, WebsocketStep):
            raise DriverBug(f"not a websocket step: {step.kind}")
        phase, deadline = phase_of(step.service), Deadline(step)
        if step.seen_by is not None and not io.viewers(step.seen_by):
            return Skipped("no_viewers")
        url, message = io.url(step.url), io.text(step.send)
        async with io.http.websocket(
            url, purpose=step.name, phase=phase, credential=io.credential(step.account), timeout=deadline.left
        ) as socket:

            async def send() -> None:
                await send_text(socket, message, phase)

            if step.seen_by is None:
                await send()
            else:
                await witnessed(
                    io,
                    who=step.seen_by,
                    url=url,
                    account=step.seen_account,
                    phase=phase,
                    needle=message,
                    act=send,
                    deadline=deadline,
                )
        return Done()
