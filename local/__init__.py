"""The whole service on one machine, without containers: embedded Valkey, embedded S3, the API and a worker."""
