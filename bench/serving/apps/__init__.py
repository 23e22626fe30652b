"""One program for each of the other servers; each runs in that server's own virtual environment."""
