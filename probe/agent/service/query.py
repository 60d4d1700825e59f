"""What stands behind the question mark: known names, once each, short, printable; anything else is refused in one line."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from probe.agent.service.answer import Refuse, weights

LONGEST = 256


def query(request: web.Request, *known: str) -> Mapping[str, str]:
    """The parameters, each of `known`, empty where it is not given. Raises Refuse (400): a filter that is misspelt must not
    look like one that found everything."""
    given = request.query
    if any(name not in known for name in given):
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise Refuse(400, f"there is an unknown parameter; {takes}")
    values = {}
    for name in known:
        several = given.getall(name, [])
        if len(several) > 1:
            raise Refuse(400, f"{name} is given more than once")
        values[name] = checked(several[0] if several else "", name)
    return values


def checked(value: str, name: str) -> str:
    """`value`, where it is a line of text of at most `LONGEST` characters. Raises Refuse (400)."""
    if len(value) > LONGEST or not value.isprintable():  # NUL, surrogates of broken UTF-8 and line ends are none
        raise Refuse(400, f"{name} is not a line of text of at most {LONGEST} characters")
    return value


def wants_json(request: web.Request, form: str) -> bool:
    """`?format=` decides, then Accept. Raises Refuse (400)."""
    if form not in ("", "json", "html"):
        raise Refuse(400, "format is json or html")
    if form:
        return form == "json"
    accepted = dict(weights(request.headers.get("Accept", "")))
    return accepted.get("application/json", 0) > accepted.get("text/html", 0)
