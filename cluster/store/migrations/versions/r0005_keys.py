"""What is kept for every proposal and evaluation: an index of keys less, and those of the failed and the reused."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

FEW = {"ix_evaluation_failed": "status not in ('ok', 'stopped')", "ix_evaluation_reused": "reused"}


def upgrade() -> None:
    op.drop_index("ix_proposal_key", "proposal")
    for name, condition in FEW.items():
        where = sa.text(condition)
        op.create_index(name, "evaluation", ["study_id"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name in FEW:
        op.drop_index(name, "evaluation")
    op.create_index("ix_proposal_key", "proposal", ["key"])
