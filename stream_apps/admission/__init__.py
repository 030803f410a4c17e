"""Deciding whether a change may enter the bus."""
