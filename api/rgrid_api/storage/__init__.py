"""Object storage: the one place that speaks S3."""
