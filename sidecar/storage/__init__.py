"""Where the book is kept, and its schema's migrations."""
