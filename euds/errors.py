"""The errors a user can meet, each a single line that says what to do."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from math import inf
from numbers import Real
from operator import index


class EudsError(Exception):
    """Bad input or an impossible request; the command line prints it as one line and exits with code 2."""


class BackendUnavailable(EudsError, RuntimeError):
    """A back end that was asked for by name cannot run here; the message says why."""


class InvalidArgument(EudsError, ValueError):
    """An argument has an impossible value."""


class InvalidType(EudsError, TypeError):
    """An argument is of another type than the function takes, such as a tensor of another dtype."""


class InputError(EudsError):
    """A corpus, model, recipe or run directory is missing, unreadable or not what was expected."""


class RunStopped(EudsError):
    """The machine has ended a run that was well, as by a full disk; the command line exits with code 75."""


class MissingExtra(EudsError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; in a checkout run: pip install '.[{extra}]'")


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error says, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def not_of_the_work(error: Exception) -> None:
    """Mark what a caller's own function has raised, such as of its network, so that it stays what it is."""
    # An exception may have no room for it.
    with suppress(AttributeError):
        error.euds_of_caller = True  # type: ignore[attr-defined]


def is_of_the_work(error: BaseException) -> bool:
    """Whether an error came up in the work, and not in a caller's own function that was called from it."""
    return not getattr(error, "euds_of_caller", False)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the known name closest to `name`, or an empty string."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def one_of(name: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is one of `known`.

    Raises:
        InvalidArgument: it is not; the message lists what is known and the nearest.
    """
    known = list(known)
    if value not in known:
        meant = nearest(value, known) if isinstance(value, str) else ""
        raise InvalidArgument(f"{name}: unknown value {value!r}{meant}; known: {', '.join(known)}")
    return value


def names_of(name: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """Return names, or the one that stands alone instead of in a list.

    Raises:
        InvalidType: the value is neither a string nor strings.
    """
    given: object = (value,) if isinstance(value, str) else value
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise InvalidType(f"{name}: must be a name or a list of names, got {value!r}")
    found = tuple(given)
    for each in found:
        if not isinstance(each, str):
            raise InvalidType(f"{name}: must be a name or a list of names, got {each!r} among them")
    return found


def instance_of(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Refuse a value of another type; `what` it must be, for the message.

    Raises:
        InvalidType: `value` is of another type.
    """
    if not isinstance(value, kind):
        raise InvalidType(f"{name}: must be {what}, got {type(value).__name__}")


def goes_by_columns(value: object) -> bool:
    """Whether iterating over a value gives its columns, or their names, and no rows: a mapping, a frame of pandas."""
    return isinstance(value, Mapping) or hasattr(value, "columns")


def whole_number(name: str, value: int, *, least: int | None = None) -> int:
    """Return an integer of any kind, such as NumPy's, as Python's.

    Raises:
        InvalidArgument: `value` is no integer, which a bool does not count as, or is below `least`.
    """
    try:
        number = index(value)
    except TypeError:
        number = None
    # A truth value is an integer to Python.
    if number is None or isinstance(value, bool):
        raise InvalidArgument(f"{name}: must be an integer, got {value!r}")
    if least is not None and number < least:
        raise InvalidArgument(f"{name}: must be at least {least}, got {number}")
    return int(number)


def real_number(name: str, value: object) -> float:
    """Return a real number of any kind, such as NumPy's, as Python's float; NaN and infinity are some.

    Raises:
        InvalidArgument: `value` is no number, which a string or bool does not count as, or one beyond all floats.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidArgument(f"{name}: must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise InvalidArgument(f"{name}: must be a number that a float can hold, got a larger one") from None


def positive_number(name: str, value: object) -> float:
    """Return a finite real number above 0 of any kind as Python's float.

    Raises:
        InvalidArgument: `value` is no finite number above 0.
    """
    number = real_number(name, value)
    # Written so that NaN is refused too.
    if not 0 < number < inf:
        raise InvalidArgument(f"{name}: must be finite and above 0, got {number}")
    return number


def check_seed(name: str, seed: int) -> int:
    """Return a seed as Python's integer; refuse one that NumPy, torch or FAISS would refuse in the middle of the work.

    Raises:
        InvalidArgument: it is no integer, or not in 0..2^31-1.
    """
    seed = whole_number(name, seed)
    if not 0 <= seed < 1 << 31:
        raise InvalidArgument(f"{name}: must be in 0..{(1 << 31) - 1}, got {seed}")
    return seed
