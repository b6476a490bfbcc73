"""When each proposal was asked: for replay."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

COLUMNS = ("ask_number", "ask_size", "ask_told")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("proposal", sa.Column(name, sa.Integer(), nullable=True))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("proposal", name)
