"""PTX text -> kernels: parameters, registers, instructions in basic blocks.

PTX ISA 9.0, chapters 4 (syntax) and 5 (state spaces, types), is what this follows, as far as nvcc's output for the kernels
goes. What an instruction means is left to interpreter.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


class PtxError(Exception):
    """The PTX does something that a GPU would refuse, or that this interpreter does not know."""


BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


def type_bytes(ptx_type: str) -> int:
    return BYTES[ptx_type[1:]]


@dataclass(frozen=True)
class Address:
    """`[base+offset]`; base is a register or a parameter's name."""

    base: str
    offset: int


Operand = str | Address | tuple[str, ...]  # a register or an immediate, an address, a vector of registers


@dataclass(frozen=True)
class Instruction:
    """`@!predicate opcode.modifier.modifier operand, ...;`"""

    opcode: str
    modifiers: tuple[str, ...]  # types included: ("lo", "s32")
    operands: tuple[Operand, ...]
    predicate: str | None
    is_negated: bool
    text: str

    def name(self) -> str:
        return ".".join((self.opcode, *self.modifiers))


@dataclass(frozen=True)
class Parameter:
    name: str
    offset: int  # in the parameter block
    size: int


@dataclass(frozen=True)
class Kernel:
    name: str
    parameters: list[Parameter]
    registers: dict[str, str]  # name -> type
    instructions: list[Instruction]
    labels: dict[str, int]  # name -> index of the instruction after it

    def block_starts(self) -> set[int]:
        """Indices of instructions where threads may meet: labels, and whatever follows a branch."""
        after_branches = {i + 1 for i, each in enumerate(self.instructions) if each.opcode == "bra"}
        return {0, *self.labels.values(), *after_branches}


def parse(text: str) -> dict[str, Kernel]:
    """The kernels (`.entry` functions) of a module, by name."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    kernels = {}
    for header in re.finditer(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{]*)\{", text):
        name, parameters, _directives = header.groups()
        body = text[header.end() : _matching_brace(text, header.end())]
        kernels[name] = _kernel(name, parameters, body)
    return kernels


def _matching_brace(text: str, start: int) -> int:
    depth = 1
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise PtxError("a function's body does not end")


def _parameters(text: str) -> list[Parameter]:
    parameters: list[Parameter] = []
    end = 0
    for declaration in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.([busf]\d+)\s+([\w$]+)(?:\[(\d+)\])?", declaration)
        if match is None:
            raise PtxError(f"parameter not understood: {declaration}")
        align, ptx_type, name, count = match.groups()
        element = type_bytes(ptx_type)
        size = element * int(count or 1)
        alignment = int(align or element)
        offset = -(-end // alignment) * alignment
        parameters.append(Parameter(name, offset, size))
        end = offset + size
    return parameters


def _statements(body: str) -> list[str]:
    """Statements without their semicolons; labels keep their colon. Braces that only open a scope are dropped."""
    body = re.sub(r"([A-Za-z_$][\w$]*):(?!:)", r"\1:;", body)
    # A brace after a space or comma belongs to a vector operand, "{%r1, %r2}"; inline assembly opens scopes.
    body = re.sub(r"(^|[;{}])\s*\{", r"\1", body)
    body = re.sub(r";\s*\}", ";", body)
    return [statement for statement in (" ".join(part.split()) for part in body.split(";")) if statement]


def _kernel(name: str, parameters: str, body: str) -> Kernel:
    registers: dict[str, str] = {}
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for statement in _statements(body):
        if statement.endswith(":"):
            labels[statement[:-1]] = len(instructions)
        elif statement.startswith(".reg"):
            registers.update(_registers(statement))
        elif statement.startswith((".pragma", ".loc")):
            continue
        elif statement.startswith("."):
            raise PtxError(f"directive not known: {statement}")
        else:
            instructions.append(_instruction(statement))
    return Kernel(name, _parameters(parameters), registers, instructions, labels)


def _registers(statement: str) -> dict[str, str]:
    """`.reg .f32 %f<3>` declares %f0 to %f2; `.reg .b16 a, b` declares two."""
    match = re.fullmatch(r"\.reg \.(\w+) (.+)", statement)
    if match is None:
        raise PtxError(f"registers not understood: {statement}")
    ptx_type, names = match.groups()
    family = re.fullmatch(r"([%\w$]+)<(\d+)>", names)
    if family is not None:
        return {f"{family.group(1)}{i}": ptx_type for i in range(int(family.group(2)))}
    return {each.strip(): ptx_type for each in names.split(",")}


def _instruction(statement: str) -> Instruction:
    match = re.fullmatch(r"(?:@(!?)([%\w$]+) )?([a-z][\w.:]*)(?: (.*))?", statement)
    if match is None:
        raise PtxError(f"statement not understood: {statement}")
    negation, predicate, name, operands = match.groups()
    opcode, *modifiers = name.split(".")
    parsed = tuple(_operand(each) for each in _split_operands(operands or ""))
    return Instruction(opcode, tuple(modifiers), parsed, predicate, negation == "!", statement)


def _split_operands(text: str) -> list[str]:
    return [each.strip() for each in re.split(r",(?![^{\[]*[}\]])", text) if each.strip()]


def _operand(text: str) -> Operand:
    if text.startswith("{"):
        return tuple(each.strip() for each in text.strip("{}").split(","))
    if text.startswith("["):
        match = re.fullmatch(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\d+))?\s*\]", text)
        if match is None:
            raise PtxError(f"address not understood: {text}")
        return Address(match.group(1), int(match.group(2) or 0))
    return text
