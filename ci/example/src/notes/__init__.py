"""A small web service that keeps notes in a database."""
