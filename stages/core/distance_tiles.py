"""All pairs of a set of rows, tile by tile: which squared distances lie below, inside or above a bracket.

The matrix of distances is cut into square tiles and never stored; by symmetry those on and above the
diagonal are enough. Most tiles come from FAISS in float32, with a bound m on their error. What a
computed distance then says of a pair:

       surely below          perhaps inside           surely above
    ──────────────────┬───────────────────────────┬─────────────────→ squared distance
      counted     low - m    [low ...... high)    high + m    left out
                             kept

Where the bracket is narrower than m, a tile is computed in float64 instead, and m is 0.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from stages.core.errors import UserError

PAIRS_PER_CHUNK = 2**15
"""Pairs that one thread measures at a time in float64."""
BLOCKS_PER_COUNT = 16
"""Blocks of columns that one thread counts at a time."""

KEPT = np.dtype([("distance", np.float64), ("row", np.int32), ("column", np.int32)])
"""A pair of rows that may lie in a bracket: its squared distance as the tile gave it, and which rows."""


class Bracket(NamedTuple):
    """An interval of squared distances in scaled units.

    Attributes:
        low: the smallest that lies in it.
        high: the smallest above it.
    """

    low: float
    high: float

    @property
    def width(self) -> float:
        """What errors of distances are compared with."""
        return self.high - self.low

    @property
    def is_single_float(self) -> bool:
        """Whether nothing but `low` lies in it."""
        return bool(np.nextafter(self.low, np.inf) >= self.high)


@dataclass(frozen=True)
class Scan:
    """What one pass over all pairs of different rows found for a bracket.

    A pair of rows stands for as many pairs of samples as the product of their counts.

    Attributes:
        below: (n,) int64, for each row the samples in other rows surely nearer than `low`.
        n_below: pairs of samples surely nearer than `low`.
        n_kept: pairs of samples that may lie in the bracket.
        kept: (m,) of `KEPT`, the pairs of rows behind `n_kept`, or an even selection of them.
        complete: whether `kept` holds all of them.
    """

    below: np.ndarray
    n_below: int
    n_kept: int
    kept: np.ndarray
    complete: bool


class _TileScan(NamedTuple):
    """What one tile of r rows and c columns adds to a `Scan`.

    Attributes:
        below_rows: (r,) int64, for each row the samples in the columns surely nearer than `low`.
        below_columns: (c,) int64, the same for each column.
        n_kept: pairs of samples that may lie in the bracket.
        kept: the pairs of rows behind them, of `KEPT`.
    """

    below_rows: np.ndarray
    below_columns: np.ndarray
    n_kept: int
    kept: np.ndarray


class _Selection:
    """All pairs that were added, or every second, fourth, ... of them, so that at most `limit` are stored."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stride = 1
        self._parts: list[np.ndarray] = []
        self._n_stored = 0

    def add(self, kept: np.ndarray) -> None:
        """Store pairs, (m,) of `KEPT`."""
        self._parts.append(kept[:: self._stride].copy() if self._stride > 1 else kept)
        self._n_stored += len(self._parts[-1])
        while self._n_stored > self._limit:
            self._stride *= 2
            self._parts = [self.join()[::2].copy()]
            self._n_stored = len(self._parts[0])

    def join(self) -> np.ndarray:
        """What is stored, of `KEPT`."""
        return np.concatenate(self._parts)

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return self._stride == 1


class DistanceTiles:
    """Squared distances between distinct rows, each of which stands for one or more samples.

    Distances are in scaled units: the largest distance from the centre is between 1/2 and 1, and
    `unit` is a power of two, so that scaling rounds nothing.

    Attributes:
        order: (n,) the given rows in the order used here, the nearest to the centre first, so that
            far outliers share few tiles and loosen the error bound of no others.
        counts: (n,) int64, samples in each row, in that order.
        unit: squared distances here times `unit` are squared distances of the given rows.
        margins: (n_blocks, n_blocks) m, the bound on |float32 - float64| in each tile, in scaled units.
    """

    LARGEST = 5.0
    """Larger than every scaled squared distance."""

    def __init__(
        self,
        rows: np.ndarray,
        counts: np.ndarray,
        *,
        block: int,
        map_threads: Callable[[Callable, Iterable], Iterator],
        gpu: Any = None,
    ) -> None:
        """Centre, scale and sort the rows.

        Args:
            rows: (n, d) float32, n >= 2; all different where they are scanned.
            counts: (n,) int64, samples in each row; their sum stays below 2^24.
            block: rows and columns of a tile.
            map_threads: `map` on worker threads in which FAISS uses one thread.
            gpu: FAISS GPU resources, or None for the CPU.
        """
        centred = rows.astype(np.float64)
        centred -= counts @ centred / counts.sum()
        radii = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        exponent = int(np.frexp(radii.max())[1])
        self.order = np.argsort(radii, kind="stable")
        self.counts = counts[self.order]
        self.unit = 2.0 ** (2 * exponent)
        np.ldexp(centred, -exponent, out=centred)
        self._centred = centred.astype(np.float32)[self.order]
        del centred
        self._dimensions = np.ascontiguousarray(rows[self.order].T)
        self._float_counts = self.counts.astype(np.float32)
        self._blocks = [slice(start, min(start + block, len(rows))) for start in range(0, len(rows), block)]
        self._block = block
        self._map = map_threads
        self._gpu = gpu
        self._gpu_lock = threading.Lock()
        largest = np.ldexp([radii[self.order[rows_of_block.stop - 1]] for rows_of_block in self._blocks], -exponent)
        self.margins = _bound_error(np.add.outer(largest, largest), rows.shape[1])
        self._check_margins()

    def measure_pairs(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Squared distances of given pairs of rows, (m,) float64 by direct differences, in scaled units.

        The dimensions are summed in their order, as SciPy's `cdist` does, so that equal distances
        stay equal whichever of the two computed them.

        Args:
            rows: (m,) positions in `order`.
            columns: (m,) those of the rows they are paired with.
        """
        starts = range(0, len(rows), PAIRS_PER_CHUNK)
        chunks = [(rows[start : start + PAIRS_PER_CHUNK], columns[start : start + PAIRS_PER_CHUNK]) for start in starts]
        return np.concatenate([np.empty(0), *self._map(self._measure_chunk, chunks)])

    def find_margins(self, kept: np.ndarray, bracket: Bracket) -> np.ndarray:
        """The error bound of every pair that `scan` kept, (m,) float64; 0 where the tile was float64.

        Args:
            kept: (m,) of `KEPT`.
            bracket: that of the scan.
        """
        return self._bound_tiles(bracket)[kept["row"] // self._block, kept["column"] // self._block]

    def find_largest_margin(self, bracket: Bracket) -> float:
        """The largest error bound of the tiles that `scan` computes in float32, 0 without any."""
        return float(self._bound_tiles(bracket).max())

    def scan(self, bracket: Bracket, max_kept: int) -> Scan:
        """Compare every pair of different rows with the bracket, keeping at most `max_kept` inside it."""
        n_blocks = len(self._blocks)
        tiles = [(self._blocks[i], self._blocks[j]) for i in range(n_blocks) for j in range(i, n_blocks)]
        below = np.zeros(len(self.counts), dtype=np.int64)
        n_kept, selection = 0, _Selection(max_kept)
        found = self._map(partial(self._scan_tile, bracket), tiles)
        for (rows, columns), tile in zip(tiles, found, strict=True):
            below[rows] += tile.below_rows
            below[columns] += tile.below_columns
            n_kept += tile.n_kept
            selection.add(tile.kept)
        # Every pair was counted at both of its ends.
        n_below = int(self.counts @ below) // 2
        return Scan(below, n_below, n_kept, selection.join(), selection.complete)

    def count_nearer(self, rows: np.ndarray, columns: np.ndarray, distance: float) -> np.ndarray:
        """For every one of some rows, how many of some columns are nearer than a distance, exactly, (r,) int64.

        Rows stand for one sample each here; one that is among the columns counts as well.

        Args:
            rows: (r,) positions in `order`, increasing.
            columns: (c,) positions in `order`, increasing.
            distance: a squared distance above 0, in scaled units.
        """
        parts = [slice(start, start + self._block) for start in range(0, len(rows), self._block)]
        width = self._block * BLOCKS_PER_COUNT
        spans = [columns[start : start + width] for start in range(0, len(columns), width)]
        tasks = [(part, span) for part in parts for span in spans]
        nearer = np.zeros(len(rows), dtype=np.int64)
        found = self._map(lambda task: self._count_span(rows[task[0]], task[1], distance), tasks)
        for (part, _), counts in zip(tasks, found, strict=True):
            nearer[part] += counts
        return nearer

    def _count_span(self, rows: np.ndarray, columns: np.ndarray, distance: float) -> np.ndarray:
        """`count_nearer` of one block of rows, (r,), in one thread."""
        nearer = np.zeros(len(rows), dtype=np.int64)
        unsure_rows, unsure_columns = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for start in range(0, len(columns), self._block):
            part = columns[start : start + self._block]
            # The last of a block is the farthest from the centre.
            low, high = _widen(distance, distance, self.margins[rows[-1] // self._block, part[-1] // self._block])
            distances = self._approximate_tile(rows, part)
            inside = np.flatnonzero((distances >= low) & (distances < high))
            if len(inside) > distances.size // 8:
                nearer += np.count_nonzero(self._measure_tile(rows, part) < distance, axis=1)
                continue
            below = np.less(distances, low, out=np.empty(distances.shape, dtype=np.float32))
            nearer += np.einsum("ij->i", below).astype(np.int64)
            row, column = np.divmod(inside, len(part))
            unsure_rows.append(row)
            unsure_columns.append(part[column])
        row, column = np.concatenate(unsure_rows), np.concatenate(unsure_columns)
        close = self._measure_chunk((rows[row], column)) < distance
        return nearer + np.bincount(row[close], minlength=len(rows))

    def _bound_tiles(self, bracket: Bracket) -> np.ndarray:
        """The error bound of every tile as `scan` computes it, (n_blocks, n_blocks); 0 where in float64."""
        return np.where(self.margins <= bracket.width, self.margins, 0.0)

    def _check_margins(self) -> None:
        """Use float64 throughout where FAISS computes with less than float32, as TF32 would."""
        part = slice(max(0, len(self.counts) - 128), len(self.counts))
        approximate, measured = self._map(lambda tile: tile(part, part), (self._approximate_tile, self._measure_tile))
        blocks = np.arange(part.start, part.stop) // self._block
        if (np.abs(approximate - measured) > self.margins[np.ix_(blocks, blocks)]).any():
            self.margins = np.full_like(self.margins, np.inf)

    def _scan_tile(self, bracket: Bracket, tile: tuple[slice, slice]) -> _TileScan:
        """Compare the pairs of one tile with the bracket; on the diagonal those above it only."""
        rows, columns = tile
        low, high = bracket
        margin = self.margins[rows.start // self._block, columns.start // self._block]
        if margin <= bracket.width:
            distances = self._approximate_tile(rows, columns)
            low, high = _widen(low, high, margin)
        else:
            distances = self._measure_tile(rows, columns)
        if rows == columns:
            distances[np.tri(len(distances), dtype=bool)] = np.inf
        # Sums of float32 ones and counts are exact below 2^24, and einsum vectorises them
        # without waking a BLAS thread pool in every worker.
        below = np.less(distances, low, out=np.empty(distances.shape, dtype=np.float32))
        below_rows = np.einsum("ij,j->i", below, self._float_counts[columns])
        below_columns = np.einsum("ij,i->j", below, self._float_counts[rows])
        inside = np.flatnonzero((distances >= low) & (distances < high))
        kept = np.empty(len(inside), dtype=KEPT)
        kept["distance"] = distances.ravel()[inside]
        kept["row"], kept["column"] = np.divmod(inside, distances.shape[1])
        kept["row"] += rows.start
        kept["column"] += columns.start
        n_kept = int(self.counts[kept["row"]] @ self.counts[kept["column"]])
        return _TileScan(below_rows.astype(np.int64), below_columns.astype(np.int64), n_kept, kept)

    def _approximate_tile(self, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
        """Squared distances of r rows and c columns by FAISS, (r, c) float32, within the tile's margin."""
        import faiss

        if self._gpu is None:
            return faiss.pairwise_distances(self._centred[rows], self._centred[columns])
        with self._gpu_lock:
            return faiss.pairwise_distance_gpu(self._gpu, self._centred[rows], self._centred[columns])

    def _measure_tile(self, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
        """The same in float64 by direct differences, (r, c), as `measure_pairs` rounds them."""
        left, right = (self._dimensions[:, part].T.astype(np.float64) for part in (rows, columns))
        distances = measure_squared_distances(left, right)
        distances /= self.unit
        return distances

    def _measure_chunk(self, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """`measure_pairs` in one thread: rows and columns, (m,) each, give (m,)."""
        rows, columns = pairs
        total = np.zeros(len(rows))
        difference = np.empty(len(rows))
        for values in self._dimensions:
            np.subtract(values[rows], values[columns], out=difference, dtype=np.float64)
            np.square(difference, out=difference)
            total += difference
        total /= self.unit
        return total


def _widen(low: float, high: float, margin: float) -> tuple[np.float32, np.float32]:
    """The float32 numbers below and from which on a computed distance surely lies outside of [low, high)."""
    smallest = np.nextafter(np.float32(low - margin), np.float32(-np.inf))
    return smallest, np.nextafter(np.float32(high + margin), np.float32(np.inf))


def measure_squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """All squared distances in float64 by direct differences: (n, d) and (m, d) float64 give (n, m)."""
    from scipy.spatial.distance import cdist

    return cdist(np.ascontiguousarray(left), np.ascontiguousarray(right), "sqeuclidean")


def find_gpu(device: str) -> Any:
    """FAISS GPU resources for `device` (auto, cpu or cuda), or None for the CPU.

    The GPU path was tested with a stand-in only (tests/gpu waits for a card); its speed is not measured.

    Raises:
        ValueError: `device` is cuda and FAISS has no GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device must be auto, cpu or cuda, not '{device}'")
    if device == "cpu":
        return None
    import faiss

    if hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0:
        return faiss.StandardGpuResources()
    if device == "cuda":
        raise UserError("device is cuda, but FAISS finds no GPU; install faiss-gpu or choose auto or cpu")
    return None


def _bound_error(radius_sums: np.ndarray, n_dimensions: int) -> np.ndarray:
    """Bound on |FAISS's float32 distance - true distance| for rows within given radii of the centre.

    FAISS adds two norms and subtracts twice a dot product. Every product passes through at most
    2d + 2 roundings, whatever the order of summation, and all products add up to at most
    (r_i + r_j)^2. Storing centred rows as float32 moves the distance by at most 2 u (r_i + r_j)^2.
    The few further roundings, those of float64 included, fit in what is added.

    Args:
        radius_sums: r_i + r_j, of any shape, at most 2 in scaled units.
        n_dimensions: d.

    Returns:
        m of that shape, in scaled units of squared distance.
    """
    rounding = 2.0**-24
    underflow = 1e-30
    return 1.05 * (2 * n_dimensions + 16) * rounding * radius_sums**2 + underflow
