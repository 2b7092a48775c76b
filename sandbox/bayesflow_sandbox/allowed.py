"""What a workflow may import, name and touch: the policy's tables.

The tables hold for every engine and for the exported file, where plain CPython runs the workflow.
So a module's names are listed one by one: most modules of the standard library carry others in
their namespace (``statistics.sys``, ``json.codecs``, ``random._os``), and those lead out.
"""

from typing import Final

__all__ = ["ALLOWED_DUNDERS", "FORBIDDEN_ATTRIBUTES", "FORBIDDEN_NAMES", "MODULES", "WORLD_NAMES"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODULES: Final[dict[str, frozenset[str]]] = {
    "__future__": _names("annotations"),
    "asyncio": _names("gather sleep"),
    "bisect": _names("bisect bisect_left bisect_right insort insort_left insort_right"),
    "collections": _names("Counter defaultdict deque namedtuple"),
    "copy": _names("copy deepcopy"),
    "dataclasses": _names("dataclass field"),
    "datetime": _names("date datetime time timedelta timezone"),
    "decimal": _names(
        "Decimal InvalidOperation ROUND_CEILING ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN "
        "ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP"
    ),
    "functools": _names("cache lru_cache partial reduce"),
    "itertools": _names(
        "accumulate chain combinations combinations_with_replacement compress count cycle "
        "dropwhile filterfalse groupby islice pairwise permutations product repeat starmap "
        "takewhile tee zip_longest"
    ),
    "json": _names("JSONDecodeError dumps loads"),
    "math": _names(
        "acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e "
        "erf erfc exp exp2 expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose "
        "isfinite isinf isnan isqrt lcm ldexp lgamma log log10 log1p log2 modf nan nextafter perm "
        "pi pow prod radians remainder sin sinh sqrt tan tanh tau trunc ulp"
    ),
    "random": _names(
        "Random betavariate choice choices expovariate gauss getrandbits normalvariate randint "
        "random randrange sample seed shuffle triangular uniform"
    ),
    "re": _names(
        "A ASCII DOTALL I IGNORECASE M MULTILINE Match Pattern S compile error escape findall "
        "finditer fullmatch match search split sub"
    ),
    "statistics": _names(
        "StatisticsError fmean geometric_mean harmonic_mean mean median median_high median_low "
        "mode multimode pstdev pvariance quantiles stdev variance"
    ),
    "time": _names("monotonic perf_counter sleep time"),
    "typing": _names(
        "Annotated Any Callable ClassVar Dict Final FrozenSet Iterable Iterator List Literal "
        "Mapping NoReturn Optional Sequence Set Tuple Type Union"
    ),
    "unicodedata": _names("category combining is_normalized name normalize"),
}

# Names a workflow finds without importing them.
WORLD_NAMES: Final = _names("create_llm_instance DatasetType Any Dict List Optional Tuple Union")

FORBIDDEN_NAMES: Final = _names(
    "breakpoint compile copyright credits delattr dir eval exec exit getattr globals help input "
    "license locals open quit setattr vars"
)

ALLOWED_DUNDERS: Final = _names("__init__ __call__")  # as methods; ``__name__`` may be read

# Public names that lead from a value to frames, globals, class trees or the event loop.
FORBIDDEN_ATTRIBUTES: Final = _names(
    "ag_await ag_code ag_frame cr_await cr_code cr_frame cr_origin f_back f_builtins f_code "
    "f_globals f_locals f_trace func_code func_globals get_coro get_loop get_stack gi_code "
    "gi_frame gi_yieldfrom mro print_stack tb_frame tb_next"
)
