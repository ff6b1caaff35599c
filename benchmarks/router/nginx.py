"""nginx as a plain load balancer: what a relay costs that knows nothing of inference."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from .wish import Wish

MAX_CONNECTIONS = 16_384


def program() -> str | None:
    """Where it is; Debian's is in /usr/sbin, which is not on everybody's path."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def version() -> str:
    """For example "1.22.1"; empty without nginx."""
    path = program()
    if path is None:
        return ""
    said = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"nginx/(\S+)", said.stderr)
    return found[1] if found else ""


def command(wish: Wish) -> list[str]:
    """Writes its configuration into the wish's folder."""
    config = wish.folder / "nginx.conf"
    config.write_text(configuration(wish), encoding="utf-8")
    return [program() or "nginx", "-c", str(config), "-e", str(wish.folder / "nginx.err")]


def configuration(wish: Wish) -> str:
    """Two processes for two cores; failed requests move on, which nginx does not do by itself for
    POST; no access log, no buffering of streams."""
    folder: Path = wish.folder
    servers = "\n".join(
        f"    server {url.removeprefix('http://')} max_fails=2 fail_timeout=1s;"
        for url in wish.worker_urls
    )
    read_timeout = wish.first_byte_timeout_s or 300
    temporary = "\n".join(
        f"  {kind}_temp_path {folder}/nginx-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
worker_processes 2;
worker_rlimit_nofile {2 * MAX_CONNECTIONS};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err error;
events {{ worker_connections {MAX_CONNECTIONS}; }}
http {{
  access_log off;
{temporary}
  upstream workers {{
{servers}
    keepalive 1024;
  }}
  keepalive_requests 1000000;
  keepalive_timeout 300s;
  server {{
    listen 127.0.0.1:{wish.port} backlog=4096;
    client_max_body_size 16m;
    location / {{
      proxy_pass http://workers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_next_upstream error timeout http_502 http_503 non_idempotent;
      proxy_connect_timeout 1s;
      proxy_read_timeout {read_timeout:g}s;
    }}
  }}
}}
"""
