"""Test coins. A payment is booked once per reference, however often it is asked for."""

from __future__ import annotations

import secrets

from aiohttp import web

from probe.sandbox.context import PLATFORM
from probe.sandbox.web import Refused, caller, fields, serves

CURRENCY = "TEST"
LARGEST = 10_000


@serves("payment")
async def pay(request: web.Request) -> web.Response:
    """POST /payments/coins {amount, currency, ref} → 201 {balance, payment}."""
    platform = request.app[PLATFORM]
    store = platform.store
    user = caller(request)
    data = await fields(request, amount=int, currency=str, ref=str)
    if data["currency"] != CURRENCY:
        raise Refused(400, "bad_currency")
    if not 0 < data["amount"] <= LARGEST:
        raise Refused(400, "bad_amount")
    known = store.rows("select id from payments where user = ? and ref = ?", user, data["ref"])
    payment = known[0]["id"] if known else secrets.token_hex(8)
    if store.full("payments"):
        raise Refused(507, "ledger_full")
    if not known and not platform.faults.hit("payment_lost"):
        bookings = [payment, secrets.token_hex(8)] if platform.faults.hit("payment_twice") else [payment]
        for booking in bookings:
            values = (booking, user, data["ref"], data["amount"], CURRENCY, platform.clock.wall().unix_ns)
            store.run("insert into payments values (?, ?, ?, ?, ?, ?)", *values)
    return web.json_response({"balance": store.balance(user), "payment": payment}, status=201)


@serves("payment")
async def list_payments(request: web.Request) -> web.Response:
    """GET /payments?ref= → {"payments": […], "count": n}: the caller's own."""
    store = request.app[PLATFORM].store
    user = caller(request)
    ref = request.query.get("ref")
    found = store.rows(
        "select id as payment, ref, amount, currency from payments where user = ? and (? is null or ref = ?) order by at",
        *(user, ref, ref),
    )
    return web.json_response({"payments": found, "count": len(found)})


ROUTES = [web.post("/payments/coins", pay), web.get("/payments", list_payments)]
