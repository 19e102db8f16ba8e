"""Several devices as one: a mesh with the axis `data`, rows divided over it, parameters copied or divided.

Everything that takes `mesh=` takes a `jax.sharding.Mesh` with an axis of that name, of the devices of one
process or of many (`jax.distributed`). In a program of many processes each calls the function with the same
arguments, and each gets the same result.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError

AXIS = "data"
_LARGE_TOWERS = 2 << 30  # bytes of parameters that every device can hold for itself
_LARGE_PARAMETER = 1 << 20  # elements, of towers beyond that


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh | None:
    """A mesh of one axis, `data`, over `devices`, by default all of all processes.

    None for a single device: there is nothing to divide.
    """
    devices = jax.devices() if devices is None else devices
    return None if len(devices) < 2 else Mesh(np.asarray(devices), (AXIS,))


def check_mesh(mesh: Mesh) -> Mesh:
    """The mesh, with axes that the compiler divides by itself; raises JaxalignError without one called
    `data`."""
    if AXIS not in mesh.axis_names:
        raise JaxalignError(
            f"mesh has the axes {', '.join(map(repr, mesh.axis_names))}; expected one called 'data', over"
            " which the examples are divided"
        )
    return Mesh(mesh.devices, mesh.axis_names)


def shard_parameters(params: Any, mesh: Mesh, *, at_least: int | None = None) -> Any:
    """Parameters on all devices of `mesh`: each whole on every device, or the large ones divided.

    One of at least `at_least` elements is divided along its largest axis that the devices divide evenly; the
    compiler gathers it where it is used, so results do not depend on it. By default that begins at 2^20
    elements where the parameters take more than 2 GiB together, and nothing is divided where they take less.
    Parameters that already lie so are not copied: to place a model once, `dataclasses.replace(model,
    params=shard_parameters(model.params, mesh))`.

    Raises:
      JaxalignError: a mesh without the axis `data`.
    """
    mesh = check_mesh(mesh)
    if at_least is None:
        total = sum(x.nbytes for x in jax.tree.leaves(params))
        at_least = _LARGE_PARAMETER if total > _LARGE_TOWERS else None
    return jax.tree.map(lambda x: _place(x, NamedSharding(mesh, _parameter_spec(x, mesh, at_least))), params)


def _parameter_spec(x: Any, mesh: Mesh, at_least: int | None) -> PartitionSpec:
    if at_least is None or x.size < at_least:
        return PartitionSpec()
    even = [axis for axis, size in enumerate(x.shape) if size % mesh.shape[AXIS] == 0]
    if not even:
        return PartitionSpec()
    largest = max(even, key=lambda axis: x.shape[axis])
    return PartitionSpec(*(None,) * largest, AXIS)


def divide_rows(x: ArrayLike, mesh: Mesh, *, fill: Any = 0, each: int | None = None) -> jax.Array:
    """`x` `[n, ...]` with its rows divided over `mesh`; each process takes from `x` what its devices hold.

    Every device holds `each` rows, by default as few as will do: rows of `fill` follow those of `x`.
    """
    array: Any = x
    count, *shape = array.shape
    rows = mesh.shape[AXIS] * (each or -(-count // mesh.shape[AXIS]))
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    if isinstance(x, Tracer):
        padding = ((0, rows - count), *((0, 0),) * len(shape))
        return jax.device_put(jnp.pad(x, padding, constant_values=fill), sharding)

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(rows)
        own = np.asarray(array[start : min(stop, count)])
        missing = stop - start - len(own)
        if not missing:
            return own
        return np.pad(own, ((0, missing), *((0, 0),) * len(shape)), constant_values=fill)

    return jax.make_array_from_callback((rows, *shape), sharding, part)


def rows_each(count: int, mesh: Mesh) -> int:
    """Rows for each device where the numbers are not to depend on it: XLA rounds one alone otherwise."""
    return max(-(-count // mesh.shape[AXIS]), 2)


def copy_to_all(tree: Any, mesh: Mesh) -> Any:
    """Every array of `tree` whole on every device of `mesh`; all processes have to give the same values."""
    return jax.tree.map(lambda x: _place(x, NamedSharding(mesh, PartitionSpec())), tree)


def _place(x: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, Tracer) or sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    if isinstance(x, jax.Array) and x.sharding == sharding:
        return x
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def fetch(x: jax.Array) -> np.ndarray:
    """The values of an array, on every process, however it is divided."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x, tiled=True)


def gather(tree: Any) -> Any:
    """Arrays that this process can compute with: those that others hold parts of are copied whole."""
    here = lambda x: isinstance(x, Tracer) or x.is_fully_addressable
    return jax.tree.map(lambda x: x if here(x) else jnp.asarray(fetch(x)), tree)
