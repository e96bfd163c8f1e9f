"""What kind of project is this: pure functions over a file listing and the project's own tables."""
