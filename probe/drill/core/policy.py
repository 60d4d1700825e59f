"""What drills may touch, which is not for a drill's author to say: a file of whoever answers for the platform.

Each target that a fault would hit must be named by a rule, whose class, share and length it keeps; how many regions at once, for
how long and at which times drills may run is said once for all. What this command started itself (its sandbox, its own child
processes) hurts nobody, and needs no leave. Everything is judged from what `prepare` found and before anything is touched, and a
refusal names the line of the rule that it comes from.

Patterns are a shell's (`*`, `?`, `[a-c]`) behind a kind that is written out: `process:origin-*`. A share counts what faults that
overlap in time hit together. Chosen not to: rules that forbid. What no rule names is forbidden.

The models and the judging of them, pure; reading is `policy_file`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator

from probe.drill.core.campaigns import unix_ns
from probe.drill.core.file import Drill
from probe.drill.core.klass import Klass
from probe.model.clock import NS
from probe.scenario.fields import Model, Name, OneOrMany
from probe.scenario.jsonschema import schema_of
from probe.scenario.oncall import DAY, WEEKDAYS, Days, LocalMoment, TimeOfDay, Zone, clock_text
from probe.scenario.text import Path
from probe.scenario.units import Duration, PositiveDuration, Ratio, describe, format_duration, format_ratio

_PATTERN = re.compile(r"[a-z][a-z0-9-]*:\S+", re.ASCII)


def _pattern(value: Any) -> Any:
    if isinstance(value, str) and not _PATTERN.fullmatch(value):
        raise ValueError(f"{describe(value)} is not a pattern of targets; write kind:name, such as process:origin-*")
    return value


Pattern = Annotated[str, BeforeValidator(_pattern)]


class Allowed(Model):
    """Some targets, and what may be done to them."""

    targets: Annotated[tuple[Pattern, ...], OneOrMany()] = Field(
        description="Patterns of targets.", examples=[["process:origin-*", "kubernetes:live/*"]]
    )
    klass: Annotated[tuple[Klass, ...], OneOrMany()] = Field(
        (Klass.REVERSIBLE, Klass.SELF_HEALING), alias="class",
        description="Classes of faults; what nobody can put back must be said.", examples=[["self_healing"]],
    )  # fmt: skip
    share: Ratio = Field(1.0, description="Of those there are, so many at once at most.", examples=["50%"])
    lasts: PositiveDuration | None = Field(
        None, alias="for", description="A fault at most; default: as for all.", examples=["2m"]
    )

    @field_validator("targets", "klass")
    @classmethod
    def _some(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("is empty: nothing is what is allowed where no rule is")
        return value

    def matches(self, target: str) -> bool:
        return any(fnmatchcase(target, pattern) for pattern in self.targets)


class Hours(Model):
    """Times of the week."""

    days: Days = Field(tuple(range(7)), description="Days; default: all.")
    begin: TimeOfDay = Field(0, alias="from", description="From then, by the clock of `tz`.", examples=["10:00"])
    end: TimeOfDay = Field(DAY, alias="to", description="Until then.", examples=["16:00"])
    tz: Zone = Field(description="Their time zone.", examples=["Europe/Berlin"])

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.begin >= self.end:
            raise ValueError("ends before it begins; for a night write two, one until 24:00 and one from 00:00")
        return self

    def hold(self, begin: int, end: int) -> bool:
        """Whether all of Unix ns begin..end is within one of them."""
        zone = ZoneInfo(self.tz)
        first, last = (datetime.fromtimestamp(at // NS, zone) for at in (begin, end))
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        edges = [(midnight + timedelta(minutes=at)).replace(tzinfo=zone) for at in (self.begin, self.end)]
        return first.weekday() in self.days and edges[0] <= first and last <= edges[1]

    def __str__(self) -> str:
        days = "every day" if len(self.days) == 7 else ", ".join(WEEKDAYS[day] for day in self.days)
        return f"{days} {clock_text(self.begin)}–{clock_text(self.end)} {self.tz}"


class Frozen(Model):
    """A stretch of time in which nothing is touched."""

    begin: LocalMoment = Field(alias="from", description="Its first moment, by the clock of `tz`.", examples=["2026-12-20T00:00"])
    end: LocalMoment = Field(alias="to", description="Its end.", examples=["2027-01-02T00:00"])
    tz: Zone = Field(description="Its time zone.", examples=["Europe/Berlin"])
    why: str = Field("", description="For people.", examples=["end of year freeze"])

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if unix_ns(self.begin, self.tz) >= unix_ns(self.end, self.tz):
            raise ValueError("it ends before it begins")
        return self


class Nights(Model):
    """The campaigns of a file, with some time around each."""

    file: str = Field(min_length=1, description="campaigns.yaml, beside this file.", examples=["campaigns.yaml"])
    before: Duration = Field(6 * 3600 * NS, description="Nothing is touched from so long before one begins.", examples=["6h"])
    after: Duration = Field(2 * 3600 * NS, description="Until so long after it ended.", examples=["2h"])


class Policy(Model):
    """What drills may touch, and when."""

    name: Name = Field(alias="drill_policy", description="Its name.", examples=["production"])
    owner: str = Field(min_length=1, description="Who is asked to change it.", examples=["sre-lead"])
    allow: tuple[Allowed, ...] = Field((), description="What may be hit; of several rules that match, the first decides.")
    regions: int = Field(1, ge=1, description="In so many regions at once at most.")
    lasts: PositiveDuration = Field(10 * 60 * NS, alias="for", description="A fault lasts so long at most.", examples=["10m"])
    hours: Annotated[tuple[Hours, ...], OneOrMany()] = Field((), description="Only then; default: at any hour.")
    frozen: Annotated[tuple[Frozen, ...], OneOrMany()] = Field((), description="Never then.")
    campaigns: Nights | None = Field(None, description="Never on these evenings.", examples=[{"file": "campaigns.yaml"}])


@dataclass(frozen=True, slots=True)
class Stretch:
    """A forbidden time, Unix ns; `path`: what of the policy forbids it."""

    begin: int
    end: int
    why: str
    path: Path


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy, where its parts stand (path → line), and the evenings that it names. `file` empty: none was given."""

    policy: Policy
    file: str = ""
    lines: Mapping[Path, int] = field(default_factory=dict)
    nights: tuple[Stretch, ...] = ()

    def place(self, *path: str | int) -> str:
        """Of a part, for people: file and line."""
        if not self.file:
            return "the built-in policy (no policy file was given: --policy FILE, or $PROBE_DRILL_POLICY)"
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.file}:{self.lines.get(path, 1)}"

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Every forbidden time."""
        own = tuple(
            Stretch(unix_ns(one.begin, one.tz), unix_ns(one.end, one.tz), one.why or "a freeze", ("frozen", i))
            for i, one in enumerate(self.policy.frozen)
        )
        return (*own, *self.nights)


BUILT_IN = PolicyFile(Policy(name="built-in", owner="nobody", allow=(Allowed(targets=("clients:*",)),)))


@dataclass(frozen=True, slots=True)
class Own:
    """What this command started: whether the platform is its sandbox, and the ids of its child processes."""

    sandbox: bool = False
    processes: frozenset[int] = frozenset()

    def has(self, target: str) -> bool:
        """With a sandbox of our own, whoever plays on it is ours, too. One that is named with its address is another's."""
        kind, _, name = target.partition(":")
        if kind in ("sandbox", "clients"):
            return self.sandbox and "/" not in name
        pid = name.rpartition("/")[2]
        return kind == "process" and pid.isdecimal() and int(pid) in self.processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What a fault would do, as its `Prepared` says; `begin` and `end` ns after the first injection."""

    name: str
    klass: Klass
    targets: tuple[str, ...]
    of: int
    begin: int
    end: int
    restored_by: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`fault`: its name, empty where the drill as a whole is refused; `field`: of the drill file."""

    fault: str
    field: str
    message: str


def refusals(policy: PolicyFile, drill: Drill, hits: Sequence[Hit], own: Own, now: int) -> Iterator[Refusal]:
    """Everything that forbids it, at Unix ns `now`. None: it may run."""
    yield from _of_any_policy(hits)
    foreign = [hit for hit in hits if not all(own.has(target) for target in hit.targets)]
    if not foreign:
        return
    said = policy.policy
    if len(drill.regions) > said.regions:
        message = f"breaks things in {len(drill.regions)} regions, and {policy.place('regions')} allows {said.regions} at once"
        yield Refusal("", "regions", message)
    for hit in foreign:
        yield from _hit(policy, hit, hits, own)
    yield from _times(policy, drill, now)


def _of_any_policy(hits: Sequence[Hit]) -> Iterator[Refusal]:
    seen: list[Hit] = []
    for hit in hits:
        if not hit.targets:
            yield Refusal(hit.name, "", "matches nothing: there is no such target")
        if hit.klass is Klass.IRREVERSIBLE and not hit.restored_by:
            yield Refusal(hit.name, "", "cannot be put back, and nothing is named that would bring it back")
        for other in seen:
            both = sorted({*hit.targets} & {*other.targets})
            if both and hit.begin < other.end and other.begin < hit.end:
                message = f"and {other.name} hit {both[0]} at the same time; what puts one back would undo the other"
                yield Refusal(hit.name, "", message)
        seen.append(hit)


def _hit(policy: PolicyFile, hit: Hit, hits: Sequence[Hit], own: Own) -> Iterator[Refusal]:
    told: set[int] = set()
    for target in hit.targets:
        if own.has(target):
            continue
        index = _rule(policy.policy, target)
        if index is None:
            known = ", ".join(pattern for rule in policy.policy.allow for pattern in rule.targets) or "nothing"
            message = f"{target} is outside of what may be touched: {policy.place('allow')} allows {known}"
            yield Refusal(hit.name, "with", message)
        elif index not in told:
            told.add(index)
            yield from _rule_kept(policy, index, hit, hits)


def _rule_kept(policy: PolicyFile, index: int, hit: Hit, hits: Sequence[Hit]) -> Iterator[Refusal]:
    rule = policy.policy.allow[index]
    where = policy.place("allow", index)
    if hit.klass not in rule.klass:
        classes = ", ".join(rule.klass)
        yield Refusal(hit.name, "fault", f"is {hit.klass}, and {where} allows {classes} on {', '.join(rule.targets)}")
    limit = rule.lasts or policy.policy.lasts
    if (lasts := hit.end - hit.begin) > limit:
        where_long = where if rule.lasts else policy.place("for")
        message = f"lasts {format_duration(lasts)}, and {where_long} allows {format_duration(limit)} at most"
        yield Refusal(hit.name, "for", message)
    if rule.share == 1:
        return
    together = {
        target
        for other in hits
        if other.begin < hit.end and hit.begin < other.end
        for target in other.targets
        if _rule(policy.policy, target) == index
    }
    if len(together) > rule.share * hit.of:
        message = f"hits {len(together)} of {hit.of}, and {where} allows {format_ratio(rule.share)} of them at once"
        yield Refusal(hit.name, "with", message)


def _rule(policy: Policy, target: str) -> int | None:
    return next((index for index, rule in enumerate(policy.allow) if rule.matches(target)), None)


def _times(policy: PolicyFile, drill: Drill, now: int) -> Iterator[Refusal]:
    end = now + drill.length
    takes = f"it takes up to {format_duration(drill.length)}"
    for stretch in policy.stretches:
        if stretch.begin < end and now < stretch.end:
            span = f"{_moment(stretch.begin)} to {_moment(stretch.end)}"
            yield Refusal("", "", f"{policy.place(*stretch.path)} allows none from {span} ({stretch.why}); {takes}")
    hours = policy.policy.hours
    if hours and not any(one.hold(now, end) for one in hours):
        message = (
            f"{policy.place('hours')} allows drills {' and '.join(map(str, hours))} only; now is {_moment(now)}, and {takes}"
        )
        yield Refusal("", "", message)


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at // NS, UTC):%Y-%m-%d %H:%M} UTC"


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of a policy file, for editors."""
    return schema_of(Policy, "stream-probe drill policy")
