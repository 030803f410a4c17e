"""The view language: parsing, types, the closed list of functions, and lineage."""
