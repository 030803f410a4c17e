"""The outbox of a department's PostgreSQL: triggers write what changed into a table, a relay publishes it."""
