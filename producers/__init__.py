"""How a department's record change becomes a change event."""
