"""What is told of deployments, and kept of who did what: audit, events, numbers, notifications."""
