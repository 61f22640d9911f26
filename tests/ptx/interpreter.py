"""Runs a kernel over a grid: every register is a NumPy array over all threads, one program counter a thread.

Threads part and meet as on a GPU of independent threads: always the threads with the least program counter go on, which
brings those that branched ahead together again. Registers hold unsigned bits and are viewed as each instruction's type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from ptx.memory import Memory
from ptx.parser import Address, Instruction, Kernel, Operand, PtxError, type_bytes

KINDS = {"b": "u", "u": "u", "s": "i", "f": "f"}
MAX_LANES = 1 << 18  # threads run together; more only cost memory
MAX_BLOCKS = 200_000  # runs of straight code after which a kernel counts as one that never ends


def numpy_type(ptx_type: str) -> np.dtype:
    if ptx_type == "pred":
        return np.dtype(bool)
    return np.dtype(f"{KINDS[ptx_type[0]]}{type_bytes(ptx_type)}")


def launch(
    kernel: Kernel,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[bytes],
    memory: Memory,
) -> None:
    """Runs `kernel` over grid x block threads; arguments are the bytes of each parameter."""
    expected = [parameter.size for parameter in kernel.parameters]
    if [len(argument) for argument in arguments] != expected:
        raise PtxError(f"{kernel.name} takes parameters of {expected} bytes")
    values = {parameter.name: argument for parameter, argument in zip(kernel.parameters, arguments, strict=True)}
    block_threads, num_blocks = int(np.prod(block)), int(np.prod(grid))
    together = max(1, MAX_LANES // block_threads)
    for first in range(0, num_blocks, together):
        blocks = np.arange(first, min(first + together, num_blocks))
        block_index = np.repeat(blocks, block_threads)
        thread_index = np.tile(np.arange(block_threads), len(blocks))
        special = {}
        for name, index, extent in (("tid", thread_index, block), ("ctaid", block_index, grid)):
            special[f"%{name}.x"] = index % extent[0]
            special[f"%{name}.y"] = index // extent[0] % extent[1]
            special[f"%{name}.z"] = index // (extent[0] * extent[1])
        for i, axis in enumerate("xyz"):
            special[f"%ntid.{axis}"] = np.full(len(thread_index), block[i])
            special[f"%nctaid.{axis}"] = np.full(len(thread_index), grid[i])
        _Machine(kernel, values, {k: v.astype(np.uint32) for k, v in special.items()}, memory).run()


class _Machine:
    """The threads of some blocks: registers, program counters, and the meaning of each instruction."""

    def __init__(
        self, kernel: Kernel, parameters: dict[str, bytes], special: dict[str, np.ndarray], memory: Memory
    ) -> None:
        self.kernel = kernel
        self.parameters = parameters
        self.special = special
        self.memory = memory
        self.num_lanes = len(special["%tid.x"])
        self.registers = {
            name: np.zeros(self.num_lanes, bool if ptx_type == "pred" else f"u{type_bytes(ptx_type)}")
            for name, ptx_type in kernel.registers.items()
        }
        self.program = [(instruction, _meaning(instruction)) for instruction in kernel.instructions]
        self.lanes: np.ndarray | slice = slice(None)  # the threads that run the current instruction

    def run(self) -> None:
        end = len(self.program)
        starts = self.kernel.block_starts()
        counters = np.zeros(self.num_lanes, np.int64)
        blocks = 0
        with np.errstate(all="ignore"):
            while (at := int(counters.min())) < end:
                here = np.flatnonzero(counters == at)
                blocks += 1
                if blocks > MAX_BLOCKS:
                    raise PtxError(f"{self.kernel.name} does not end within {MAX_BLOCKS} runs of straight code")
                while True:
                    instruction, meaning = self.program[at]
                    at += 1
                    running = self._guarded(instruction, here)
                    if instruction.opcode in ("bra", "ret", "exit"):
                        target = end
                        if instruction.opcode == "bra":
                            target = self.kernel.labels[_name(instruction.operands[0])]
                        counters[here] = at
                        counters[running] = target
                        break
                    if len(running):
                        self.lanes = slice(None) if len(running) == self.num_lanes else running
                        meaning(self, instruction)
                    if at in starts or at == end:
                        counters[here] = at
                        break

    def _guarded(self, instruction: Instruction, here: np.ndarray) -> np.ndarray:
        """Those of the threads `here` whose predicate lets them run the instruction."""
        if instruction.predicate is None:
            return here
        return here[self.registers[instruction.predicate][here] != instruction.is_negated]

    # Registers and immediates

    def read(self, operand: Operand, ptx_type: str, is_relaxed: bool = False) -> np.ndarray:
        """The operand's values as `ptx_type`. is_relaxed: the register may be wider, its low bits count (st, cvt)."""
        name = _name(operand)
        dtype = numpy_type(ptx_type)
        if name in self.registers:
            values = self.registers[name][self.lanes]
            if ptx_type == "pred" or values.dtype == bool:
                if ptx_type != "pred" or values.dtype != bool:
                    raise PtxError(f"{name} read as {ptx_type}")
                return values
            if values.dtype.itemsize == dtype.itemsize:
                return values.view(dtype)
            if is_relaxed and values.dtype.itemsize > dtype.itemsize:
                return values.astype(f"u{dtype.itemsize}").view(dtype)
            raise PtxError(f"{name} has {values.dtype.itemsize} bytes, read as {ptx_type}")
        if name in self.special:
            return self.special[name][self.lanes].astype(dtype)
        return np.broadcast_to(_immediate(name, dtype), self._shape())

    def _shape(self) -> tuple[int]:
        return (self.num_lanes,) if isinstance(self.lanes, slice) else (len(self.lanes),)

    def write(self, operand: Operand, values: np.ndarray, is_relaxed: bool = False) -> None:
        """Stores values. is_relaxed: the register may be wider, values are extended as their type says (ld, cvt)."""
        name = _name(operand)
        register = self.registers.get(name)
        if register is None:
            raise PtxError(f"{name} is not a register")
        if values.dtype != bool and register.dtype != bool and values.dtype.itemsize != register.dtype.itemsize:
            if not is_relaxed or values.dtype.itemsize > register.dtype.itemsize or values.dtype.kind == "f":
                raise PtxError(f"{values.dtype} does not fit {name} of {register.dtype.itemsize} bytes")
            values = values.astype(f"{values.dtype.kind}{register.dtype.itemsize}")
        if (values.dtype == bool) != (register.dtype == bool):
            raise PtxError(f"{values.dtype} written to {name}")
        register[self.lanes] = values.view(register.dtype)


def _name(operand: Operand) -> str:
    if not isinstance(operand, str):
        raise PtxError(f"a register or number was expected, not {operand}")
    return operand


def _immediate(text: str, dtype: np.dtype) -> np.ndarray:
    if match := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", text):
        value = np.array(int(match.group(1), 16), np.uint32).view(np.float32)
        if dtype != np.float32:
            raise PtxError(f"{text} used as {dtype}")
        return value
    if not re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
        raise PtxError(f"operand not understood: {text}")
    bits = int(text.rstrip("U"), 0) & (2 ** (8 * dtype.itemsize) - 1)
    return np.array(bits, f"u{dtype.itemsize}").view(dtype)


# Instructions. Each function below defines one opcode; _meaning finds it and refuses every form that is not listed.

Meaning = Callable[[_Machine, Instruction], None]

INTEGERS = ("s32", "u32", "s64", "u64", "s16", "u16")
BITS = ("b16", "b32", "b64")
_FORMS: dict[str, Meaning] = {}


def _forms(*names: str) -> Callable[[Meaning], Meaning]:
    def define(meaning: Meaning) -> Meaning:
        for name in names:
            _FORMS[name] = meaning
        return meaning

    return define


def _with(opcode: str, types: Sequence[str]) -> list[str]:
    return [f"{opcode}.{ptx_type}" for ptx_type in types]


def _meaning(instruction: Instruction) -> Meaning:
    name = instruction.name()
    if name not in _FORMS:
        inexact = {"approx", "full", "ftz"} & set(instruction.modifiers)
        why = f"{', '.join(sorted(inexact))} is not exact" if inexact else "unknown instruction"
        raise PtxError(f"{why}: {instruction.text}")
    return _FORMS[name]


@_forms("bra", "bra.uni", "ret", "exit")
def _branch(machine: _Machine, instruction: Instruction) -> None:
    raise AssertionError("branches are run by _Machine.run")


SPACES = ("", ".global", ".global.nc")
MEMORY_TYPES = ("u8", "s8", "b8", "u16", "s16", "b16", "u32", "s32", "b32", "f32", "u64", "s64", "b64")
VECTORS = ("", ".v2", ".v4")


def _vector(operand: Operand, instruction: Instruction) -> tuple[str, ...]:
    width = next((int(each[1]) for each in instruction.modifiers if each in ("v2", "v4")), 1)
    registers = operand if isinstance(operand, tuple) else (_name(operand),)
    if len(registers) != width:
        raise PtxError(f"{width} registers expected: {instruction.text}")
    return registers


def _addresses(machine: _Machine, operand: Operand, size: int) -> np.ndarray:
    if not isinstance(operand, Address):
        raise PtxError(f"an address was expected, not {operand}")
    addresses = machine.read(operand.base, "u64") + np.uint64(operand.offset % 2**64)
    if (addresses % np.uint64(size) != 0).any():
        raise PtxError(f"misaligned access of {size} bytes")
    return addresses


@_forms(*(f"ld{space}{vector}.{t}" for space in SPACES for vector in VECTORS for t in MEMORY_TYPES))
def _load(machine: _Machine, instruction: Instruction) -> None:
    dtype = numpy_type(instruction.modifiers[-1])
    registers = _vector(instruction.operands[0], instruction)
    addresses = _addresses(machine, instruction.operands[1], dtype.itemsize * len(registers))
    for i, register in enumerate(registers):
        values = machine.memory.load(addresses + np.uint64(i * dtype.itemsize), dtype, "nc" in instruction.modifiers)
        machine.write(register, values, is_relaxed=True)


@_forms(*(f"ld.param{vector}.{t}" for vector in VECTORS for t in MEMORY_TYPES))
def _load_parameter(machine: _Machine, instruction: Instruction) -> None:
    dtype = numpy_type(instruction.modifiers[-1])
    source = instruction.operands[1]
    if not isinstance(source, Address) or source.base not in machine.parameters:
        raise PtxError(f"no such parameter: {instruction.text}")
    for i, register in enumerate(_vector(instruction.operands[0], instruction)):
        begin = source.offset + i * dtype.itemsize
        data = machine.parameters[source.base][begin : begin + dtype.itemsize]
        if len(data) < dtype.itemsize or begin % dtype.itemsize:
            raise PtxError(f"outside the parameter, or misaligned: {instruction.text}")
        machine.write(register, np.broadcast_to(np.frombuffer(data, dtype), machine._shape()).copy(), is_relaxed=True)


@_forms(*(f"st{space}{vector}.{t}" for space in ("", ".global") for vector in VECTORS for t in MEMORY_TYPES))
def _store(machine: _Machine, instruction: Instruction) -> None:
    ptx_type = instruction.modifiers[-1]
    size = type_bytes(ptx_type)
    registers = _vector(instruction.operands[1], instruction)
    addresses = _addresses(machine, instruction.operands[0], size * len(registers))
    for i, register in enumerate(registers):
        machine.memory.store(addresses + np.uint64(i * size), machine.read(register, ptx_type, is_relaxed=True))


@_forms(*_with("mov", (*INTEGERS, *BITS, "f32", "pred")), "cvta.to.global.u64", "cvta.global.u64")
def _move(machine: _Machine, instruction: Instruction) -> None:
    machine.write(instruction.operands[0], machine.read(instruction.operands[1], instruction.modifiers[-1]))


@_forms(*(f"cvt.{to}.{of}" for to in (*INTEGERS, "u8", "s8") for of in (*INTEGERS, "u8", "s8")))
def _convert_integer(machine: _Machine, instruction: Instruction) -> None:
    to, of = instruction.modifiers
    values = machine.read(instruction.operands[1], of, is_relaxed=True).astype(numpy_type(to))
    machine.write(instruction.operands[0], values, is_relaxed=True)


@_forms(*(f"cvt.rn.f32.{of}" for of in ("u8", "s8", *INTEGERS)))
def _convert_to_float(machine: _Machine, instruction: Instruction) -> None:
    values = machine.read(instruction.operands[1], instruction.modifiers[-1], is_relaxed=True)
    machine.write(instruction.operands[0], values.astype(np.float32))


@_forms("cvt.rn.f16.f32")
def _convert_to_half(machine: _Machine, instruction: Instruction) -> None:
    machine.write(instruction.operands[0], machine.read(instruction.operands[1], "f32").astype(np.float16))


@_forms(*(f"cvt.{mode}.f32.f32" for mode in ("rni", "rzi", "rmi", "rpi")))
def _round_to_integral(machine: _Machine, instruction: Instruction) -> None:
    rounding = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[instruction.modifiers[0]]
    machine.write(instruction.operands[0], rounding(machine.read(instruction.operands[1], "f32")))


@_forms(*(f"cvt.{mode}.{to}.f32" for mode in ("rni", "rzi") for to in ("s32", "u32")))
def _convert_to_integer(machine: _Machine, instruction: Instruction) -> None:
    """Out of range saturates, not-a-number gives 0."""
    mode, to, _ = instruction.modifiers
    values = machine.read(instruction.operands[1], "f32").astype(np.float64)
    limits = np.iinfo(numpy_type(to))
    values = np.rint(values) if mode == "rni" else np.trunc(values)
    values = np.clip(np.nan_to_num(values, nan=0.0), limits.min, limits.max)
    machine.write(instruction.operands[0], values.astype(np.int64).astype(numpy_type(to)))


def _binary(*forms: str) -> Callable[[Callable[[np.ndarray, np.ndarray], np.ndarray]], Meaning]:
    """Defines `opcode.type d, a, b` by a function of two arrays of that type."""

    def define(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Meaning:
        @_forms(*forms)
        def meaning(machine: _Machine, instruction: Instruction) -> None:
            ptx_type = instruction.modifiers[-1]
            a, b = (machine.read(operand, ptx_type) for operand in instruction.operands[1:3])
            machine.write(instruction.operands[0], function(a, b))

        return meaning

    return define


_binary(*_with("add", (*INTEGERS, "f32")), "add.rn.f32")(np.add)
_binary(*_with("sub", (*INTEGERS, "f32")), "sub.rn.f32")(np.subtract)
_binary("mul.f32", "mul.rn.f32", *_with("mul.lo", INTEGERS))(np.multiply)
_binary(*_with("min", INTEGERS))(np.minimum)
_binary(*_with("max", INTEGERS))(np.maximum)
_binary(*_with("and", BITS), "and.pred")(np.bitwise_and)
_binary(*_with("or", BITS), "or.pred")(np.bitwise_or)
_binary(*_with("xor", BITS), "xor.pred")(np.bitwise_xor)


@_binary("min.f32")
def _minimum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of a number and not-a-number the number; -0 is less than +0."""
    return np.where((a == b) & np.signbit(a), a, np.fmin(a, b))


@_binary("max.f32")
def _maximum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where((a == b) & ~np.signbit(a), a, np.fmax(a, b))


@_forms(*_with("not", (*BITS, "pred")), *_with("neg", ("s32", "s64", "f32")))
def _unary(machine: _Machine, instruction: Instruction) -> None:
    values = machine.read(instruction.operands[1], instruction.modifiers[-1])
    machine.write(instruction.operands[0], ~values if instruction.opcode == "not" else -values)


@_forms(*_with("shl", BITS), *_with("shr", (*INTEGERS, *BITS)))
def _shift(machine: _Machine, instruction: Instruction) -> None:
    """Shifts by 32 bits or more (64 for 64-bit values) give 0, or copies of the sign."""
    values = machine.read(instruction.operands[1], instruction.modifiers[-1])
    amount = machine.read(instruction.operands[2], "u32").astype(np.int64)
    bits = 8 * values.dtype.itemsize
    within = np.minimum(amount, bits - 1).astype(values.dtype)
    shifted = np.left_shift(values, within) if instruction.opcode == "shl" else np.right_shift(values, within)
    keeps_sign = instruction.opcode == "shr" and values.dtype.kind == "i"
    machine.write(instruction.operands[0], shifted if keeps_sign else np.where(amount < bits, shifted, 0))


def _wide(ptx_type: str) -> np.dtype:
    return np.dtype(f"{KINDS[ptx_type[0]]}{2 * type_bytes(ptx_type)}")


@_forms(*(f"{opcode}.wide.{t}" for opcode in ("mul", "mad") for t in ("s16", "u16", "s32", "u32")))
def _multiply_wide(machine: _Machine, instruction: Instruction) -> None:
    ptx_type = instruction.modifiers[-1]
    a, b = (machine.read(operand, ptx_type).astype(_wide(ptx_type)) for operand in instruction.operands[1:3])
    product = a * b
    if instruction.opcode == "mad":
        product = product + machine.read(instruction.operands[3], f"{ptx_type[0]}{16 * type_bytes(ptx_type)}")
    machine.write(instruction.operands[0], product)


@_forms(*_with("mad.lo", INTEGERS))
def _multiply_add_integers(machine: _Machine, instruction: Instruction) -> None:
    a, b, c = (machine.read(operand, instruction.modifiers[-1]) for operand in instruction.operands[1:4])
    machine.write(instruction.operands[0], a * b + c)


def fused_multiply_add(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c of float32 arrays, rounded once.

    The product of two float32 is exact in float64. Their sum with c may not be: its rounding error is found exactly (Knuth's
    two-sum) and folded into the last bit, "round to odd", so that the final rounding to float32 sees on which side it lay.
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = c.astype(np.float64)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    bits = total.view(np.int64).copy()
    is_inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    # The neighbor on the error's side is odd. Bits grow away from zero.
    away = (error > 0) == (total > 0)
    bits[is_inexact] += np.where(away[is_inexact], 1, -1)
    return bits.view(np.float64).astype(np.float32)


@_forms("fma.rn.f32")
def _fused_multiply_add(machine: _Machine, instruction: Instruction) -> None:
    a, b, c = (machine.read(operand, "f32") for operand in instruction.operands[1:4])
    machine.write(instruction.operands[0], fused_multiply_add(a, b, c))


COMPARISONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "eq": np.equal,
    "ne": lambda a, b: (a != b) & ~np.isnan(a) & ~np.isnan(b) if a.dtype.kind == "f" else a != b,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
COMBINATIONS = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


@_forms(*(f"setp.{comparison}.{t}" for comparison in COMPARISONS for t in (*INTEGERS, *BITS, "f32")))
@_forms(*(f"setp.{c}.{how}.{t}" for c in COMPARISONS for how in COMBINATIONS for t in (*INTEGERS, *BITS, "f32")))
def _set_predicate(machine: _Machine, instruction: Instruction) -> None:
    a, b = (machine.read(operand, instruction.modifiers[-1]) for operand in instruction.operands[1:3])
    result = COMPARISONS[instruction.modifiers[0]](a, b)
    if len(instruction.modifiers) == 3:
        result = COMBINATIONS[instruction.modifiers[1]](result, machine.read(instruction.operands[3], "pred"))
    machine.write(instruction.operands[0], result)


@_forms(*_with("selp", (*INTEGERS, *BITS, "f32")))
def _select(machine: _Machine, instruction: Instruction) -> None:
    a, b = (machine.read(operand, instruction.modifiers[-1]) for operand in instruction.operands[1:3])
    machine.write(instruction.operands[0], np.where(machine.read(instruction.operands[3], "pred"), a, b))
