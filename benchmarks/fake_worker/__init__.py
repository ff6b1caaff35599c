"""An OpenAI-compatible worker without a model: for testing what stands in front of workers."""
