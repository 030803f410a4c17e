"""Avro schemas and rows: checked schemas, the Confluent frame, and two codecs that give the same answers."""
