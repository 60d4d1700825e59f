"""Questions that need two places of a scenario at once.

Is `${room}` kept by then? Is there a socket to see a gift on? Do two steps share a name? All are asked of the file's own
tree, so that every answer has a place, and all are asked, so that every mistake is told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from probe.scenario.addresses import misfit, written_secret
from probe.scenario.fields import Vocabulary
from probe.scenario.schema import DEFAULT_VIEWS
from probe.scenario.size import factors, too_many
from probe.scenario.steps import Cut, Http, Publish, StepModel, View, Websocket
from probe.scenario.template import BUILTIN, references
from probe.scenario.text import Path

_URLS = frozenset({"http", "url", "socket", "websocket"})
_QUERIES = frozenset({"keep", "until", "once"})  # jmespaths: no templates in them


@dataclass(frozen=True, slots=True)
class Entry:
    """One step as it stands in the file; `model` None where it did not validate."""

    path: Path  # of its body
    name: str
    body: Any
    model: StepModel | None

    @property
    def final(self) -> bool:
        return self.path[0] == "finally"

    @property
    def kept(self) -> list[str]:
        keep = self.body.get("keep") if isinstance(self.body, dict) else None
        return [k for k in keep if isinstance(k, str)] if isinstance(keep, dict) else []


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake and its place; `offset` counts into the text there."""

    path: Path
    message: str
    key: bool = False
    offset: int | None = None


def findings(data: Mapping[str, Any], entries: list[Entry], words: Vocabulary, missing: frozenset[str]) -> Iterator[Finding]:
    """Everything wrong between parts of `data`. `missing`: optional secrets that are not there."""
    yield from _names(data, entries)
    yield from _regions(data, words)
    secrets = _mapping(data, "platform", "secrets")
    scope = _Scope(entries, frozenset(secrets), missing)
    for entry in entries:
        yield from scope.step(entry)
        yield from _accounts(entry, entries, scope, _mapping(data, "platform", "accounts"))
        yield from _views(entry, data, scope)
        yield from _addresses(entry)
        yield from _order(entry, entries)
        scope.kept.update(dict.fromkeys(entry.kept, entry.name))
        scope.streams = scope.streams or (isinstance(entry.model, Publish) and bool(entry.model.stream))
    yield from _size(data, entries)
    yield from _outside(data, scope)


def _mapping(data: Any, *path: str) -> dict[str, Any]:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _list(data: Any, key: str) -> list[Any]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []


def _names(data: Mapping[str, Any], entries: list[Entry]) -> Iterator[Finding]:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            yield Finding(entry.path, f"another step is called {entry.name!r} already; a step's name is unique", key=True)
        seen.add(entry.name)
    for section in ("objectives", "gates"):
        named: set[str] = set()
        for i, item in enumerate(_list(data, section)):
            used = item if section == "gates" else None  # one that comes along has its own name unless it is given another
            name = item.get("name", item.get("use")) if isinstance(item, dict) else used
            if isinstance(name, str) and name in named:
                place = (section, i, "name") if isinstance(item, dict) and "name" in item else (section, i)
                yield Finding(place, f"another of the {section} is called {name!r} already")
            elif isinstance(name, str):
                named.add(name)


def _regions(data: Mapping[str, Any], words: Vocabulary) -> Iterator[Finding]:
    regions = _list(data, "regions") if "regions" in data else ["local"]
    for i, region in enumerate(regions):
        if region in regions[:i]:
            yield Finding(("regions", i), f"{region!r} is listed twice")
    platform = _mapping(data, "platform")
    for region in _mapping(platform, "regions"):
        if region not in regions and regions:
            known = ", ".join(dict.fromkeys(str(r) for r in regions))
            yield Finding(("platform", "regions", region), f"{region!r} is not one of the scenario's regions: {known}", key=True)
    places: list[Path] = [("platform", "views"), *(("platform", "regions", r, "views") for r in _mapping(platform, "regions"))]
    for path in places:
        for protocol in _mapping(data, *(str(p) for p in path)):
            if protocol not in words.view:
                yield Finding((*path, protocol), f"{protocol!r} is not one of {', '.join(words.view)}", key=True)
            elif message := _unfit(protocol, _mapping(data, *(str(p) for p in path))[protocol]):
                yield Finding((*path, protocol), message)
    for protocol in _mapping(data, "deadlines", "start"):
        if protocol not in (known_protocols := (*words.publish, *words.view)):
            message = f"{protocol!r} is not one of {', '.join(known_protocols)}"
            yield Finding(("deadlines", "start", protocol), message, key=True)


class _Scope:
    """What a template may name, step by step."""

    def __init__(self, entries: list[Entry], secrets: frozenset[str], missing: frozenset[str]) -> None:
        self.kept: dict[str, str] = {}
        self.streams = False  # a publisher so far says what its stream is called
        self._by = {name: entry.name for entry in reversed(entries) for name in entry.kept}
        self._secrets = secrets
        self._missing = missing

    def step(self, entry: Entry) -> Iterator[Finding]:
        for path, text in _texts(entry.body, entry.path):
            inside = path[len(entry.path) :]
            if inside[:1] and inside[0] in _QUERIES:
                continue
            url = (bool(inside) and inside[-1] in _URLS) or inside == ("undo",)
            whole = isinstance(entry.model, Publish | View) and text.startswith("${") and text.find("}") == len(text) - 1
            own = entry.kept if inside[:1] == ("undo",) else ()  # what undoes a step may need the id it was given
            for reference in references(text):
                if reference.name in own:
                    continue
                message = self.problem(reference.name, reference.written, entry, url=url and not whole)
                if message:
                    yield Finding(path, message, offset=reference.at)

    def problem(self, name: str | None, written: str, entry: Entry | None = None, *, url: bool = False) -> str:
        """What is wrong with a reference at this point of the journey; empty: nothing."""
        if name is None:
            return f"{written} is not a reference; write ${{name}}, ${{env.NAME}}, ${{secret.name}} or ${{run.id}}"
        if name in BUILTIN or name in self.kept or name.startswith("env."):
            return ""
        if name in ("stream", "item"):
            return self._of_a_view(name, written, entry)
        kind, _, rest = name.partition(".")
        if kind == "secret":
            if rest in self._missing:
                return f"{written}: this secret is optional and not there"
            if rest not in self._secrets:
                return f"{written}: platform.secrets has no {rest!r}" + _meant(rest, self._secrets)
            return (
                f"{written}: a secret in an address ends up in logs; send it in json, headers or as an account's token"
                if url
                else ""
            )
        by = self._by.get(name)
        if entry is not None and by == entry.name:
            return f"{written}: kept by this very step, after it has been used"
        if by is not None:
            return f"{written}: kept only later, by step {by!r}"
        return f"{written}: no step before provides it" + _meant(name, {*self.kept, *BUILTIN})

    def _of_a_view(self, name: str, written: str, entry: Entry | None) -> str:
        model = entry.model if entry is not None else None
        if not isinstance(model, View):
            return f"{written}: stands only in the address of a view"
        if name == "item":
            return ""  # each view is asked for its list
        return "" if self.streams else f"{written}: no publish step before says its stream"

    def absent(self, name: str | None) -> bool:
        """Whether this is an optional secret that is not there."""
        return name is not None and name.removeprefix("secret.") in self._missing

    def anywhere(self, name: str) -> bool:
        return name in self._by


def _meant(name: str, known: set[str] | frozenset[str]) -> str:
    close = get_close_matches(name, sorted(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, (*path, i))


def _accounts(entry: Entry, entries: list[Entry], scope: _Scope, accounts: Mapping[str, Any]) -> Iterator[Finding]:
    """An account whose token is kept only later would act without one, silently."""
    if entry.final:
        return
    for path, text in _texts(entry.body, entry.path):
        own = f"{text}_token"
        there = text in accounts or own in scope.kept or own in entry.kept  # one that logs in acts as itself
        if path[-1] == "as" and not there and scope.anywhere(own):
            yield Finding(path, f"{text!r} has no token yet: {own} is kept only later")


def _views(entry: Entry, data: Mapping[str, Any], scope: _Scope) -> Iterator[Finding]:
    """A list must be kept by then. A view without url takes the platform's: its variables must be there too."""
    if not isinstance(entry.model, View):
        return
    platform = _mapping(data, "platform")
    regions = [_mapping(r, "views") for r in _mapping(platform, "regions").values()]
    for i, view in enumerate(entry.model.view):
        path = view_path(entry, i)
        if view.over is None and "${item}" in (view.url or "") + view.streamid:
            yield Finding(path, "${item}: of which list? add over")
        if view.over is not None and view.over not in scope.kept:
            yield Finding((*path, "over"), f"no step before keeps {view.over!r}" + _meant(view.over, {*scope.kept}))
        if view.url is not None:
            continue
        named = _mapping(platform, "views")
        vias = (*(named or DEFAULT_VIEWS),) if view.via == "all" else (view.via,)
        templates = [r[via] for r in regions for via in vias if via in r]
        own = [named.get(via, DEFAULT_VIEWS.get(via)) for via in vias]
        if None in own:
            yield Finding(path, f"has no url, and platform.views has none for {view.via}")
        for template in dict.fromkeys([*own, *templates]):
            for reference in references(template) if isinstance(template, str) else ():
                if message := scope.problem(reference.name, reference.written, entry):
                    yield Finding(path, f"its address is {template} (platform.views): {message}")


def _addresses(entry: Entry) -> Iterator[Finding]:
    """An address must be one of its protocol's, and hold no secret written out."""
    if isinstance(publish := entry.model, Publish):
        if message := _unfit(publish.publish, publish.url, publish=True):
            yield Finding((*entry.path, "url"), message)
        if message := written_secret(publish.key, key=True):
            yield Finding((*entry.path, "key"), message)
        if message := written_secret(publish.streamid):
            yield Finding((*entry.path, "streamid"), message)
    for i, view in enumerate(entry.model.view if isinstance(entry.model, View) else ()):
        if message := _unfit(view.via, view.url):
            yield Finding((*view_path(entry, i), "url"), message)
        if message := written_secret(view.streamid):
            yield Finding((*view_path(entry, i), "streamid"), message)


def _unfit(protocol: str, url: Any, *, publish: bool = False) -> str | None:
    return misfit(protocol, url) or written_secret(url, key=publish and protocol == "rtmp")


def _size(data: Mapping[str, Any], entries: list[Entry]) -> Iterator[Finding]:
    """One mistake where the journey comes to more sessions than a run can have."""
    platform = _mapping(data, "platform")
    everywhere = [{}, *(_mapping(r, "views") for r in _mapping(platform, "regions").values())]
    declared = max(({**_mapping(platform, "views"), **own} or DEFAULT_VIEWS for own in everywhere), key=len)
    publishers = 0
    views: list[dict[str, int]] = []
    places: list[Path] = []
    for entry in entries:
        publishers += isinstance(entry.model, Publish)
        for i, view in enumerate(entry.model.view if isinstance(entry.model, View) else ()):
            views.append(factors(view, declared, publishers))
            places.append(view_path(entry, i))
    if (found := too_many(views, publishers)) is not None:
        yield Finding(places[found[0]], found[1])


def view_path(entry: Entry, index: int) -> Path:
    if isinstance(entry.body, dict):
        inner = entry.body.get("view")
        return (*entry.path, "view", index) if isinstance(inner, list) else (*entry.path, "view") if inner else entry.path
    return (*entry.path, index)


def _order(entry: Entry, entries: list[Entry]) -> Iterator[Finding]:
    """What a step points at must be there by then."""
    before = entries[: entries.index(entry)]
    views = {v.via for e in before if isinstance(e.model, View) for v in e.model.view}
    anything = "all" in views  # and so perhaps this protocol
    published = any(isinstance(e.model, Publish) for e in before)
    unsure = any(e.model is None for e in before)  # a broken step may have been the one
    model = entry.model
    if isinstance(model, Http | Websocket) and model.seen_by is not None:
        if model.seen_by != "viewers" and model.seen_by not in views and not (unsure or anything):
            yield Finding((*entry.path, "seen_by"), f"{model.seen_by!r} names nobody; write viewers, or a protocol viewed before")
        elif not views and not unsure:
            yield Finding((*entry.path, "seen_by"), "nobody views by then; put a view step before")
        sockets = [e for e in entries if isinstance(e.model, Websocket)]
        if isinstance(model, Http) and model.socket is None and not sockets and not any(e.model is None for e in entries):
            yield Finding((*entry.path, "seen_by"), "on which socket? add socket, or a websocket step to the journey")
    if isinstance(model, Cut) and not unsure:
        if model.of == "publisher" and not published:
            yield Finding((*entry.path, "of"), "nobody publishes by then; put a publish step before")
        elif model.of not in ("publisher", "platform") and not (
            views if model.of == "viewers" or anything else model.of in views
        ):
            yield Finding((*entry.path, "of"), f"no {model.of} by then; put a view step before")
    if isinstance(model, View):
        publishers = {e.name for e in before if isinstance(e.model, Publish) or e.model is None}
        for i, view in enumerate(model.view):
            for name in view.of:
                if name not in publishers:
                    yield Finding((*view_path(entry, i), "of"), f"{name!r} is no publish step before" + _meant(name, publishers))
    if isinstance(model, View) and not published and not unsure:
        for i, view in enumerate(model.view):
            if view.verify == "code":
                yield Finding(view_path(entry, i), "nothing of ours is published by then; publish first, or write verify: moving")


def _outside(data: Mapping[str, Any], scope: _Scope) -> Iterator[Finding]:
    """Templates outside steps: few places take them."""
    for path, text in _texts({k: v for k, v in data.items() if k not in ("journey", "finally")}, ()):
        where = tuple(str(p) for p in path)
        account = where[:2] == ("platform", "accounts")
        origin = where[:2] == ("platform", "secrets") and "for" in where
        relay = "ice_servers" in where and where[-1] in ("username", "credential")
        release = where == ("platform", "release")
        if "views" in where and where[0] == "platform":
            continue  # asked of each view that uses it
        for reference in references(text):
            if account and scope.absent(reference.name):
                continue  # that account has no token then
            message = scope.problem(reference.name, reference.written)
            secret = reference.name is not None and reference.name.startswith("secret.")
            fits = account or (origin and reference.name == "platform.url") or (relay and secret) or (release and not secret)
            if release and secret and not message:
                message = f"{reference.written}: a release is told to everybody, and a secret to nobody"
            if not message and not fits:
                message = f"{reference.written}: only ${{env.NAME}} can be used here"
            if message:
                yield Finding(path, message, offset=reference.at)
