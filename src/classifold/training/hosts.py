"""The hosts of a run, machines or processes: which of them this one is, and what they tell each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Hosts:
    """The hosts that train one model together; here the only one.

    Each has a share of the pictures and the whole of the weights. The first alone writes anything.

    Attributes:
        rank: This host's place among them, from 0.
        count: How many there are.
        num_devices: Of all of them together; each has as many.
    """

    rank, count, num_devices = 0, 1, 1

    @property
    def is_first(self) -> bool:
        """Whether this is the host that writes the model."""
        return self.rank == 0

    def count_rows(self, batch_size: int) -> int:
        """Return how many rows of a batch are this host's.

        All hosts have as many; those beyond the size of the batch, on the last hosts, stay empty.
        """
        return math.ceil(batch_size / self.num_devices) * (self.num_devices // self.count)

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """Return every host's array, of one shape and type everywhere, in the order of the hosts."""
        return [array]

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Return every host's bytes, in the order of the hosts."""
        return [data]

    def sum(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of every host's array, to the last bit the same on each of them."""
        arrays = self.gather(array)
        return arrays[0] if len(arrays) == 1 else np.sum(arrays, axis=0)

    def agree(self, flag: bool) -> bool:
        """Tell whether it is so on every host."""
        return all(bool(one[0]) for one in self.gather(np.array([flag])))

    def order_rows(self, numbers: NDArray[np.intp], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the rows (N, K) of every host's pictures, in the order of the pictures' numbers."""
        if self.count == 1:
            return rows
        table = np.column_stack([numbers.astype(np.float64), rows])
        every = [np.frombuffer(one).reshape(-1, table.shape[1]) for one in self.gather_bytes(table.tobytes())]
        whole = np.concatenate(every)
        return np.asarray(whole[np.argsort(whole[:, 0], kind="stable"), 1:])
