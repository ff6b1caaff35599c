"""Messages as bytes: field numbers and types are a contract with KEDA."""

from __future__ import annotations

import struct

from shoal.autoscaler.keda import wire


def field(number: int, content: bytes) -> bytes:
    """One of length-delimited type."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_reference_with_its_metadata() -> None:
    ref = wire.ScaledObjectRef(name="so", namespace="llm", scalerMetadata={"policy": "chat"})
    entry = field(1, b"policy") + field(2, b"chat")
    expected = field(1, b"so") + field(2, b"llm") + field(3, entry)
    assert ref.SerializeToString() == expected
    assert dict(wire.ScaledObjectRef.FromString(expected).scalerMetadata) == {"policy": "chat"}


def test_a_request_for_a_metric() -> None:
    content = field(1, field(1, b"so")) + field(2, b"m")
    request = wire.GetMetricsRequest.FromString(content)
    assert (request.scaledObjectRef.name, request.metricName) == ("so", "m")


def test_answers() -> None:
    assert wire.IsActiveResponse(result=True).SerializeToString() == b"\x08\x01"
    spec = wire.MetricSpec(metricName="m", targetSizeFloat=1.0)
    double = bytes([3 << 3 | 1]) + struct.pack("<d", 1.0)
    specs = wire.GetMetricSpecResponse(metricSpecs=[spec])
    assert specs.SerializeToString() == field(1, field(1, b"m") + double)
    value = wire.MetricValue(metricName="m", metricValueFloat=2.5)
    double = bytes([3 << 3 | 1]) + struct.pack("<d", 2.5)
    values = wire.GetMetricsResponse(metricValues=[value])
    assert values.SerializeToString() == field(1, field(1, b"m") + double)


def test_no_replica_is_zero_in_both_fields() -> None:
    value = wire.MetricValue.FromString(wire.MetricValue(metricValueFloat=0.0).SerializeToString())
    assert (value.metricValueFloat, value.metricValue) == (0.0, 0)
