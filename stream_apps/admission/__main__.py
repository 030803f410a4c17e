"""``python -m civicbus.stream_apps.admission --home FOLDER``."""

from civicbus.stream_apps.admission.app import main

main()
