"""Stand-ins for official images, built from signed Debian packages where no registry can be reached."""
