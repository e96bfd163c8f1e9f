"""Running commands: runners, networks, services, and the way from an exec to what it left."""
