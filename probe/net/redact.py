"""Takes known secrets out of text, in every form they take on their way into it.

A token shows up raw, percent-encoded in a URL, escaped in JSON, in hexadecimal digits, inside base64 (whose letters depend on
where in the encoded text it began, hence three alignments), or cut off where a text was quoted to some length: at a cut's mark
(`model/text`) wherever that stands, and at the end of a text that others cut. Overlapping finds are merged before anything is
replaced, so that the longest leaves no tail. It is the last net, not the first: code does not put secrets into text.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MARK = "[redacted]"
_SHORTEST_ENCODED = 4  # a shorter secret's base64 or escapes would match anything
_SHORTEST_CUT = 8  # what is left of one must be so long to be known by, where nothing says that it was cut
_SHORTEST_MARKED = 4  # and where a mark says it
_MARKS = ("…", "\\u2026")  # the second: in JSON that is ASCII
_NO_LABEL = re.compile(r"[^A-Za-z0-9._-]+")
_CLOSING = "'\"…) "


@functools.lru_cache(maxsize=256)
def _forms(secret: str) -> frozenset[str]:
    forms = {secret}
    if len(secret) < _SHORTEST_ENCODED:
        return frozenset(forms)
    raw = secret.encode("utf-8", "surrogatepass")
    for escaped in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        forms |= {escaped, _lower_escapes(escaped)}
    if len(label := _NO_LABEL.sub("-", secret).strip("-")) >= _SHORTEST_CUT:
        forms.add(label)  # as an edge's header becomes a label
    for ascii_only in (True, False):
        text = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        forms |= {text, text.replace("/", "\\/")}
    forms |= {raw.hex(), raw.hex().upper()}
    for shift in range(3):
        # Characters that hold bits of the neighbours as well are left out: 8 × shift bits in front, the rest behind.
        encoded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        first = (8 * shift + 5) // 6
        last = 8 * (shift + len(raw)) // 6
        core = encoded[first:last].decode()
        forms |= {core, core.replace("+", "-").replace("/", "_")}
    return frozenset(forms)


def _lower_escapes(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(p[:2].lower() + p[2:] for p in parts[1:])])


class Redactor:
    """Knows secrets; `redact` may be called from any thread."""

    def __init__(self, *secrets: str) -> None:
        self._forms: tuple[str, ...] = ()
        self._starts: frozenset[str] = frozenset()  # of every form
        self._shortest = _SHORTEST_CUT  # of them
        for secret in secrets:
            self.add(secret)

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._forms)} forms>"

    def add(self, secret: str) -> None:
        """Remember a secret; an empty one is no secret."""
        if secret:
            self._forms = tuple(sorted({*self._forms, *_forms(secret)}, key=len, reverse=True))
            self._starts = frozenset(form[:_SHORTEST_CUT] for form in self._forms)
            self._shortest = min(map(len, self._starts))

    def _unlike_all(self, text: str) -> bool:
        """Nothing in it begins like a secret, nor was cut: told in one pass, however many secrets there are. A drill's runs
        bring hundreds of tokens, and each is asked about in each of ten thousands of fields."""
        if self._shortest < _SHORTEST_CUT or any(mark in text for mark in _MARKS):
            return False
        places = range(len(text) - _SHORTEST_CUT + 1)
        return self._starts.isdisjoint(text[at : at + _SHORTEST_CUT] for at in places)

    def redact(self, text: str) -> str:
        """`text` with every known secret replaced by a mark."""
        if self._unlike_all(text):
            return text
        spans: list[tuple[int, int]] = []
        end_of_quote = len(text.rstrip(_CLOSING))
        for form in self._forms:
            at = text.rfind(form[:_SHORTEST_CUT], 0, end_of_quote)
            # An address that is a secret begins as many do that are none.
            if at >= 0 and end_of_quote - at >= _SHORTEST_CUT and "://" not in form and form.startswith(text[at:end_of_quote]):
                spans.append((at, end_of_quote))
            at = text.find(form)
            while at >= 0:
                spans.append((at, at + len(form)))
                at = text.find(form, at + 1)
        for mark in _MARKS:
            at = text.find(mark)
            while at >= 0:
                spans += self._cut_at(text, at)
                at = text.find(mark, at + 1)
        if not spans:
            return text
        out: list[str] = []
        done = 0
        end = -1
        for begin, stop in sorted(spans):
            if begin > end:
                if end >= 0:
                    done = end
                    out.append(MARK)
                out.append(text[done:begin])
            end = max(end, stop)
        return "".join([*out, MARK, text[end:]])

    def _cut_at(self, text: str, end: int) -> Iterator[tuple[int, int]]:
        """What lies before `end` and begins like a secret."""
        for form in self._forms:
            # Of an address that is a secret, what makes it one comes after the host.
            least = _SHORTEST_MARKED if "://" not in form else form.find("/", form.index("://") + 3) + 1 or len(form)
            begin = text.find(form[:least], max(0, end - len(form)), end)
            while begin >= 0:
                if form.startswith(text[begin:end]):
                    yield begin, end
                    break
                begin = text.find(form[:least], begin + 1, end)
