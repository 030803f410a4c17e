"""The embedded platform: parts, supervision, provisioning of topics, users and rights."""
