"""What comes from outside the store: host directories, git repositories, addresses and secrets."""
