"""Studies, what they proposed and learnt, values, fronts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "space",
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("variant", sa.String(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_space")),
    )
    op.create_index(op.f("ix_space_name"), "space", ["name"], unique=False)
    op.create_table(
        "device",
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_device")),
    )
    op.create_index(op.f("ix_device_name"), "device", ["name"], unique=False)
    op.create_table(
        "study",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("searched", sa.JSON(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("task_identity", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("protocol", sa.String(), nullable=False),
        sa.Column("trainer", sa.String(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("objectives", sa.JSON(), nullable=False),
        sa.Column("constraints", sa.JSON(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("budget_trials", sa.Integer(), nullable=True),
        sa.Column("budget_seconds", sa.Float(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("train_seed", sa.BigInteger(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("run_epoch", sa.Integer(), nullable=False),
        sa.Column("reference", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("startup_seconds", sa.Float(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("name", name=op.f("uq_study_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_study_identity_task_identity_protocol"),
        "study",
        ["identity", "task_identity", "protocol"],
        unique=False,
    )
    op.create_table(
        "proposal",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("study_id", BIG, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("architecture_key", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("parents", sa.JSON(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("predicted", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_proposal_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal")),
        sa.UniqueConstraint("study_id", "key", name=op.f("uq_proposal_study_id_key")),
        sa.UniqueConstraint("study_id", "number", name=op.f("uq_proposal_study_id_number")),
    )
    op.create_index(op.f("ix_proposal_architecture_key"), "proposal", ["architecture_key"], unique=False)
    op.create_index(op.f("ix_proposal_key"), "proposal", ["key"], unique=False)
    op.create_index(op.f("ix_proposal_study_id_state"), "proposal", ["study_id", "state"], unique=False)
    op.create_table(
        "evaluation",
        sa.Column("proposal_id", sa.String(length=32), nullable=False),
        sa.Column("study_id", BIG, nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("fidelity", sa.JSON(), nullable=False),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.Column("observation_id", sa.BigInteger(), nullable=True),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.id"], name=op.f("fk_evaluation_proposal_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_evaluation_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_evaluation")),
        sa.UniqueConstraint("study_id", "sequence", name=op.f("uq_evaluation_study_id_sequence")),
    )
    op.create_table(
        "observation",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("proposal_id", sa.String(), nullable=True),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("task_identity", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("architecture_key", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("protocol", sa.String(), nullable=False),
        sa.Column("train_seed", sa.BigInteger(), nullable=False),
        sa.Column("usable", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_observation")),
        sa.UniqueConstraint("proposal_id", name=op.f("uq_observation_proposal_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_observation_architecture_key"), "observation", ["architecture_key"], unique=False)
    op.create_index(
        "ix_observation_fact", "observation", ["identity", "task_identity", "protocol", "key"], unique=False
    )
    op.create_table(
        "observation_value",
        sa.Column("observation_id", BIG, nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["observation_id"], ["observation.id"], name=op.f("fk_observation_value_observation_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("observation_id", "metric", name=op.f("pk_observation_value")),
    )
    op.create_table(
        "device_value",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("architecture_key", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("minimum", sa.Float(), nullable=True),
        sa.Column("median", sa.Float(), nullable=True),
        sa.Column("spread", sa.Float(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("reference_drift", sa.Float(), nullable=True),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_value")),
        sa.UniqueConstraint(
            "identity", "signature", "architecture_key", "device", "metric", "session", name="uq_device_value_session"
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "analytic_value",
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("architecture_key", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("identity", "signature", "architecture_key", "metric", name=op.f("pk_analytic_value")),
    )
    op.create_table(
        "report",
        sa.Column("proposal_id", sa.String(length=32), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposal.id"], name=op.f("fk_report_proposal_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("proposal_id", "step", name=op.f("pk_report")),
    )
    op.create_table(
        "front",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("study_id", BIG, nullable=True),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("task_identity", sa.String(), nullable=False),
        sa.Column("protocol", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("objectives", sa.JSON(), nullable=False),
        sa.Column("constraints", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_front_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_front")),
        sa.UniqueConstraint("name", name=op.f("uq_front_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_front_identity_signature"), "front", ["identity", "signature"], unique=False)
    op.create_index(op.f("ix_front_study_id"), "front", ["study_id"], unique=False)
    op.create_table(
        "front_point",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("front_id", BIG, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("proposal_id", sa.String(), nullable=True),
        sa.Column("observation_id", sa.BigInteger(), nullable=True),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("entered_sequence", sa.BigInteger(), nullable=False),
        sa.Column("left_sequence", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["front_id"], ["front.id"], name=op.f("fk_front_point_front_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_front_point")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_front_point_front_id_left_sequence"), "front_point", ["front_id", "left_sequence"], unique=False
    )


def downgrade() -> None:
    op.drop_table("front_point")
    op.drop_table("front")
    op.drop_table("report")
    op.drop_table("analytic_value")
    op.drop_table("device_value")
    op.drop_table("observation_value")
    op.drop_table("observation")
    op.drop_table("evaluation")
    op.drop_table("proposal")
    op.drop_table("study")
    op.drop_table("device")
    op.drop_table("space")
