"""The messages and the service of version 1; see the .proto file."""
