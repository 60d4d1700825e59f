"""What windows of many runs need of each, and what an agent must know of its gates when it begins again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "measures",
        sa.Column("run_id", _ID, primary_key=True),
        sa.Column("ended_ns", sa.BigInteger, nullable=False),
        sa.Column("data", _JSON, nullable=False),
    )
    op.create_index("measures_ended", "measures", ["ended_ns"])
    op.create_table(
        "gates",
        sa.Column("agent", _ID, primary_key=True),
        sa.Column("gate", _ID, primary_key=True),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("data", _JSON, nullable=False),
    )
