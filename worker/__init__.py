"""The workers: one process, one device, models that stay resident."""
