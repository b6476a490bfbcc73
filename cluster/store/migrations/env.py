"""Alembic's entry: runs in the connection, and the transaction, that the store hands over."""

from alembic import context

from archfront.cluster.store._migrate import VERSION_TABLE
from archfront.cluster.store._models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
