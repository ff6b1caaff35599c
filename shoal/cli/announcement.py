"""What `shoal serve` says when it is ready: the address, and a command that works as it stands."""

from __future__ import annotations

import json
import shlex


def announcement(url: str, *, model: str, has_chat_template: bool, needs_key: bool) -> str:
    """Several lines of text; a model without a chat template is shown with a plain completion."""
    body: dict[str, object] = {"model": model}
    if has_chat_template:
        route = "chat/completions"
        body["messages"] = [{"role": "user", "content": "What is the capital of France?"}]
    else:
        route = "completions"
        body["prompt"] = "The capital of France is"
    lines = [f"curl {url}/v1/{route}", "-H 'Content-Type: application/json'"]
    if needs_key:
        lines.append('-H "Authorization: Bearer $SHOAL_API_KEY"')
    lines.append(f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}")
    command = " \\\n    ".join(lines)
    return f"Serving {model} on {url}/v1\n\n  {command}\n\nCtrl-C stops the server."
