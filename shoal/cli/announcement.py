"""What `shoal serve` and `shoal route` say when ready: the address, and a command that works."""

from __future__ import annotations

import ipaddress
import json
import shlex


def base_url(host: str, port: int) -> str:
    """An address that a program on this machine can use, also where the server listens on all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def announcement(url: str, *, model: str, has_chat_template: bool, needs_key: bool) -> str:
    """Several lines of text; a model without a chat template is shown with a plain completion."""
    command = request_example(
        url, model=model, has_chat_template=has_chat_template, needs_key=needs_key
    )
    return f"Serving {model} on {url}/v1\n\n{command}\n\nCtrl-C stops the server."


def request_example(
    url: str, *, model: str, has_chat_template: bool = True, needs_key: bool = False
) -> str:
    """A `curl` command over several indented lines."""
    body: dict[str, object] = {"model": model}
    if has_chat_template:
        route = "chat/completions"
        body["messages"] = [{"role": "user", "content": "What is the capital of Japan?"}]
    else:
        route = "completions"
        body["prompt"] = "The capital of Japan is"
    body["temperature"] = 0  # a first answer that small models get right
    lines = [f"curl {url}/v1/{route}", "-H 'Content-Type: application/json'"]
    if needs_key:
        lines.append('-H "Authorization: Bearer $SHOAL_API_KEY"')
    lines.append(f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}")
    return "  " + " \\\n    ".join(lines)
