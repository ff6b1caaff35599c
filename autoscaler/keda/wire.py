"""KEDA's `externalscaler.ExternalScaler`: its messages and methods, as its protocol defines them.

Built from a description in place of generated code: six small messages, no compiler, and no tie to
the version of one. Field numbers are KEDA's (externalscaler.proto of 2.20, proto3).
"""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "externalscaler"
SERVICE: Final = f"{PACKAGE}.ExternalScaler"
_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "string": _FIELD.TYPE_STRING,
    "int64": _FIELD.TYPE_INT64,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
}
_MESSAGES: dict[str, tuple[tuple[str, str, int], ...]] = {
    "ScaledObjectRef": (
        ("name", "string", 1), ("namespace", "string", 2), ("scalerMetadata", "map", 3),
    ),
    "IsActiveResponse": (("result", "bool", 1),),
    "MetricSpec": (
        ("metricName", "string", 1), ("targetSize", "int64", 2), ("targetSizeFloat", "double", 3),
    ),
    "GetMetricSpecResponse": (("metricSpecs", "repeated MetricSpec", 1),),
    "GetMetricsRequest": (("scaledObjectRef", "ScaledObjectRef", 1), ("metricName", "string", 2)),
    "MetricValue": (
        ("metricName", "string", 1), ("metricValue", "int64", 2), ("metricValueFloat", "double", 3),
    ),
    "GetMetricsResponse": (("metricValues", "repeated MetricValue", 1),),
}  # fmt: skip


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="externalscaler.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, kind, number in fields:
            _add_field(message, field, kind, number)
    return file


def _add_field(message: Any, name: str, kind: str, number: int) -> None:
    field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
    if kind == "map":  # of strings by strings: repeated entries of a type of its own
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        for number_of, part in ((1, "key"), (2, "value")):
            _add_field(entry, part, "string", number_of)
        field.label, field.type = _FIELD.LABEL_REPEATED, _FIELD.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{message.name}.{entry.name}"
    elif kind in _KINDS:
        field.type = _KINDS[kind]
    else:
        if kind.startswith("repeated "):
            field.label = _FIELD.LABEL_REPEATED
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind.removeprefix('repeated ')}"


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_described())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ScaledObjectRef: Final = _class("ScaledObjectRef")
IsActiveResponse: Final = _class("IsActiveResponse")
MetricSpec: Final = _class("MetricSpec")
GetMetricSpecResponse: Final = _class("GetMetricSpecResponse")
GetMetricsRequest: Final = _class("GetMetricsRequest")
MetricValue: Final = _class("MetricValue")
GetMetricsResponse: Final = _class("GetMetricsResponse")

METHODS: Final = {
    "IsActive": (ScaledObjectRef, IsActiveResponse),
    "StreamIsActive": (ScaledObjectRef, IsActiveResponse),
    "GetMetricSpec": (ScaledObjectRef, GetMetricSpecResponse),
    "GetMetrics": (GetMetricsRequest, GetMetricsResponse),
}
"""Request and response of each; `StreamIsActive` answers with a stream."""


def handler_of(servicer: Any) -> Any:
    """What a gRPC server takes: the methods of `servicer`, by their names."""
    handlers = {}
    for name, (request, response) in METHODS.items():
        make = (
            grpc.unary_stream_rpc_method_handler
            if name.startswith("Stream")
            else grpc.unary_unary_rpc_method_handler
        )
        handlers[name] = make(
            getattr(servicer, name),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)
