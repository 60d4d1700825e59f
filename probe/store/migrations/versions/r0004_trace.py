"""A run is found by its trace: exemplars of metrics lead to it."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("runs_trace", "runs", ["trace_id"])
