"""Keys are found by study: an index less to keep for every proposal."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.drop_index("ix_proposal_key", "proposal")


def downgrade() -> None:
    op.create_index("ix_proposal_key", "proposal", ["key"])
