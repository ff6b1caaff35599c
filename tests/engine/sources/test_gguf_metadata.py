from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.engine.sources.gguf_metadata import GGUFTensor, read_gguf_header, read_gguf_metadata
from shoal.errors import ModelNotFound, UnsupportedModel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a value of every kind, written with the gguf package."""
    path = tmp_path / "kinds.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65_535)
    writer.add_int16("i16", -32_768)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "naïve 🎉")
    writer.add_array("texts", ["", "a", "日本"])
    writer.add_array("numbers", [1, -2, 3])
    writer.add_array("floats", [0.5, -1.5])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_values_of_every_kind(path: Path) -> None:
    assert read_gguf_metadata(path) == {
        "general.architecture": "llama",
        "u8": 255,
        "i8": -128,
        "u16": 65_535,
        "i16": -32_768,
        "u32": 2**32 - 1,
        "i32": -(2**31),
        "u64": 2**64 - 1,
        "i64": -(2**63),
        "f32": 0.5,
        "f64": 0.1,
        "yes": True,
        "no": False,
        "text": "naïve 🎉",
        "texts": ["", "a", "日本"],
        "numbers": [1, -2, 3],
        "floats": [0.5, -1.5],
    }


def test_it_reads_what_the_gguf_package_reads(path: Path) -> None:
    fields = GGUFReader(path).fields
    expected = {
        name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")
    }
    assert read_gguf_metadata(path) == expected


def test_every_truncation_is_refused(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    end = _end_of_metadata(path)
    cut = tmp_path / "cut.gguf"
    for size in range(end):
        cut.write_bytes(whole[:size])
        with pytest.raises(UnsupportedModel, match="not a usable GGUF file"):
            read_gguf_metadata(cut)
    cut.write_bytes(whole[:end])
    assert read_gguf_metadata(cut) == read_gguf_metadata(path)


def _end_of_metadata(path: Path) -> int:
    """The last value is the array `floats`: two 32-bit numbers."""
    needle = struct.pack("<ff", 0.5, -1.5)
    return path.read_bytes().rindex(needle) + len(needle)


def _header(entries: int = 1, *, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    return magic + struct.pack("<IQQ", version, 0, entries)


def _key(name: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty file"),
        (_header(magic=b"GGML"), "starts with b'GGML'"),
        (_header(version=1), "GGUF version 1"),
        (_header(version=0x03000000), "little endian"),
        (_header(2**40), "metadata entries, more than"),
        (_header() + struct.pack("<Q", 2**63), "ends past the file"),
        (_header() + _key(b"k") + struct.pack("<I", 99), "unknown value type 99"),
        (_header() + _key(b"k") + struct.pack("<IIQ", 9, 8, 2**61), "ends past the file"),
        (_header() + _key(b"k") + struct.pack("<IIQ", 9, 4, 2**62), "ends past the file"),
        (_header() + _key(b"k") + struct.pack("<IIQ", 9, 9, 1), "unknown value type 9"),
        (_header() + _key(b"\xff") + struct.pack("<IB", 0, 1), "can't decode byte 0xff"),
    ],
)
def test_absurd_files_are_refused(tmp_path: Path, data: bytes, complaint: str) -> None:
    path = tmp_path / "absurd.gguf"
    path.write_bytes(data)
    with pytest.raises(UnsupportedModel, match=complaint):
        read_gguf_metadata(path)


def _aligned(kind: int, value: bytes) -> bytes:
    return _header() + _key(b"general.alignment") + struct.pack("<I", kind) + value


def _one_tensor(num_tensors: int, dims: tuple[int, ...]) -> bytes:
    table = _key(b"t") + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, 8, 64)
    return b"GGUF" + struct.pack("<IQQ", 3, num_tensors, 0) + table


def test_the_tensor_table(tmp_path: Path) -> None:
    path = tmp_path / "table.gguf"
    data = _one_tensor(1, (32, 5))
    path.write_bytes(data)
    start = -(-len(data) // 32) * 32
    assert read_gguf_header(path)[1] == [GGUFTensor("t", (5, 32), 8, start + 64)]
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(UnsupportedModel, match="not a usable GGUF file"):
            read_gguf_header(path)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (_aligned(4, struct.pack("<I", 0)), "general.alignment is 0"),
        (_aligned(5, struct.pack("<i", -8)), "general.alignment is -8"),
        (_aligned(6, struct.pack("<f", float("inf"))), "general.alignment is inf"),
        (_aligned(8, _key(b"x")), "general.alignment is 'x'"),
        (_aligned(9, struct.pack("<IQI", 4, 1, 32)), r"general.alignment is \[32\]"),
        (_one_tensor(2**40, (1,)), "tensors, more than"),
        (_one_tensor(2, (1,)), "requires a buffer of"),
        (_one_tensor(1, (1, 1, 1, 1, 1)), "tensor t has 5 dimensions"),
    ],
)
def test_absurd_tensor_tables_are_refused(tmp_path: Path, data: bytes, complaint: str) -> None:
    path = tmp_path / "absurd.gguf"
    path.write_bytes(data)
    with pytest.raises(UnsupportedModel, match=complaint):
        read_gguf_header(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no GGUF file at"):
        read_gguf_metadata(tmp_path / "none.gguf")


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8))
def test_no_damage_does_anything_but_be_refused(
    path: Path, tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(path.read_bytes())
    for position, byte in changes:
        data[position % len(data)] = byte
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    try:
        metadata: dict[str, Any] = read_gguf_metadata(damaged)
    except UnsupportedModel:
        return
    assert isinstance(metadata, dict)
