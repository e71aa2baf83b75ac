"""How each provider writes requests, streams and usage: bytes in, facts out."""
