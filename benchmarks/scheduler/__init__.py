"""What one scheduling step costs, beside vLLM's own scheduler in the same run."""
