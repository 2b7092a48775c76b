"""The interpreter lacks ``statistics``: this is it, as source text that runs *inside*.

Host functions would let a workflow spend the host's time on numbers of its choice; in here they are
billed to it. Results are those of the standard library, but for the last bit of some floats. The
host never imports this for use: ``program`` puts the text in front of a workflow that wants it.
"""


class _BayesflowStatistics:
    """Stands for the module; one instance is bound where a workflow imports ``statistics``."""

    def __init__(self) -> None:
        self.StatisticsError = ValueError

    def mean(self, data: list[float]) -> float:
        data = self.checked("mean", data, 1)
        total = self.total(data)
        if isinstance(total, int) and total % len(data) == 0:
            return total // len(data)
        return total / len(data)

    def fmean(self, data: list[float]) -> float:
        data = self.checked("fmean", data, 1)
        return float(self.total(data)) / len(data)

    def geometric_mean(self, data: list[float]) -> float:
        import math

        data = self.checked("geometric_mean", data, 1)
        if min(data) <= 0:
            raise ValueError(
                "geometric mean requires a non-empty dataset containing positive numbers"
            )
        return math.exp(self.total([math.log(x) for x in data]) / len(data))

    def harmonic_mean(self, data: list[float]) -> float:
        data = self.checked("harmonic_mean", data, 1)
        for x in data:  # in this order, as the standard library does
            if x < 0:
                raise ValueError("harmonic mean does not support negative values")
            if x == 0:
                return 0
        return len(data) / self.total([1 / x for x in data])

    def median(self, data: list[float]) -> float:
        data = sorted(self.checked("median", data, 1))
        middle = len(data) // 2
        return data[middle] if len(data) % 2 else (data[middle - 1] + data[middle]) / 2

    def median_low(self, data: list[float]) -> float:
        data = sorted(self.checked("median_low", data, 1))
        return data[(len(data) - 1) // 2]

    def median_high(self, data: list[float]) -> float:
        data = sorted(self.checked("median_high", data, 1))
        return data[len(data) // 2]

    def mode(self, data: list[float]) -> float:
        return self.multimode(self.checked("mode", data, 1))[0]

    def multimode(self, data: list[float]) -> list[float]:
        counts: dict[float, int] = {}
        for x in data:
            counts[x] = counts.get(x, 0) + 1
        most = max(counts.values()) if counts else 0
        return [x for x, count in counts.items() if count == most]

    def quantiles(self, data: list[float], *, n: int = 4, method: str = "exclusive") -> list[float]:
        if n < 1:
            raise ValueError("n must be at least 1")
        data = sorted(self.checked("quantiles", data, 2))
        if method not in ("exclusive", "inclusive"):
            raise ValueError(f"Unknown method: {method!r}")
        cuts: list[float] = []
        for i in range(1, n):
            if method == "inclusive":
                j, delta = divmod(i * (len(data) - 1), n)
                cuts.append((data[j] * (n - delta) + data[j + 1] * delta) / n)
            else:
                j = min(max(i * (len(data) + 1) // n, 1), len(data) - 1)
                delta = i * (len(data) + 1) - j * n
                cuts.append((data[j - 1] * (n - delta) + data[j] * delta) / n)
        return cuts

    def variance(self, data: list[float], xbar: float | None = None) -> float:
        data = self.checked("variance", data, 2)
        return self.ratio(self.squares(data, xbar), len(data) - 1)

    def pvariance(self, data: list[float], mu: float | None = None) -> float:
        data = self.checked("pvariance", data, 1)
        return self.ratio(self.squares(data, mu), len(data))

    def stdev(self, data: list[float], xbar: float | None = None) -> float:
        data = self.checked("stdev", data, 2)
        return self.root(self.squares(data, xbar) / (len(data) - 1))

    def pstdev(self, data: list[float], mu: float | None = None) -> float:
        data = self.checked("pstdev", data, 1)
        return self.root(self.squares(data, mu) / len(data))

    def checked(self, name: str, data: list[float], least: int) -> list[float]:
        data = list(data)
        if len(data) < least:
            raise ValueError(f"{name} requires at least {least} data point" + "s" * (least > 1))
        return data

    def total(self, data: list[float]) -> float:
        import math

        exact = all(isinstance(x, int) for x in data)
        return sum(data) if exact else math.fsum(data)

    def squares(self, data: list[float], centre: float | None) -> float:
        if centre is None:
            centre = self.mean(data)
        return self.total([(x - centre) ** 2 for x in data])

    def root(self, square: float) -> float:
        import math

        return math.sqrt(square)

    def ratio(self, squares: float, count: int) -> float:
        if isinstance(squares, int) and squares % count == 0:
            return squares // count
        return squares / count


_bayesflow_statistics = _BayesflowStatistics()
