"""The drop folder: what a department's people put into a folder is published as the changes of its datasets."""
