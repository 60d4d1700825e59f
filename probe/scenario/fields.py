"""Field types that several parts of the schema share: names, calls, lists that may be one thing, and the vocabulary.

Which protocols and cut kinds exist is not the schema's to know: the caller passes the vocabulary of its driver table, so
that a new driver needs no new schema.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from probe.scenario.template import RESERVED, VARIABLE
from probe.scenario.units import describe

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
SERVICES = ("auth", "room", "payment", "gift", "chat", "moderation")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the caller's drivers can do. `programmes` empty: any name passes."""

    publish: tuple[str, ...] = ("whip",)
    view: tuple[str, ...] = ("whep", "hls")
    cut: tuple[str, ...] = ("flap", "rebind", "drop", "restart", "token_expiry")
    programmes: tuple[str, ...] = ()


DEFAULT_VOCABULARY = Vocabulary()


class Model(BaseModel):
    """Base of the schema: nothing unknown, nothing changed after loading."""

    KEY: ClassVar[str] = ""  # the field that is, in the file, not within the mapping but its key

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class OneOrMany:
    """`x` in the file means `[x]`. Annotates a tuple type."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else [value], handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


def one_of(value: str, known: tuple[str, ...]) -> str:
    """`value` if known. Raises ValueError in the words of every such error."""
    if value not in known:
        raise ValueError(f"{describe(value)} is not one of {', '.join(known)}")
    return value


def vocabulary(info: ValidationInfo) -> Vocabulary:
    """The caller's vocabulary, from the validation context."""
    found = (info.context or {}).get("vocabulary", DEFAULT_VOCABULARY)
    assert isinstance(found, Vocabulary)
    return found


def _variable(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"{name!r} is a name the run itself provides; keep it under another")
    return name


def _http(value: Any) -> Any:
    if isinstance(value, str):
        method, _, url = value.partition(" ")
        if method not in METHODS or not url.strip():
            raise ValueError(f"{describe(value)} is not a request; write METHOD and address, such as POST /rooms")
        return f"{method} {address(url.strip(), ('http', 'https'))}"
    return value


def address(url: str, schemes: tuple[str, ...]) -> str:
    """A path under the platform, an absolute URL, or one that begins with a variable. Raises ValueError."""
    good = url.startswith(("/", "${", *(f"{s}://" for s in schemes)))
    if not good or any(c.isspace() or ord(c) < 32 for c in url):
        raise ValueError(f"{describe(url)} is not an address; write a path such as /rooms, or {schemes[0]}://…")
    return url


def _media_url(value: Any) -> Any:
    return address(value, ("http", "https", "rtmp", "rtmps", "srt", "ws", "wss")) if isinstance(value, str) else value


def _socket_url(value: Any) -> Any:
    return address(value, ("ws", "wss", "http", "https")) if isinstance(value, str) else value


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
Variable = Annotated[
    str, StringConstraints(pattern=VARIABLE), BeforeValidator(lambda v: _variable(v) if isinstance(v, str) else v)
]
Request = Annotated[str, BeforeValidator(_http)]
MediaUrl = Annotated[str, BeforeValidator(_media_url)]
SocketUrl = Annotated[str, BeforeValidator(_socket_url)]


class SecretSource(Model):
    """Where a secret comes from: never the secret itself."""

    env: str | None = Field(None, min_length=1, description="An environment variable.", examples=["BROADCASTER_PASSWORD"])
    file: str | None = Field(
        None, min_length=1, description="A file; its trailing newline is dropped.", examples=["/run/secrets/password"]
    )
    command: Annotated[tuple[str, ...], OneOrMany()] = Field(
        (),
        description="A command that prints it, run without a shell and within 10 s.",
        examples=[["pass", "show", "live/broadcaster"]],
    )

    @model_validator(mode="before")
    @classmethod
    def _reference(cls, value: Any) -> Any:
        if not isinstance(value, dict | SecretSource):  # whatever it is, it may be the secret: not repeated
            raise ValueError("never write a secret down; say where it is: {env: NAME}, {file: PATH} or {command: […]}")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.env is not None) + (self.file is not None) + bool(self.command) != 1:
            raise ValueError("a secret comes from one place: give env, file or command")
        return self

    @property
    def source(self) -> tuple[str, str]:
        """(kind, argument), as a plan has it."""
        if self.env is not None:
            return "env", self.env
        return ("file", self.file) if self.file is not None else ("command", shlex.join(self.command))


class Call(Model):
    """One request: `DELETE /rooms/${room}`, or a mapping when it has a body, headers or another account."""

    http: Request = Field(description="Method and address.", examples=["DELETE /rooms?tag=${run.tag}"])
    body: Any = Field(None, alias="json", description="JSON body; templates are filled.", examples=[{"state": "off"}])
    headers: dict[str, str] = Field({}, description="Further headers.", examples=[{"X-Reason": "probe"}])
    account: Name | None = Field(None, alias="as", description="Whose token goes with it.", examples=["broadcaster"])

    @property
    def method(self) -> str:
        return self.http.partition(" ")[0]

    @property
    def url(self) -> str:
        return self.http.partition(" ")[2]


class CallShape:
    """Annotates Call: a text alone is its `http`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: {"http": value} if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


AnyCall = Annotated[Call, CallShape()]
