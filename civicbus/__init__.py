"""civicbus: each department publishes its changes once; every entitled department is kept in step.

The folders are the data flow: ``producers`` → ``schemas`` (the common language) → ``stream_apps``
→ ``consumers``; this package holds the words they share. See ARCHITECTURE.md.
"""

__version__ = "0.1.0"
