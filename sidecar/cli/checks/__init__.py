"""What `spend doctor` looks at: one module for each part of a set-up."""
