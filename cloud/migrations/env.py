"""Alembic's entry: it runs the steps on the connection that `cloud.migrations` gives it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
