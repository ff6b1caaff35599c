"""Streams that outlive their worker: what can be resumed, how, and the rewriting of what follows.

Pure: bytes in, bytes out. The data plane relays, notices the death, picks the next worker and does
the calls that a `Resume` asks for.
"""
