"""Accounts and tokens. Two accounts, made by the supervisor: the broadcaster `probe` and the `viewer`."""

from __future__ import annotations

import hmac

from aiohttp import web

from probe.sandbox.context import PLATFORM
from probe.sandbox.web import CANARY, CANARY_PATH, Refused, caller, fields, serves

CANARY_SECONDS = 86_400


@serves("auth")
async def login(request: web.Request) -> web.Response:
    """POST /auth/login {user, password} → {token, expires_in}."""
    platform = request.app[PLATFORM]
    data = await fields(request, user=str, password=str)
    expected = platform.config.passwords.get(data["user"], "")
    if not hmac.compare_digest(expected.encode(), data["password"].encode()) or not expected:
        raise Refused(401, "bad_credentials", {"WWW-Authenticate": "Bearer"})
    lifetime = 0 if platform.faults.hit("expired_token") else None
    return web.json_response({"token": platform.tokens.issue(data["user"], lifetime), "expires_in": platform.tokens.lifetime})


@serves("auth")
async def whoami(request: web.Request) -> web.Response:
    """GET /auth/me → {user, balance}."""
    user = caller(request)
    return web.json_response({"user": user, "balance": request.app[PLATFORM].store.balance(user)})


@serves("auth")
async def new_canary(request: web.Request) -> web.Response:
    """POST /auth/canary → {token}: it opens nothing, and is as good as any token of its time: for monitors."""
    return web.json_response({"token": request.app[PLATFORM].tokens.issue(CANARY, CANARY_SECONDS)})


@serves("auth")
async def canary(request: web.Request) -> web.Response:
    """GET /auth/canary: 200 where the token sent is good."""
    return web.json_response({"user": caller(request)})


ROUTES = [
    web.post("/auth/login", login),
    web.get("/auth/me", whoami),
    web.post(CANARY_PATH, new_canary),
    web.get(CANARY_PATH, canary),
]
