"""A comparison in a person's words: what is worse, by how much, how sure that is, and how many runs would tell what is not
told."""

from __future__ import annotations

from collections.abc import Sequence

from probe.export.words import in_seconds
from probe.model.comparison import About, Change, Comparison, Difference

ANSWER = {Change.WORSE: "worse", Change.BETTER: "better", Change.SAME: "same", Change.CANNOT_TELL: "cannot tell"}
_ORDER = (Change.WORSE, Change.CANNOT_TELL, Change.BETTER, Change.SAME)
_NAMES = {
    "first_frame": "first frame",
    "publisher_seconds": "publisher’s start",
    "available_seconds": "time to be available",
    "e2e_latency": "end-to-end latency",
    "reconnect_seconds": "reconnect",
    "outage_seconds": "outage",
    "step_seconds": "step",
    "freeze_ratio": "time frozen",
    "room_start": "room start",
    "start": "viewers’ start",
    "publisher_start": "publisher’s start succeeding",
    "reconnect": "coming back from cuts",
    "crash_free": "staying",
}
_MORE, _LESS = {"e2e_latency": "higher", "outage_seconds": "longer"}, {"e2e_latency": "lower", "outage_seconds": "shorter"}
_STAGE_SHARE = 0.25  # of the difference: a stage that takes less of it is not named


def name_of(about: About) -> str:
    """`first frame over WHEP of RTMP on android-4g`, `step login`, `auth`."""
    said = _NAMES.get(about.indicator, f"service {about.indicator}")
    said += f" {about.step}" if about.step else ""
    said += f" over {about.protocol.upper()}" if about.protocol else ""
    said += f" of {about.ingest.upper()}" if about.ingest else ""
    return said + (f" on {about.device}" if about.device else "")


def title_of(one: Difference, comparison: Comparison) -> str:
    """The name, with its place where there are several."""
    places = {other.place for other in comparison.differences}
    if len(places) < 2:
        return name_of(one.about)
    several = len({place.scenario for place in places}) > 1
    where = f"{one.place.publish_region} → {one.place.region}"
    return f"{name_of(one.about)} ({f'{one.place.scenario}, ' if several else ''}{where})"


def ranked(comparison: Comparison) -> list[Difference]:
    """What is worse first, then what looks so, then the rest."""

    def rank(one: Difference) -> tuple[int, float]:
        doubtful = one.change is Change.CANNOT_TELL and not one.suspicious
        return (_ORDER.index(one.change) if not doubtful else len(_ORDER)), -one.worse_by / one.least if one.least else 0.0

    return sorted(comparison.differences, key=rank)


def headline(comparison: Comparison) -> str:
    """The whole, in one sentence."""
    than = comparison.release_before or "the runs before"
    runs = f"{_runs(comparison.runs_before)} before, {comparison.runs_after} now"
    worse = [one for one in ranked(comparison) if one.change is Change.WORSE]
    match comparison.change:
        case Change.WORSE:
            return f"worse than {than}: {words_of(worse[0], comparison)}" + _more(worse)
        case Change.CANNOT_TELL if not comparison.differences:
            return f"whether it is worse than {than} cannot be told: nothing can be compared" + _first(comparison.apart)
        case Change.CANNOT_TELL:
            looks = [one for one in ranked(comparison) if one.suspicious]
            said = words_of(looks[0], comparison) + _more(looks) if looks else f"{runs} is too few{_needed(comparison)}"
            return f"whether it is worse than {than} cannot be told: {said}"
        case _:
            return f"not worse than {than}: {counts(comparison)} ({runs})"


def tallied(comparison: Comparison) -> str:
    """`1 worse, 12 the same, 5 cannot be told; 12 runs before, 9 now`."""
    runs = f"{_runs(comparison.runs_before)} before, {comparison.runs_after} now"
    return f"{counts(comparison) or 'nothing can be compared'}; {runs}"


def counts(comparison: Comparison) -> str:
    """`1 worse, 12 the same, 5 cannot be told`."""
    said = ((Change.WORSE, "worse"), (Change.BETTER, "better"), (Change.SAME, "the same"), (Change.CANNOT_TELL, "cannot be told"))
    return ", ".join(f"{len(found)} {word}" for change, word in said if (found := comparison.of(change)))


def words_of(one: Difference, comparison: Comparison) -> str:
    """One indicator's answer, with what it stands on."""
    name = title_of(one, comparison)
    if one.unit == "runs":
        return f"{name}: {_of_runs(one)}"
    ran = f"{amount(one, one.before)} before, {amount(one, one.after)} now"
    reach = _between(one)
    match one.change:
        case Change.SAME:
            return f"{name} is the same: {ran}; {reach}, and {amount(one, one.least)} would matter"
        case Change.CANNOT_TELL:
            return f"{name} cannot be told: {ran}; {_why_not(one, reach)}"
        case _:
            certain = "" if one.pairs is None else f", in {_worse_pairs(one)} pairs of runs"
            return f"{name} is {by(one)} ({reach}{certain}): {ran}{_stages(one)}; {ANSWER[one.change]}"


def by(one: Difference) -> str:
    """`180 ms slower`, `12 points fewer`."""
    if one.unit == "runs":
        return f"{abs(one.shift) * 100:.0f} points {'fewer' if one.shift < 0 else 'more'}"
    later, sooner = _MORE.get(one.about.indicator, "slower"), _LESS.get(one.about.indicator, "quicker")
    if one.unit != "seconds":
        later, sooner = "more", "less"
    return f"{amount(one, abs(one.shift))} {later if one.shift > 0 else sooner}"


def amount(one: Difference, value: float) -> str:
    """A value in its unit."""
    if one.unit == "seconds":
        return f"−{in_seconds(-value)}" if value < 0 else in_seconds(value)
    if one.unit == "runs":
        return f"{value * 100:.0f} %"
    return f"{value * 100:.2g} %".replace("-", "−")


def _of_runs(one: Difference) -> str:
    good = round(one.before * one.runs_before), round(one.after * one.runs_after)
    ran = f"{good[0]} of {one.runs_before} runs good before, {good[1]} of {one.runs_after} now"
    fewer, more = -(one.low or 0.0) * 100, (one.high or 0.0) * 100
    if one.change is Change.CANNOT_TELL:
        hidden = f"up to {max(0.0, fewer):.0f} points fewer would look like this, and {one.least * 100:.0f} would matter"
        return f"{ran}; cannot be told: {hidden}"
    low, high = (-more, fewer) if one.shift < 0 else (-fewer, more)
    said = "the same" if one.change is Change.SAME else f"{by(one)} (95 %: {low:.0f} to {high:.0f})".replace("-", "−")
    return f"{ran}; {said}" + ("" if one.change is Change.SAME else f"; {ANSWER[one.change]}")


def _between(one: Difference) -> str:
    if one.low is None or one.high is None:
        return "95 %: unknown"
    low, high = (one.low, one.high) if one.shift >= 0 else (-one.high, -one.low)
    if one.change is Change.SAME:
        return f"95 %: at most {amount(one, max(abs(low), abs(high)))} apart"
    return f"95 %: {amount(one, low)} to {amount(one, high)}"


def _why_not(one: Difference, reach: str) -> str:
    if one.low is None:
        return f"{_runs(one.runs_before)} before and {one.runs_after} now are too few"
    more = f"; about {one.runs_needed} runs on each side would tell" if one.runs_needed is not None else ""
    looks = f"it looks {by(one)}" if one.suspicious else by(one)
    return f"{looks} ({reach}), and {amount(one, one.least)} would matter{more}"


def _worse_pairs(one: Difference) -> str:
    worse, every = one.pairs or (0, 0)
    return f"{worse if one.shift > 0 else every - worse} of {every}"


def _stages(one: Difference) -> str:
    """Where the time goes: the stages that make up most of it."""
    sign = 1 if one.shift > 0 else -1
    told = sorted(((sign * longer, stage) for stage, longer in one.stages.items()), reverse=True)
    large = [f"{stage.replace('_', ' ')} {in_seconds(by)}" for by, stage in told if by >= _STAGE_SHARE * abs(one.shift)]
    return f"; of it {', '.join(large)}" if large else ""


def _needed(comparison: Comparison) -> str:
    needed = min((one.runs_needed for one in comparison.differences if one.runs_needed is not None), default=None)
    return "" if needed is None else f"; from {needed} runs on each side on a difference can be shown"


def _more(found: Sequence[Difference]) -> str:
    return f", and {len(found) - 1} more" if len(found) > 1 else ""


def _first(said: Sequence[str]) -> str:
    return f" ({said[0]}{f', and {len(said) - 1} more' if len(said) > 1 else ''})" if said else ""


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"
