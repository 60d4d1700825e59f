"""What can be broken of the embedded platform, by its own switchboard; one fault of a drill may plant several.

They are planted with a time limit of the platform's own, so that they end when nobody is left to take them away, and under our
token, so that nobody's else are. They are there when the platform lists them *and* what they do can be seen from outside
(`platform.look_of`): one that is accepted and never acts is no fault. They are gone when neither is.

`restart` ends the platform's server process. That has no undo: its supervisor brings it back, after as long as the fault lasts,
and it is back when it answers. Where the supervisor itself is no more, so is the platform, and every fault with it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

import psutil
from pydantic import Field, field_validator

from probe.clock import boottime
from probe.decide.asking import Away
from probe.drill.faults.base import (
    Command,
    FaultIO,
    Klass,
    NotUndone,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    Refused,
    State,
)
from probe.drill.faults.health import PlainUrl, plain_url
from probe.drill.faults.platform import Admin, all_shown, look_of, read, said
from probe.model.clock import NS
from probe.net.secret import revealed
from probe.scenario.fields import OneOrMany, SecretSource

RESTART = "restart"
LONGEST = 60 * NS  # that the platform stays down
ADMIN, PLATFORM, TOKEN = "SANDBOX_ADMIN_URL", "PLATFORM_URL", "SANDBOX_ADMIN_TOKEN"
OURS = ("by", "for")  # what we say ourselves

Source = tuple[str, str]


class Place(Params):
    """Which sandbox; by default the one that the environment tells of, which is the one that this command started."""

    admin: PlainUrl | None = Field(None, description=f"Its admin port; default: ${ADMIN}.", examples=["http://127.0.0.1:9000"])
    url: PlainUrl | None = Field(None, description=f"The platform; default: ${PLATFORM}.", examples=["http://127.0.0.1:8000"])
    token: SecretSource = Field(SecretSource(env=TOKEN, file=None), description="Of its admin.", examples=[{"env": TOKEN}])


class SandboxParams(Place):
    plant: Annotated[tuple[Mapping[str, Any], ...], OneOrMany()] = Field(
        min_length=1,
        max_length=16,
        description=f"What is planted, as its admin port takes it, or {RESTART}.",
        examples=[{"fault": "edge_down", "edge": "edge-a"}, {"fault": RESTART}],
    )

    @field_validator("plant")
    @classmethod
    def _whole(cls, plant: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
        for one in plant:
            if not isinstance(one.get("fault"), str):
                raise ValueError("each says which fault, such as {fault: edge_down, edge: edge-a}")
            if one["fault"] == "killed":
                raise ValueError(f"killed leaves no trace of having been planted; write {{fault: {RESTART}}}")
            if one["fault"] == RESTART and len(one) > 1:
                raise ValueError(f"{RESTART} takes nothing; how long it is down, the fault's `for` says")
            if own := [name for name in OURS if name in one]:
                raise ValueError(f"{own[0]} is not for the file to say: the drill knows how long, and who it is")
        return plant


class SandboxFault:
    about: ClassVar[str] = "what the embedded platform can break of itself: edges, regions, services, tokens, its server process"
    params: ClassVar[type[Params]] = SandboxParams

    async def prepare(self, params: SandboxParams, given: Preparing) -> Prepared:
        source = params.token.source
        admin_url, url = (_address(*pair) for pair in ((params.admin, "admin", ADMIN), (params.url, "url", PLATFORM)))
        admin = Admin(admin_url, _secret(source, given))
        restarts = any(one["fault"] == RESTART for one in params.plant)
        if restarts and given.lasts > LONGEST:
            raise Refused(f"the sandbox stays down for {LONGEST // NS} s at most", "plant")
        try:
            state, edges = await admin.json("GET", "/admin/state"), await _edges(url)
            canary = await _canary(url) if any(one["fault"] == "tokens_revoked" for one in params.plant) else ""
            for index, one in enumerate(params.plant):
                if one["fault"] != RESTART:
                    await _plantable(admin, one, index)
        except Away as why:
            raise Refused(f"the sandbox cannot be asked: {why}") from None
        looks = [None if one["fault"] == RESTART else look_of(one, url, edges, canary) for one in params.plant]
        record: dict[str, Any] = {
            **{"admin": admin_url, "url": url, "secret": list(source), "plant": [dict(one) for one in params.plant]},
            **{"looks": looks, "down": given.lasts / NS, "server": state.get("server_pid")},
            "supervisor": _alive(state.get("supervisor_pid"), admin_url),
        }
        # One that the drill names is not the one that this command started, and a policy has to allow it.
        where = "" if params.admin is None and params.url is None else f"{urlsplit(admin_url).netloc}/"
        targets = tuple(dict.fromkeys(f"sandbox:{where}{_target(one)}" for one in params.plant))
        return Prepared(
            klass=Klass.IRREVERSIBLE if restarts else Klass.SELF_HEALING,
            targets=targets,
            of=max(len(targets), len(edges) if targets[0].startswith(f"sandbox:{where}edge") else 1),
            record=record,
            commands=tuple(_command(one, record, given.token) for one in params.plant),
            restored_by="the sandbox's supervisor" if restarts else "",
            limit="" if restarts else "the sandbox ends it at its expiry",
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        admin = _admin(record, io)
        seconds = max(0.1, round((io.expires - boottime()) / NS, 1))
        for one in record["plant"]:
            if one["fault"] == RESTART:
                await admin.json("POST", "/admin/restart", {"down": record["down"]})
            else:
                await admin.json("POST", "/admin/faults", {**one, "by": f"sp-{io.token}", "for": seconds})

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        try:
            state = await _admin(record, io).json("GET", "/admin/state")
            shown = await all_shown(list(record["looks"]))
        except Away as why:
            return _unanswered(record, why)
        except OSError as error:
            return Observed(State.UNKNOWN, str(error.strerror))
        try:
            return _seen(record, state, shown, f"sp-{io.token}")
        except (AttributeError, KeyError, TypeError):
            return Observed(State.UNKNOWN, "its admin port answers what is no state")

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            await _admin(record, io).json("DELETE", f"/admin/faults?by=sp-{io.token}")
        except Away as why:
            if _unanswered(record, why).state is not State.GONE:
                raise NotUndone(f"the sandbox does not answer its admin port: {why}") from None


def _seen(record: Record, state: Mapping[str, Any], shown: list[bool | None], by: str) -> Observed:
    """What the platform lists and what it shows, together. Raises where it lists no faults."""
    if not isinstance(state["faults"], list):
        raise TypeError
    mine = [fault for fault in state["faults"] if fault["params"].get("by") == by]
    planted = []
    for one, look, acts in zip(record["plant"], record["looks"], shown, strict=True):
        if one["fault"] != RESTART:
            found = next((listed for listed in mine if _same(listed, one)), None)
            hit = found is not None and bool(found["hits"])
            planted.append((one["fault"], found is not None, hit if look is None else acts))
    return _of_all(planted, state.get("server_pid") != record["server"])


def _of_all(planted: list[tuple[str, bool, bool | None]], restarted: bool) -> Observed:
    """(fault, listed, seen to act) of each, where the server answers."""
    if not planted:
        return Observed(State.RESTORED, "the server answers" + (", and is another" if restarted else ""))
    if all(listed and acts for _, listed, acts in planted):
        return Observed(State.INJECTED, ", ".join(name for name, _, _ in planted))
    if not any(listed or acts is not False for _, listed, acts in planted):
        return Observed(State.RESTORED)
    does = {True: "acts", False: "does nothing", None: "cannot be looked at"}
    words = [(f"{name} is {'planted' if listed else 'not planted'}", does[acts]) for name, listed, acts in planted]
    return Observed(State.UNKNOWN, "; ".join(f"{stands}, and {acts}" for stands, acts in words))


def _same(listed: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    """Of two of a kind, whether it is this one."""
    where = [name for name in ("edge", "region", "service", "of", "room") if name in one]
    return bool(listed["name"] == one["fault"]) and all(listed["params"].get(name) == one[name] for name in where)


def _unanswered(record: Record, why: Away) -> Observed:
    """What it means that the admin port does not answer."""
    if (supervisor := record["supervisor"]) is not None and not _runs(supervisor):
        return Observed(State.GONE, "the sandbox is no more")
    if why.nobody and any(one["fault"] == RESTART for one in record["plant"]):
        return Observed(State.INJECTED, "its server process is down")
    return Observed(State.UNKNOWN, str(why))


def _alive(pid: Any, url: str) -> list[float] | None:
    """The supervisor as (pid, when it began), where it runs on this machine."""
    if not isinstance(pid, int) or urlsplit(url).hostname not in ("127.0.0.1", "::1", "localhost"):
        return None
    try:
        return [pid, psutil.Process(pid).create_time()]
    except psutil.Error:
        return None


def _runs(supervisor: list[float]) -> bool:
    try:
        process = psutil.Process(int(supervisor[0]))
        return bool(process.create_time() == supervisor[1] and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


async def _plantable(admin: Admin, one: Mapping[str, Any], index: int) -> None:
    reply = await admin.call("POST", "/admin/faults?check", one)
    if reply.status == 400:
        raise Refused(said(read(reply)) or "the sandbox does not know it", f"plant.{index}")
    if reply.status != 200:
        raise Away(f"it answered {reply.status} {said(read(reply))}".strip())


async def _edges(url: str) -> dict[str, str]:
    """Where they are; none that stands on another host than the platform does: it is asked for what it says."""
    edges = (await Admin(url, "").json("GET", "/edges")).get("edges")
    told = {str(name): str(at) for name, at in edges.items()} if isinstance(edges, dict) else {}
    return {name: at for name, at in told.items() if urlsplit(at).hostname == urlsplit(url).hostname}


async def _canary(url: str) -> str:
    """A token that opens nothing and is as good as any of its time."""
    return str((await Admin(url, "").json("POST", "/auth/canary")).get("token", ""))


def _admin(record: Record, io: FaultIO) -> Admin:
    return Admin(record["admin"], io.secret(record["secret"]))


def _address(given: str | None, where: str, variable: str) -> str:
    address = given or os.environ.get(variable, "")
    if not address:
        raise Refused(f"which sandbox? run the drill without {PLATFORM} and it starts one, or export what `probe sandbox` prints",
                      where if given else "")  # fmt: skip
    try:
        return plain_url(address).rstrip("/")
    except ValueError as error:
        raise Refused(f"${variable} {error}", where if given else "") from None


def _secret(source: Source, given: Preparing) -> str:
    try:
        return revealed(source, given.redactor)
    except OSError as error:
        raise Refused(str(error.strerror), "token") from None


def _target(one: Mapping[str, Any]) -> str:
    if one["fault"] == RESTART:
        return "server"
    named = next((one[name] for name in ("edge", "region", "service", "of") if name in one), "")
    return str(named or one["fault"].partition("_")[0])


def _command(one: Mapping[str, Any], record: Mapping[str, Any], token: str) -> Command:
    kind, name = record["secret"]
    bearer = f'-H "Authorization: Bearer ${name}"' if kind == "env" else f'-H "Authorization: Bearer $(cat {name})"'
    if one["fault"] == RESTART:
        down = json.dumps({"down": record["down"]})
        return Command(f"curl {bearer} -d '{down}' {record['admin']}/admin/restart", "wait for the sandbox's supervisor")
    body = json.dumps({**one, "by": f"sp-{token}", "for": math.ceil(record["down"])})
    return Command(
        f"curl {bearer} -d '{body}' {record['admin']}/admin/faults",
        f"curl {bearer} -X DELETE '{record['admin']}/admin/faults?by=sp-{token}'",
    )
