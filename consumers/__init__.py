"""From an inbox to the department's own system."""
