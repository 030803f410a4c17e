"""The only importer of Kafka clients."""
