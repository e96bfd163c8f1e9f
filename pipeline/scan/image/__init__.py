"""What is in an image: its layers read as streams, its packages, and how it is set up."""
