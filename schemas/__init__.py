"""The common language: catalogue, agreements, codec, compatibility, registry."""
