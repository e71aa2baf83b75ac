"""nginx in its two parts: the upstream with a fixed answer, and the yardstick that passes the same bytes."""

from __future__ import annotations

from pathlib import Path

_COMMON = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit; worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  client_body_temp_path cb; proxy_temp_path pt; fastcgi_temp_path ft; uwsgi_temp_path ut; scgi_temp_path st;
  client_max_body_size 64m; client_body_buffer_size 1m;
  %s
}
"""


def upstream_command(folder: Path, port: int, answer: bytes) -> list[str]:
    """An upstream that gives every request this JSON answer, from memory."""
    quoted = answer.decode().replace("\\", "\\\\").replace("'", "\\'")
    server = f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{quoted}'; }} }}"
    return _command(folder, server)


def proxy_command(folder: Path, port: int, upstream_port: int) -> list[str]:
    """A proxy that passes everything as it comes, with connections kept on both sides."""
    server = f"""
  proxy_buffering off; proxy_request_buffering off; proxy_http_version 1.1; proxy_set_header Connection "";
  upstream provider {{ server 127.0.0.1:{upstream_port}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://provider; }} }}"""
    return _command(folder, server)


def _command(folder: Path, server: str) -> list[str]:
    configuration = folder / "nginx.conf"
    configuration.write_text(_COMMON % server)
    return ["nginx", "-p", str(folder), "-c", str(configuration)]
