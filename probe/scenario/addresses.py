"""What may stand in the address of media: one of its protocol's, and no secret written out.

A secret is where everybody writes one: a user's password before the host or at the end of MediaMTX's streamid, a parameter of
a query or streamid whose name says so, and in what is published over RTMP a long random word, for there the end of the path is
the key. A stream key that reads like a name is not told from a name. `${…}` is never a secret written out: what steps keep and
what `platform.secrets` names goes in that way.
"""

from __future__ import annotations

import re

# Protocols that are not spoken over the web, and how their addresses look.
_OWN = {"rtmp": ("rtmp://host/app", ("rtmp", "rtmps")), "srt": ("srt://host:port", ("srt",))}
_REFERENCE = re.compile(r"\$\{[^{}]*\}")
_USERINFO = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://([^/?#@]*)@")
_PARAMETER = re.compile(r"(?:[?&;,]|::)([^=&;,#?:]+)=([^&;,#]*)")
_ACCOUNT = re.compile(r"(?:^|streamid=)(?:publish|read):[^:&]*:[^:&]*:([^:&#]+)")  # MediaMTX: publish:path:user:password
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-.]")
_NAMES_A_SECRET = re.compile(  # of words joined by _: access_token, auth_key, streamkey, wsSecret, X-Amz-Signature, hdnts
    r"token|secret|passw|passphrase|signature|(^|_)(pass|pwd|psw|sign|sig|auth|jwt|hdnts|hdnea|key)$|(stream|api|access|auth)key$"
)
_RANDOM = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}(?![A-Za-z0-9])")


def misfit(protocol: str, url: object) -> str | None:
    """What is wrong with the address of a protocol, as far as it is written out."""
    if not isinstance(url, str) or url.startswith("${"):
        return None
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    shape, own = _OWN.get(protocol, ("", ()))
    if own and scheme not in own:
        return f"{protocol} has addresses of its own; write {shape}"
    if not own and any(scheme in schemes for _, schemes in _OWN.values()):
        return f"{protocol} is spoken over http; write a path such as /rooms, or http://…"
    return None


def written_secret(text: object, *, key: bool = False) -> str | None:
    """What is wrong with an address, or a stream key, that has a secret in it; never the secret. `key`: the end of its path, or
    all of it, is one by which somebody publishes."""
    if not isinstance(text, str):
        return None
    remedy = 'make it a secret as a whole, "${secret.name}", and name that under platform.secrets'
    passwords = [found[1].partition(":")[2] for found in [_USERINFO.match(text)] if found] + _ACCOUNT.findall(text)
    if any(_literal(password) for password in passwords):
        return f"carries a password; {remedy}"
    for name, value in _PARAMETER.findall(text):
        if _literal(value) and _NAMES_A_SECRET.search(_CAMEL.sub("_", name).lower()):
            return f"carries a secret, {name}=…; {remedy}"
    if key and _RANDOM.search(_REFERENCE.sub(" ", text.partition("://")[2].partition("/")[2] if "://" in text else text)):
        return 'carries a stream key; write it as key: "${secret.name}", and name that under platform.secrets'
    return None


def _literal(value: str) -> bool:
    """Whether there is anything written out: not empty, and no reference within."""
    return bool(value) and not _REFERENCE.search(value)
