"""One request's corridor, a module for each step."""
