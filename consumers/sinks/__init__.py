"""Where rows of an inbox can go."""
