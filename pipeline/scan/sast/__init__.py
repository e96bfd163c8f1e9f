"""Static analysis: one file for each tool."""
