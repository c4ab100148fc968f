"""Makes a Piper voice tell how long each of its sounds is.

Its network computes the durations, rounded up to whole frames by its only Ceil node, but voices are published without
them among the outputs. An ONNX file is a protocol buffer, and what is appended to one is merged into it, so a few bytes
name them as an output; piper's own patch (`patch_voice_with_alignment.py`) does the same by the `onnx` package.
"""

from __future__ import annotations

from collections.abc import Iterator

# Field numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_OUTPUT, _NODE_OUTPUT, _NODE_OPERATOR, _VALUE_NAME = 7, 1, 12, 2, 4, 1


def with_durations(model: bytes) -> bytes:
    """The network with the durations as its second output, or as it is if it has them or they cannot be found."""
    outputs, ceilings = [], []
    try:
        graph = b"".join(content for number, content in _fields(model) if number == _MODEL_GRAPH)
        for number, content in _fields(graph):
            if number == _GRAPH_OUTPUT:
                outputs.append(content)
            elif number == _GRAPH_NODE:
                node = list(_fields(content))
                if (_NODE_OPERATOR, b"Ceil") in node:
                    ceilings += [content for number, content in node if number == _NODE_OUTPUT]
    except (IndexError, KeyError):  # it is no protocol buffer; who loads it says so
        return model
    if len(outputs) != 1 or len(ceilings) != 1:
        return model
    return model + _field(_MODEL_GRAPH, _field(_GRAPH_OUTPUT, _field(_VALUE_NAME, bytes(ceilings[0]))))


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields of a message that are bytes, texts or messages; numbers are skipped."""
    message, at = memoryview(message), 0
    while at < len(message):
        key, at = _number(message, at)
        if key & 7 == 2:
            size, at = _number(message, at)
            yield key >> 3, message[at : at + size]
            at += size
        elif key & 7 == 0:
            _, at = _number(message, at)
        else:
            at += {1: 8, 5: 4}[key & 7]


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """The variable-length number at a place, seven bits a byte, and the place after it."""
    number = shift = 0
    while True:
        number |= (message[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 128:
            return number, at


def _field(number: int, content: bytes) -> bytes:
    size, rest = bytearray(), len(content)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes([number << 3 | 2, *size, rest]) + content
