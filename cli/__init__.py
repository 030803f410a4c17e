"""The `civicbus` command: a composition root that nobody imports."""
