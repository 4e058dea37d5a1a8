"""The same job on many machines: an engine on Ray Data, with one model an actor.

    one reader -> windows -> actors, each with a translator -> windows in their order -> outputs, written here

The reader runs beside this process and makes the same windows again that this process writes, so that only texts and
translations travel, and files are needed on this machine only. Ray starts a killed actor anew and repeats its window;
a killed job goes on with --resume. The environment variable RAY_ADDRESS names a cluster; without it, one is started on
this machine for the time of the job. nmt (and --checkpoint) must be installed on all machines.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, read_datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from tqdm import tqdm

from model.errors import UserError
from service.errors import ServiceError
from service.inputs import STDIN
from service.translate import (
    WINDOW_CHARACTERS,
    WINDOW_TEXTS,
    Engine,
    How,
    Item,
    Job,
    TranslatesTexts,
    Windows,
    Worker,
    identity_of,
    items,
    windows,
)

Load = Callable[[], TranslatesTexts]


def load_translator(checkpoint: str | None) -> TranslatesTexts:
    from model.translator import Translator

    return Translator.load(checkpoint)


def run_on_ray(job: Job, load: Load) -> None:
    """Run the job on the cluster that RAY_ADDRESS names. ``load`` is called here, to check, and in every actor."""
    if any(STDIN in part.paths for part in job.parts):
        raise UserError("--engine ray reads files; standard input can only be read by --engine local")
    translator = load()
    Worker(translator, job.how).check()
    model = identity_of(translator)
    del translator
    if not ray.is_initialized():
        dashboard = None if os.environ.get("RAY_ADDRESS") else False  # a setting of a cluster that we start
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=dashboard)
    try:
        job.run(ray_engine(load, model), model)
    except ray.exceptions.RayError as error:
        raise ServiceError(f"ray: {str(error).strip().splitlines()[-1]}") from None


def ray_engine(load: Load, model: str) -> Engine:
    def engine(job: Job, stream: Iterator[list[Item]], first: int, skip: int, bar: tqdm) -> Windows:
        context = DataContext.get_current()
        context.execution_options.preserve_order = True
        context.target_max_block_size = 1  # a block is a window, however small: each goes to the next free actor
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        actors = max(1, int(ray.cluster_resources().get("CPU", 1)))
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        dataset = read_datasource(
            _Source(job, first, skip),
            override_num_blocks=1,
            num_cpus=0,
            label_selector=here,
        ).map_batches(
            _Actor,
            fn_constructor_args=(load, job.how, model),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
            num_cpus=1,
        )
        for window, row in zip(stream, dataset.iter_rows(), strict=True):
            yield window, pickle.loads(row["results"])

    return engine


class _Source(Datasource):
    """The texts of the windows of a job, a row a window."""

    def __init__(self, job: Job, first: int, skip: int) -> None:
        parts = [
            dataclasses.replace(part, paths=tuple(path.absolute() for path in part.paths), output=None)
            for part in job.parts
        ]
        self._read = functools.partial(_rows, parts, first, skip, WINDOW_TEXTS, WINDOW_CHARACTERS)

    def get_name(self) -> str:
        return "nmt"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [ReadTask(self._read, BlockMetadata(None, None, None, None))]


def _rows(parts: list[Any], first: int, skip: int, size: int, characters: int) -> Iterator[pa.Table]:
    for window in windows(items(parts, first, skip), size, characters):
        yield pa.table({"groups": pa.array([pickle.dumps([item.texts for item in window])], pa.large_binary())})


class _Actor:
    """One model in a process of its own."""

    def __init__(self, load: Load, how: How, model: str) -> None:
        translator = load()
        if (found := identity_of(translator)) != model:
            raise ServiceError(f"another machine has the model {found}, the job needs {model}")
        self._worker = Worker(translator, how)

    def __call__(self, batch: pa.Table) -> pa.Table:
        results = [pickle.dumps(self._worker(pickle.loads(row.as_py()))) for row in batch["groups"]]
        return pa.table({"results": pa.array(results, pa.large_binary())})
