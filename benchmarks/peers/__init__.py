"""What runs beside civicbus: one program for each peer, in an environment of its own.

Nothing in this folder imports civicbus. A peer is started as ``python <peer>.py <task.json>``.
"""
