"""Files of configurations, and snapshots of strategies."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "snapshot",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("study_id", BIG, nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("proposals", sa.Integer(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("blobs", sa.JSON(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_snapshot_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_snapshot_study_id"), "snapshot", ["study_id"], unique=False)
    op.create_table(
        "artefact",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("study_id", BIG, nullable=True),
        sa.Column("proposal_id", sa.String(), nullable=True),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("meta", sa.JSON(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_artefact_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artefact")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_artefact_key_kind"), "artefact", ["key", "kind"], unique=False)
    op.create_index(op.f("ix_artefact_sha256"), "artefact", ["sha256"], unique=False)
    op.create_index(op.f("ix_artefact_study_id"), "artefact", ["study_id"], unique=False)


def downgrade() -> None:
    op.drop_table("artefact")
    op.drop_table("snapshot")
