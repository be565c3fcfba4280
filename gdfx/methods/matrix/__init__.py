"""Methods whose step looks at a matrix: rows are outputs, columns are inputs."""
