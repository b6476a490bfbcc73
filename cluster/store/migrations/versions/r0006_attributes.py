"""What a report says beside metrics: losses, rates, the values of a self-tuned schedule."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("report", sa.Column("attributes", sa.JSON(), server_default="{}", nullable=False))


def downgrade() -> None:
    op.drop_column("report", "attributes")
