"""A small city, or the files of one, on the real broker, registry and database, and the proof after it."""

from civicbus.cli.demo.command import register

__all__ = ["register"]
