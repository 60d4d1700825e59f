"""`probe drill run`: drill files in, each carried out, a scorecard for each, and the worst exit code of all.

Drills go one after the other: two at once would be each other's fault. Where the platform is the embedded one each has one of its
own, so that what a drill left behind in it is not the next one's weakness. The first signal puts everything back and ends; the
second does not wait for that, and leaves it to the watchdog.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from probe.cli import exits
from probe.cli.drill_live import Progress
from probe.cli.invoke import provided, settle_memory, state_directory
from probe.cli.serve import environment
from probe.cli.signals import Interrupted, Signals, cancelling
from probe.clock import BootClock, SystemClock
from probe.drill.conduct import Asked, Conducted, conduct, ready_for
from probe.drill.core.policy import Own
from probe.drill.core.score import Score
from probe.drill.dry_run import dry_run, show
from probe.drill.load import PACKAGED, Loaded, load_whole
from probe.drill.policy_file import find_policy
from probe.drill.runner import Runner
from probe.drill.scorecard import read_score, write, write_index
from probe.drill.sources import Source, Sources
from probe.drill.traffic import Traffic
from probe.errors import ConfigError, Located
from probe.export.words import printable
from probe.media.decoder import warm_up
from probe.net.redact import Redactor
from probe.rtc import warm
from probe.run import logs
from probe.sandbox.launch import Sandbox
from probe.scenario.schema import EMBEDDED
from probe.store.address import resolve
from probe.store.errors import StoreError, StoreRefused

_WORST = (0, exits.INCONCLUSIVE, exits.WEAKNESS, exits.BAD_CONFIGURATION, exits.INTERNAL_ERROR, exits.NOT_RESTORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As the command line has them; see drilling.py."""

    files: Sequence[Path]
    dry: bool = False
    sandbox: bool = False
    sets: Sequence[str] = ()
    regions: Sequence[str] = ()
    policy: Path | None = None
    state: Path | None = None
    store: str | None = None
    alertmanager: str | None = None
    prometheus: str | None = None
    compare: Path | None = None
    out: Path = Path("out")
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    seed: int | None = None


@dataclass(slots=True)
class _Work:
    """One invocation as it goes."""

    options: Options
    console: Console
    clock: SystemClock
    redactor: Redactor
    signals: Signals
    done: list[tuple[Conducted, Path]] = field(default_factory=list)
    code: int = 0
    runner: Runner | None = None

    def comes_to(self, code: int) -> None:
        self.code = max(self.code, code, key=_WORST.index)

    def told(self, progress: Progress, runner: Runner, traffic: Traffic) -> None:
        self.runner = runner
        progress.told(runner, traffic)

    def parting(self, number: int) -> int:
        """Last words when a second signal ends the process while something may still be broken."""
        fates = self.runner.machine.fates if self.runner is not None else {}
        left = [name for name, fate in fates.items() if not fate.over]
        if not left:
            return exits.of_signal(number)
        words = (
            f"{', '.join(left)}: left to the watchdog, which puts it back now; `probe drill recover --list` says whether it has"
        )
        print(f"\nprobe: {words}", file=sys.stderr, flush=True)
        return exits.NOT_RESTORED


async def run(options: Options, console: Console) -> int:
    """The exit code. Raises ConfigError before anything is opened, Interrupted once everything is put back."""
    clock, redactor = SystemClock(), Redactor()
    logs.set_up(redactor, verbose=options.verbose, fields={})
    known = _load_all(options)
    with cancelling() as signals:
        work = _Work(options, console, clock, redactor, signals)
        signals.parting = work.parting
        if not options.dry:
            await asyncio.to_thread(warm_up, clock)
            await warm()
            settle_memory()
        documents = []
        for number, (file, loaded) in enumerate(known):
            async with _platform(loaded, options, redactor) as sandbox:
                asked = _asked(work, file, sandbox, _folder(known, number, options.out))
                if options.dry:
                    documents.append(await _dry(asked))
                elif await _one(work, asked):
                    break
        await signals.settle()
        if options.dry:
            _show_dry(documents, options, console)
            return 0
        _index(work, len(known))
        if options.json:
            _print_json(work)
        if (number := await signals.last()) and work.code != exits.NOT_RESTORED:
            raise Interrupted(number)
    return work.code


async def _one(work: _Work, asked: Asked) -> bool:
    """One drill; whether none is to follow."""
    options, drill = work.options, asked.loaded.drill
    title = f"drill {drill.drill} · {asked.loaded.scenario.name} · {', '.join(drill.regions)} · owner {drill.owner}"
    progress = Progress(work.console, work.redactor.redact, title, quiet=options.quiet or options.json)
    try:
        with progress.showing():
            done = await conduct(replace(asked, told=lambda runner, traffic: work.told(progress, runner, traffic)))
    except (StoreError, StoreRefused) as error:  # LeaseTaken among them
        raise ConfigError([Located(str(asked.loaded.file), 0, 0, "", str(error))]) from error
    work.done.append((done, asked.out))
    unwritten = _write(work, asked, done)
    work.comes_to(exits.of_drill(done.ended.verdict))
    if done.broken or unwritten:
        work.comes_to(exits.INTERNAL_ERROR)
    if not options.json:
        _tell(work, done, asked.out)
    return done.ended.interrupted or bool(done.ended.left)


def _write(work: _Work, asked: Asked, done: Conducted) -> list[str]:
    if done.score is None:
        return []
    return write(
        done.score,
        asked.out,
        facts=done.facts,
        observations=done.traffic.everything(),
        plans=done.traffic.plans,
        stays=tuple(done.traffic.stays.values()),
        redact=work.redactor.redact,
    )


def _tell(work: _Work, done: Conducted, out: Path) -> None:
    """The verdict in one line, the cost in another."""
    ended = done.ended
    line = f"{done.drill}: {ended.verdict.replace('_', ' ')}: {ended.reason}"
    if ended.left:
        line += " (the watchdog goes on trying; `probe drill recover` does, too)"
    work.console.print(printable(work.redactor.redact(line), 2000), markup=False, soft_wrap=True)
    if not work.options.quiet:
        cost = done.cost
        took = f"{cost.cpu_seconds:.1f} CPU-seconds in {cost.seconds:.0f} s, {cost.memory_bytes / 2**20:.0f} MiB"
        work.console.print(f"  cost on this host, traffic included: {took}; scorecard: {out / 'scorecard.html'}", soft_wrap=True)


# -- what it is carried out with


def _load_all(options: Options) -> list[tuple[Path, Loaded]]:
    """Every drill, or every mistake of every file at once; with placeholders where the embedded platform will say more."""
    if not options.files:
        raise ConfigError(
            [Located("probe drill run", 0, 0, "", "name at least one drill; `probe drill list` tells which there are")]
        )
    known: list[tuple[Path, Loaded]] = []
    mistakes: list[Located] = []
    words = {name: value for name, value in provided().items() if name != "PLATFORM_URL"}
    for named in options.files:
        file = find_drill(named)
        try:
            loaded = load_whole(file, env={**words, **os.environ}, sets=_sets(options))
            if not _embedded(loaded, options):
                loaded = load_whole(file, env=os.environ, sets=_sets(options))
            known.append((file, _in_regions(loaded, options)))
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return known


def find_drill(file: Path) -> Path:
    """The file itself, or the drill of that name that comes along."""
    if file.exists() or len(file.parts) > 1:
        return file
    return next((one for end in ("", ".yaml") if (one := PACKAGED / "drills" / f"{file}{end}").exists()), file)


def _sets(options: Options) -> dict[str, str]:
    sets = {}
    for text in options.sets:
        key, equals, value = text.partition("=")
        if not equals or not key:
            message = f"{text!r} is not a setting; write --set platform.url=https://…"
            raise ConfigError([Located("--set", 0, 0, "", message)])
        sets[key] = value
    return sets


def _in_regions(loaded: Loaded, options: Options) -> Loaded:
    if not options.regions:
        return loaded
    if unknown := [region for region in options.regions if region not in loaded.scenario.regions]:
        message = f"{unknown[0]!r} is not one of {', '.join(loaded.scenario.regions)}"
        raise ConfigError([Located(str(loaded.file), 0, 0, "--region", message)])
    return replace(loaded, drill=loaded.drill.model_copy(update={"regions": tuple(options.regions)}))


def _embedded(loaded: Loaded, options: Options) -> bool:
    return options.sandbox or loaded.scenario.platform.url == EMBEDDED


@asynccontextmanager
async def _platform(loaded: Loaded, options: Options, redactor: Redactor) -> AsyncIterator[Sandbox | None]:
    """The embedded one, where the drill asks for it, and the environment as it answers."""
    if not _embedded(loaded, options):
        yield None
        return
    before = {name: os.environ.get(name) for name in provided()}
    async with Sandbox.start() as sandbox:
        os.environ.update(environment(sandbox))
        redactor.add(sandbox.admin_token)
        try:
            yield sandbox
        finally:
            _restore(before)


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _asked(work: _Work, file: Path, sandbox: Sandbox | None, out: Path) -> Asked:
    """Raises ConfigError. Read again: by now the platform has said where it is."""
    options = work.options
    loaded = _in_regions(load_whole(file, env=os.environ, sets=_sets(options)), options)
    if sandbox is not None and loaded.scenario.platform.url == EMBEDDED:
        platform = loaded.scenario.platform.model_copy(update={"url": sandbox.url})
        loaded = replace(loaded, scenario=loaded.scenario.model_copy(update={"platform": platform}))
    state = state_directory(options.state)
    own = Own(sandbox=sandbox is not None, processes=frozenset({sandbox.pid} if sandbox is not None else ()))
    try:
        store = resolve(options.store or "sqlite", state)
    except StoreRefused as error:
        raise ConfigError([Located("--store", 0, 0, "", str(error))]) from error
    return Asked(
        loaded=loaded, policy=find_policy(options.policy, os.environ), own=own, clock=work.clock, redactor=work.redactor,
        state=state, out=out, store=store, sources=_sources(options), seed=options.seed,
        before=read_score(options.compare, loaded.drill.drill) if options.compare is not None else None,
    )  # fmt: skip


def _sources(options: Options) -> Sources:
    named = {"alertmanager": options.alertmanager, "prometheus": options.prometheus}
    try:
        return Sources.model_validate({name: Source.model_validate({"url": url}) for name, url in named.items() if url})
    except ValueError as error:
        raise ConfigError([Located("--alertmanager, --prometheus", 0, 0, "", str(error).splitlines()[-2].strip())]) from error


def _folder(known: Sequence[tuple[Path, Loaded]], number: int, out: Path) -> Path:
    """Of one drill its --out; of several each its own below it."""
    if len(known) == 1:
        return out
    name = known[number][1].drill.drill
    same = sum(loaded.drill.drill == name for _, loaded in known[:number])
    return out / (f"{name}-{same + 1}" if same else name)


# -- what comes of it


async def _dry(asked: Asked) -> dict[str, object]:
    ready = await ready_for(asked)
    return dry_run(asked.loaded, ready, asked.policy, asked.redactor, BootClock().now())


def _show_dry(documents: Sequence[Mapping[str, object]], options: Options, console: Console) -> None:
    if options.json:
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, ensure_ascii=False))
        return
    for document in documents:
        show(document, console)


def _index(work: _Work, asked: int) -> None:
    """One page over several."""
    scores = [(done.score, str(out.relative_to(work.options.out))) for done, out in work.done if done.score is not None]
    if asked == 1 or not scores:
        return
    try:
        write_index(scores, work.options.out, redact=work.redactor.redact)
    except OSError as error:
        print(f"probe: the index could not be written: {error.strerror}", file=sys.stderr)
        work.comes_to(exits.INTERNAL_ERROR)
        return
    if not (work.options.json or work.options.quiet):
        work.console.print(f"{len(scores)} of {asked} drills: {work.options.out / 'index.html'}", soft_wrap=True)


def _print_json(work: _Work) -> None:
    """The scorecard, or of several drills a list of them."""
    scores: list[Score] = [done.score for done, _ in work.done if done.score is not None]
    documents = [json.loads(work.redactor.redact(score.model_dump_json(exclude_none=True))) for score in scores]
    print(json.dumps(documents[0] if len(work.options.files) == 1 and documents else documents, indent=2, ensure_ascii=False))
