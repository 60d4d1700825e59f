"""The gate language: a rule on indicators, small enough to be read aloud.

    expression = term { "and" term } [ "for" duration ]
    term       = indicator [ "." quantile ] [ "[" duration "]" ] comparison threshold
    quantile   = "p" 1..99 | "max"
    comparison = "<" | "<=" | ">" | ">="
    threshold  = ratio | duration | count        90%   2s   3
    duration   = as everywhere: 10m, 1m30s

`room_start[10m] < 90% and failures >= 3 for 2m` reads: over the last ten minutes fewer than 90 % of rooms started, and at
least 3 attempts failed, and that has been so for two minutes. The indicator decides the threshold's unit; one in seconds
needs a quantile, the others take none. Spaces are free except inside words and numbers. There is no `or` (write two
gates) and no parentheses. An empty file of observations meets no gate: no data is inconclusive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from probe.scenario.indicators import INDICATORS, Indicator, Unit
from probe.scenario.units import format_duration, format_ratio, parse_duration, parse_ratio

COMPARISONS = ("<=", ">=", "<", ">")


class GateSyntaxError(ValueError):
    """`at` counts characters from the beginning of the expression, from 0."""

    def __init__(self, at: int, message: str) -> None:
        self.at = at
        super().__init__(f"at character {at + 1}: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """`value` in the indicator's unit: 0..1, seconds (kept as ns in `ns`, exact) or a count. `window` ns."""

    indicator: str
    quantile: str = ""
    window: int | None = None
    comparison: str
    unit: Unit
    amount: float | int  # ratio 0..1, ns, or a count

    @property
    def value(self) -> float:
        """The threshold as a number in base units: ratio, seconds, count."""
        return self.amount / 1e9 if self.unit is Unit.SECONDS else float(self.amount)

    @property
    def threshold(self) -> str:
        """The threshold as written."""
        if self.unit is Unit.RATIO:
            return format_ratio(float(self.amount))
        return format_duration(int(self.amount)) if self.unit is Unit.SECONDS else str(self.amount)

    def meets(self, value: float) -> bool:
        """Whether a measured `value` (base units) satisfies the comparison."""
        bound = self.value
        return {"<": value < bound, "<=": value <= bound, ">": value > bound, ">=": value >= bound}[self.comparison]

    def __str__(self) -> str:
        quantile = f".{self.quantile}" if self.quantile else ""
        window = f"[{format_duration(self.window)}]" if self.window is not None else ""
        return f"{self.indicator}{quantile}{window} {self.comparison} {self.threshold}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """All of `terms`, for `hold` ns (None: at once)."""

    terms: tuple[Term, ...]
    hold: int | None = None

    def __str__(self) -> str:
        hold = f" for {format_duration(self.hold)}" if self.hold is not None else ""
        return " and ".join(str(t) for t in self.terms) + hold


_TOKEN = re.compile(r"\s*(?:([A-Za-z_][A-Za-z0-9_]*)|(\d[A-Za-z0-9.]*%?)|(<=|>=|<|>)|([\[\].])|(\S))", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # word, number, comparison, mark, other, end
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    out: list[_Token] = []
    at = 0
    while match := _TOKEN.match(text, at):
        group = match.lastindex or 0
        out.append(_Token(("word", "number", "comparison", "mark", "other")[group - 1], match[group], match.start(group)))
        at = match.end()
    out.append(_Token("end", "the end", len(text)))
    return out


def parse_gate(text: str, known: Mapping[str, Indicator] = INDICATORS) -> Expression:
    """Text → expression. `known`: indicators there are. Raises GateSyntaxError naming the place and what was expected there."""
    return _Parser(_tokens(text), known).expression()


class _Parser:
    def __init__(self, tokens: list[_Token], known: Mapping[str, Indicator]) -> None:
        self._tokens = tokens
        self._known = known

    def expression(self) -> Expression:
        terms = [self._term()]
        hold = None
        while (token := self._next()).kind != "end":
            if token.text == "and":
                terms.append(self._term())
            elif token.text == "for":
                hold = self._duration("for how long, such as 2m")
                if (rest := self._next()).kind != "end":
                    raise GateSyntaxError(rest.at, f"nothing may follow 'for …', but here stands {rest.text!r}")
                break
            else:
                hint = "; write two gates" if token.text == "or" else ""
                raise GateSyntaxError(token.at, f"expected 'and', 'for' or the end, not {token.text!r}{hint}")
        return Expression(terms=tuple(terms), hold=hold)

    def _term(self) -> Term:
        name = self._expect("word", "an indicator")
        gated = tuple(indicator for indicator, row in self._known.items() if row.gate)
        known = self._known.get(name.text)
        if known is None:
            close = get_close_matches(name.text, gated, 1)
            hint = f"did you mean {close[0]!r}?" if close else "known are " + ", ".join(gated)
            raise GateSyntaxError(name.at, f"unknown indicator {name.text!r}; {hint}")
        if not known.gate:
            raise GateSyntaxError(name.at, f"{name.text} is for objectives only; a gate knows {', '.join(gated)}")
        quantile = self._quantile(name, known.unit)
        window = None
        if self._tokens[0].text == "[":
            self._next()
            window = self._duration("a window, such as 10m")
            if (closing := self._next()).text != "]":
                raise GateSyntaxError(closing.at, f"expected ']', not {closing.text!r}")
        comparison = self._expect("comparison", "one of < <= > >=")
        token = self._expect("number", "a threshold")
        return Term(
            indicator=name.text,
            quantile=quantile,
            window=window,
            comparison=comparison.text,
            unit=known.unit,
            amount=_amount(token, name.text, known.unit),
        )

    def _quantile(self, name: _Token, unit: Unit) -> str:
        if self._tokens[0].text != ".":
            if unit is Unit.SECONDS:
                raise GateSyntaxError(name.at, f"{name.text} is many durations; say which: {name.text}.p95")
            return ""
        dot = self._next()
        if unit is not Unit.SECONDS:
            raise GateSyntaxError(dot.at, f"{name.text} is one {unit}; it has no quantiles")
        token = self._expect("word", "a quantile such as p95")
        if not re.fullmatch(r"p[1-9][0-9]?|max", token.text):
            raise GateSyntaxError(token.at, f"{token.text!r} is not a quantile; write p1 to p99, or max")
        return token.text

    def _duration(self, what: str) -> int:
        token = self._expect("number", what)
        try:
            ns = parse_duration(token.text)
        except ValueError as error:
            raise GateSyntaxError(token.at, str(error)) from None
        if ns <= 0:
            raise GateSyntaxError(token.at, f"{token.text!r} must be longer than nothing")
        return ns

    def _expect(self, kind: str, what: str) -> _Token:
        token = self._next()
        if token.kind != kind:
            raise GateSyntaxError(token.at, f"expected {what}, not {token.text if token.kind == 'end' else repr(token.text)}")
        return token

    def _next(self) -> _Token:
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]


def _amount(token: _Token, name: str, unit: Unit) -> float | int:
    remedy = {Unit.RATIO: "a ratio, such as 90%", Unit.SECONDS: "a duration, such as 2s", Unit.COUNT: "a count, such as 3"}
    try:
        if unit is Unit.RATIO:
            return parse_ratio(token.text)
        return parse_duration(token.text) if unit is Unit.SECONDS else int(token.text)
    except ValueError:
        raise GateSyntaxError(token.at, f"{name} is compared with {remedy[unit]}, not {token.text!r}") from None
