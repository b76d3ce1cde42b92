"""Look through a pickle before it is loaded, for what makes loading take for ever or take memory without end."""

from __future__ import annotations

import pickle
import pickletools
from typing import IO

MOST_OPCODES = 1_000_000  # some 30 for each tensor
MOST_NESTED = 10_000  # values in a tuple, counted wherever they are used again
_MARK = -1
_READS, _WRITES = ("GET", "BINGET", "LONG_BINGET"), ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")


def scan(file: IO[bytes]) -> None:
    """Read one pickle, up to its end, without building anything.

    Tuples of tuples that are used again and again grow without end when they are hashed, as keys of a dict; and a
    number under which a value is remembered makes Python reserve a table of that size.

    Raises:
        pickle.UnpicklingError: it is no pickle of weights, or is broken.
    """
    stack: list[int] = []  # number of values in each
    memo: dict[int, int] = {}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= MOST_OPCODES:
                raise pickle.UnpicklingError(f"it has over {MOST_OPCODES:,} instructions; weights have fewer")
            if opcode.name in _READS:
                stack.append(memo[int(argument or 0)])
            elif opcode.name in _WRITES:
                place = len(memo) if argument is None else int(argument)
                if place > count:
                    raise pickle.UnpicklingError(f"it stores a value as number {place:,} after only {count:,} others")
                memo[place] = stack[-1]
            elif opcode.name == "DUP":
                stack.append(stack[-1])
            else:
                taken = _take(stack, opcode)
                size = 1 + sum(taken) if opcode.name in _TUPLES else 1
                if size > MOST_NESTED:
                    raise pickle.UnpicklingError(f"it has tuples of over {MOST_NESTED:,} values; weights have none")
                marks = opcode.name == "MARK"
                stack += [_MARK] if marks else [size] * len(opcode.stack_after)
    except pickle.UnpicklingError:
        raise
    except (ValueError, LookupError, EOFError, MemoryError, OverflowError, AttributeError, TypeError) as error:
        raise pickle.UnpicklingError(f"it is broken ({type(error).__name__}: {error})") from error


def _take(stack: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    """Take from the stack what an instruction uses, and return the sizes of the values."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        if opcode.name == "POP" or not before:
            return [stack.pop()] if before else []
        taken = stack[-len(before) :]
        if len(taken) < len(before) or _MARK in taken:
            raise ValueError(f"{opcode.name} lacks values")
        del stack[-len(before) :]
        return taken
    place = len(stack) - 1 - stack[::-1].index(_MARK)
    taken = stack[place + 1 :]
    del stack[place - before.index(pickletools.markobject) :]
    return taken
