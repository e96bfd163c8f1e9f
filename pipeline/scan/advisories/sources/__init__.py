"""Where advisories come from, one file each."""
