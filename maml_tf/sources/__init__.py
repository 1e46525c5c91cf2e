"""Where the examples of tasks come from."""
