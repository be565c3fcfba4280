"""Where the fields of XLA's C interface lie, read from the header that jaxlib brings.

What machine code reads of XLA's structs, it reads at these offsets. So each field must be there,
and of the type that is expected; otherwise there is no pass.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SIZES = {"size_t": 8, "int64_t": 8, "uint64_t": 8, "int": 4, "int32_t": 4, "uint32_t": 4}

# What the handler reads and writes, and of which type it takes it to be.
_FIELDS = {
    "Extension_Base.type": "XLA_FFI_Extension_Type",
    "Metadata_Extension.metadata": "XLA_FFI_Metadata*",
    "Metadata.api_version": "XLA_FFI_Api_Version",
    "Metadata.traits": "XLA_FFI_Handler_Traits",
    "Api_Version.major_version": "int",
    "Api_Version.minor_version": "int",
    "CallFrame.extension_start": "XLA_FFI_Extension_Base*",
    "CallFrame.api": "XLA_FFI_Api*",
    "CallFrame.ctx": "XLA_FFI_ExecutionContext*",
    "CallFrame.stage": "XLA_FFI_ExecutionStage",
    "CallFrame.args": "XLA_FFI_Args",
    "CallFrame.rets": "XLA_FFI_Rets",
    "Args.size": "int64_t",
    "Args.types": "XLA_FFI_ArgType*",
    "Args.args": "void**",
    "Rets.size": "int64_t",
    "Rets.types": "XLA_FFI_RetType*",
    "Rets.rets": "void**",
    "Buffer.dtype": "XLA_FFI_DataType",
    "Buffer.data": "void*",
    "Buffer.rank": "int64_t",
    "Buffer.dims": "int64_t*",
    "Api.XLA_FFI_Error_Create": "XLA_FFI_Error_Create*",
    "Api.XLA_FFI_Error_Destroy": "XLA_FFI_Error_Destroy*",
    "Api.XLA_FFI_ThreadPool_Schedule": "XLA_FFI_ThreadPool_Schedule*",
    "Api.XLA_FFI_ThreadPool_NumThreads": "XLA_FFI_ThreadPool_NumThreads*",
    "Error_Create_Args.extension_start": "XLA_FFI_Extension_Base*",
    "Error_Create_Args.message": "char*",
    "Error_Create_Args.errc": "XLA_FFI_Error_Code",
    "Error_Destroy_Args.extension_start": "XLA_FFI_Extension_Base*",
    "Error_Destroy_Args.error": "XLA_FFI_Error*",
    "ThreadPool_Schedule_Args.extension_start": "XLA_FFI_Extension_Base*",
    "ThreadPool_Schedule_Args.ctx": "XLA_FFI_ExecutionContext*",
    "ThreadPool_Schedule_Args.task": "XLA_FFI_Task*",
    "ThreadPool_Schedule_Args.data": "void*",
    "ThreadPool_NumThreads_Args.extension_start": "XLA_FFI_Extension_Base*",
    "ThreadPool_NumThreads_Args.ctx": "XLA_FFI_ExecutionContext*",
    "ThreadPool_NumThreads_Args.num_threads": "int64_t*",
}
_CONSTANTS = [
    "Extension_Metadata",
    "ArgType_BUFFER",
    "RetType_BUFFER",
    "ExecutionStage_EXECUTE",
    "Error_Code_INVALID_ARGUMENT",
]
_DTYPES = {
    "bool": "PRED",
    "int8": "S8",
    "int16": "S16",
    "int32": "S32",
    "int64": "S64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "bfloat16": "BF16",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}


class UnknownInterfaceError(Exception):
    """The header is not of the interface that passes are written for."""


@dataclass(frozen=True)
class Interface:
    """Numbers for the handler's text."""

    numbers: Mapping[str, int]
    """``CallFrame_api`` for an offset, ``size_Error_Create_Args``, ``Extension_Metadata``."""

    dtypes: Mapping[str, int]


def interface(header: str) -> Interface:
    """Read the header.

    Raises:
      UnknownInterfaceError: for another major version, and where something is missing or of
        another type than expected.
    """
    text = re.sub(r"//.*|/\*.*?\*/", "", header)
    structs = {
        name: _fields(body) for name, body in re.findall(r"struct XLA_FFI_(\w+) \{([^{}]*)\}", text)
    }
    enums = dict(re.findall(r"XLA_FFI_(\w+) = (\d+),", text))
    versions = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text))
    if versions.get("MAJOR") != "0" or "MINOR" not in versions:
        raise UnknownInterfaceError(f"of XLA's interface, version {versions} is unknown")
    scalars = _SIZES | {
        name: 4 for name in re.findall(r"\}\s*XLA_FFI_(\w+);", text) if name not in structs
    }
    scalars |= {
        name: _SIZES[kind]
        for kind, name in re.findall(r"typedef (\w+) XLA_FFI_(\w+);", text)
        if kind in _SIZES
    }
    layout = _Layout(structs, scalars)
    last = dict(re.findall(r"XLA_FFI_DEFINE_STRUCT_TRAITS\(XLA_FFI_(\w+), (\w+)\)", text))
    numbers = {"major": 0, "minor": int(versions["MINOR"])}
    try:
        for name, expected in _FIELDS.items():
            struct, field = name.split(".")
            if structs[struct][field] != expected:
                raise UnknownInterfaceError(f"in XLA's interface, {name} is no {expected}")
            numbers[f"{struct}_{field}"] = layout.offset(struct, field)
            if struct in last:
                numbers[f"size_{struct}"] = layout.end(struct, last[struct])
        numbers |= {name: int(enums[name]) for name in _CONSTANTS}
        dtypes = {name: int(enums[f"DataType_{theirs}"]) for name, theirs in _DTYPES.items()}
    except KeyError as error:
        raise UnknownInterfaceError(f"XLA's interface has no {error.args[0]}") from None
    return Interface(numbers, dtypes)


def _fields(body: str) -> dict[str, str]:
    """The types of a struct's fields, by name and in order."""
    found: dict[str, str] = {}
    for line in body.split(";"):
        words = " ".join(line.split())
        if entry := re.fullmatch(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\)", words):
            found[entry[1]] = f"{entry[1]}*"
        elif pointer := re.fullmatch(r"void \(\*(\w+)\)\(.*\)", words):
            found[pointer[1]] = "void*"
        elif field := re.fullmatch(r"(?:const |struct )*(\w+ ?\**) ?(\w+)", words):
            found[field[2]] = field[1].replace(" ", "")
        elif words:
            found[words] = "unknown"
    return found


@dataclass(frozen=True)
class _Layout:
    """How a C compiler lays out the structs, on machines of 64 bits."""

    structs: Mapping[str, Mapping[str, str]]
    scalars: Mapping[str, int]

    def offset(self, struct: str, field: str) -> int:
        """Where a field begins."""
        place = 0
        for name, kind in self.structs[struct].items():
            size, alignment = self.size(kind)
            place = -(-place // alignment) * alignment
            if name == field:
                return place
            place += size
        raise KeyError(f"{struct}.{field}")

    def end(self, struct: str, field: str) -> int:
        """Where it ends."""
        return self.offset(struct, field) + self.size(self.structs[struct][field])[0]

    def size(self, kind: str) -> tuple[int, int]:
        """The size of a type, and what its place is a multiple of."""
        name = kind.removeprefix("XLA_FFI_")
        if kind.endswith("*"):
            return 8, 8
        if name in self.scalars:
            return self.scalars[name], self.scalars[name]
        fields = self.structs[name]
        alignment = max(self.size(k)[1] for k in fields.values())
        end = self.end(name, list(fields)[-1])
        return -(-end // alignment) * alignment, alignment
