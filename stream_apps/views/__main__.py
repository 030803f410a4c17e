"""``python -m civicbus.stream_apps.views --home FOLDER``."""

from civicbus.stream_apps.views.app import main

main()
