"""What runs on the bus between departments; a folder per process."""
