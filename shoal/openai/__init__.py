"""Wire types of the OpenAI HTTP API, with vLLM's extras: what goes over the socket, no behaviour.

They are msgspec structs: a body decodes straight into typed fields, unknown fields are
skipped, and a chunk encodes in about a microsecond.
"""
