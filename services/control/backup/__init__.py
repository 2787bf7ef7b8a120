"""One tenant in a file, and out of it again: for backups, moves between deployments, and copies to try things on."""
