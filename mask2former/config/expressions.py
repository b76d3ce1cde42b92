"""The value of a small arithmetic expression in Python's notation, without running any code.

Published configuration files compute lists of sizes, as in ``[int(x * 0.1 * 640) for x in range(5, 21)]``. The
expression's syntax tree is walked here; what is not listed below does not exist. Time and memory are bounded by
``LIMITS``, so that an expression from a stranger can do no harm.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Number = int | float
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class Limits:
    """What an expression may use.

    Attributes:
        characters: of its text.
        depth: of nesting.
        steps: parts evaluated, counting each round of a comprehension.
        number: greatest absolute value of a whole number, also on the way to the result.
        exponent: greatest absolute value of a whole exponent.
        digits: greatest absolute value of the second argument of ``round``.
    """

    characters: int = 1000
    depth: int = 30
    steps: int = 100_000
    number: int = 2**63
    exponent: int = 64
    digits: int = 20


LIMITS = Limits()


class ExpressionError(ValueError):
    """Not an expression that is understood here, or one that needs too much; the message says which part."""


def evaluate(text: str) -> Any:
    """The value of ``text``: an int or float, or a list or tuple of such values, nested as written.

    Understood are numbers, ``+ - * / // % **``, signs, brackets, lists, tuples, ``int``, ``float``, ``round``, ``min``,
    ``max``, and list comprehensions with one variable over ``range(...)``, a list or a tuple.

    Raises:
        ExpressionError: anything else, a division by zero, an overflow, or more than ``LIMITS`` allow.
    """
    text = text.strip()
    if len(text) > LIMITS.characters:
        raise ExpressionError(f"it is longer than {LIMITS.characters} characters")
    try:
        body = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"not an expression ({error.msg})") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError("not an expression, or nested too deeply") from error
    try:
        return _plain(_Evaluation(text).value(body, {}, 0))
    except (ArithmeticError, TypeError, ValueError) as error:
        if isinstance(error, ExpressionError):
            raise
        raise ExpressionError(str(error)) from error


class _Evaluation:
    """One walk over a syntax tree; it counts the steps."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.steps = 0

    def value(self, node: ast.expr, names: Mapping[str, Any], depth: int) -> Any:
        self.steps += 1
        if self.steps > LIMITS.steps:
            raise ExpressionError(f"it takes more than {LIMITS.steps} steps")
        if depth > LIMITS.depth:
            raise ExpressionError(f"it is nested more than {LIMITS.depth} deep")

        def inner(part: ast.expr, extra: Mapping[str, Any] = names) -> Any:
            return self.value(part, extra, depth + 1)

        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return _checked(number)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                number = _number(inner(operand))
                return -number if isinstance(sign, ast.USub) else +number
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _apply(op, _number(inner(left)), _number(inner(right)))
            case ast.List(elts=parts):
                return [_plain(inner(part)) for part in parts]
            case ast.Tuple(elts=parts):
                return tuple(_plain(inner(part)) for part in parts)
            case ast.ListComp(
                elt=part, generators=[ast.comprehension(target=ast.Name(id=name), iter=over, ifs=[], is_async=0)]
            ):
                return [_plain(inner(part, {**names, name: item})) for item in _sequence(inner(over))]
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in _FUNCTIONS and name not in names:
                return _checked(_FUNCTIONS[name](*map(inner, parts)))
        raise ExpressionError(f"{(ast.get_source_segment(self.text, node) or '')[:40]!r} is not understood")


def _apply(op: ast.operator, left: Number, right: Number) -> Number:
    # Refused before it is computed: Python would, until memory runs out.
    if isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int) and right > LIMITS.exponent:
        raise ExpressionError(f"the exponent {right} is above {LIMITS.exponent}")
    return _checked(_OPERATORS[type(op)](left, right))


def _checked(value: Any) -> Any:
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        raise ExpressionError("a result is not a finite real number")
    if isinstance(value, int) and abs(value) > LIMITS.number:
        raise ExpressionError(f"a whole number exceeds {LIMITS.number}")
    return value


def _number(value: Any) -> Number:
    if not isinstance(value, int | float):
        raise ExpressionError(f"a number is wanted, not a {type(value).__name__}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise ExpressionError(f"a whole number is wanted, not a {type(value).__name__}")
    return value


def _sequence(value: Any) -> Iterable[Any]:
    if not isinstance(value, list | tuple | range):
        raise ExpressionError(f"a sequence is wanted, not a {type(value).__name__}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, range):
        raise ExpressionError("a range alone is not a value: write [x for x in range(...)]")
    return value


def _range(*bounds: Any) -> range:
    result = range(*map(_whole, bounds))
    # Not len(result), which overflows.
    if result and abs(result[-1] - result[0]) // abs(result.step) >= LIMITS.steps:
        raise ExpressionError(f"a range has more than {LIMITS.steps} numbers")
    return result


def _round(value: Any, digits: Any = None) -> Number:
    if digits is None:
        return round(_number(value))
    if abs(_whole(digits)) > LIMITS.digits:
        raise ExpressionError(f"the digits {digits} of round are beyond {LIMITS.digits}")
    return round(_number(value), digits)


def _least_or_greatest(choose: Callable[[Iterable[Number]], Number]) -> Callable[..., Number]:
    def function(*values: Any) -> Number:
        if not values:
            raise ExpressionError("min and max want something to choose from")
        return choose([_number(value) for value in (_sequence(values[0]) if len(values) == 1 else values)])

    return function


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": lambda value: int(_number(value)),
    "float": lambda value: float(_number(value)),
    "round": _round,
    "min": _least_or_greatest(min),
    "max": _least_or_greatest(max),
    "range": _range,
}
