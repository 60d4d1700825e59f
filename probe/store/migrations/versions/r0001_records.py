"""Runs, their reports and requests, and events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _id(name: str) -> sa.Column[str]:
    return sa.Column(name, _ID, nullable=False, server_default="")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def upgrade() -> None:
    outcomes = ("done", "failed", "skipped", "cancelled", "aborted")
    op.create_table(
        "runs",
        sa.Column("run_id", _ID, primary_key=True),
        _text("agent"),
        _text("schedule"),
        _id("scenario"),
        _text("mode"),
        _text("publish_region"),
        _id("region"),
        _text("target"),
        sa.Column("seed", sa.Text, nullable=False, server_default="0"),
        _big("run_number"),
        _text("trace_id"),
        _big("due_ns"),
        sa.Column("began_ns", sa.BigInteger, nullable=False),
        _text("probe_version"),
        _text("life"),
        sa.Column("state", sa.Text, nullable=False, server_default="running"),
        _id("verdict"),
        _text("cause"),
        sa.Column("ended_ns", sa.BigInteger),
        *(_count(name) for outcome in outcomes for name in (outcome, f"{outcome}_tainted")),
        _text("crashed"),
    )
    op.create_index("runs_scenario", "runs", ["scenario", "run_id", "region", "verdict"])
    op.create_index("runs_region", "runs", ["region", "run_id", "scenario", "verdict"])
    op.create_index("runs_verdict", "runs", ["verdict", "run_id", "scenario", "region"])
    op.create_index("runs_began", "runs", ["began_ns"])
    running = sa.text("state = 'running'")
    op.create_index("runs_running", "runs", ["agent"], sqlite_where=running, postgresql_where=running)
    op.create_table(
        "reports",
        sa.Column("run_id", _ID, primary_key=True),
        sa.Column("ended_ns", sa.BigInteger, nullable=False),
        sa.Column("verdict_json", sa.LargeBinary, nullable=False),
        sa.Column("report_html", sa.LargeBinary, nullable=False),
    )
    op.create_index("reports_ended", "reports", ["ended_ns"])
    op.create_table(
        "requests",
        sa.Column("run_id", _ID, primary_key=True),
        sa.Column("request_id", _ID, primary_key=True),
        sa.Column("span_id", _ID, primary_key=True),
        _text("service"),
        _text("step"),
        _text("method"),
        _count("status"),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("requests_request", "requests", ["request_id"])
    op.create_table(
        "events",
        sa.Column("event_id", _ID, primary_key=True),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        _text("agent"),
        _text("kind"),
        _text("subject"),
        _text("region"),
        _text("who"),
        _text("why"),
        sa.Column("data", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
    )
    op.create_index("events_at", "events", ["at_ns"])
    op.create_index("events_kind", "events", ["kind", "at_ns"])
