"""One batch on a real cluster of dask.distributed: the bits of one thread, also when workers are killed on the way."""

from __future__ import annotations

import logging
import os
import signal
import time
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
from test_optimize import SMALL, small_batches, small_fit
from test_optimize import assert_same as assert_same_fit
from test_passes import assert_same, scene_of

import numeric
from numeric.shard import ShardError, shard

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes and a scheduler, on the loopback alone."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1"}
    with distributed.LocalCluster(**options, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL) as made:
        yield made


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as made:
        made.wait_for_workers(2, timeout=20)
        yield made


def by_threads(scene, engine, shards):
    with ThreadPoolExecutor(2) as pool:
        return scene.backward(shard(engine, pool, shards=shards))


class DiesOnce(Executor):
    """The worker that is the first to have computed a part kills itself before it can say so."""

    def __init__(self, executor, flag):
        self.executor, self.flag, name = executor, flag, str(flag)

        def part(function, *args):
            import os
            import signal

            result = function(*args)
            try:
                with open(name, "x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                return result
            os.kill(os.getpid(), signal.SIGKILL)

        self.part = part  # a function that is sent by its code: workers do not import this file

    def submit(self, function, /, *args):
        return self.executor.submit(self.part, function, *args)

    @property
    def victim(self):
        return int(self.flag.read_text())


def test_the_result_is_bit_for_bit_that_of_threads(client):
    for name in ("lstm", "scalars everywhere"):
        scene = scene_of(name, 1, batch=7, ragged=True, steps=9, sizes=(24, 17, 5), reduction="mean")
        engine = numeric.Engine(scene.cell)
        found = scene.backward(shard(engine, client.get_executor(), shards=4))
        assert_same(found, by_threads(scene, engine, 4))


def test_a_worker_that_is_killed_in_the_middle_changes_no_bit(client, tmp_path):
    scene, engine = scene_of("lstm", 2, batch=8, ragged=True, steps=50), numeric.Engine("lstm")
    executor, before = DiesOnce(client.get_executor(), tmp_path / "flag"), client.run(os.getpid).values()
    found = scene.backward(shard(engine, executor, shards=8))
    assert executor.victim in before
    assert executor.victim not in client.run(os.getpid).values()
    assert_same(found, by_threads(scene, engine, 8))


def test_a_part_that_is_given_up_is_named_and_may_be_asked_for_again(cluster, client, tmp_path):
    """With the failure still in hand: the scheduler must not answer with it."""
    scene, engine = scene_of("gru", 3, batch=4), numeric.Engine("gru")
    executor, allowed = DiesOnce(client.get_executor(), tmp_path / "flag"), cluster.scheduler.allowed_failures
    sharded = shard(engine, executor, shards=4)
    cluster.scheduler.allowed_failures = 0
    try:
        with pytest.raises(ShardError, match=r"^shard \d of 4, .* died") as caught:
            scene.backward(sharded)
    finally:
        cluster.scheduler.allowed_failures = allowed
    assert executor.victim not in (os.getpid(), None)
    assert type(caught.value.__cause__).__name__ == "KilledWorker"
    assert_same(scene.backward(sharded), by_threads(scene, engine, 4))


def test_a_fit_does_not_notice_that_a_worker_was_killed(client, tmp_path):
    def killing(k):
        if k == 3:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        return small_batches(k)

    with ThreadPoolExecutor(1) as pool:
        right = small_fit(engine=shard(SMALL, pool, shards=3))
    sharded = shard(SMALL, client.get_executor(), shards=3)
    assert_same_fit(small_fit(engine=sharded, batches=killing, file=tmp_path / "fit.npz"), right)


def test_a_cluster_without_workers_is_not_waited_for_longer_than_said(cluster, client):
    x = np.ones((3, 2, 2))
    params = SMALL.init(seed=1, D=2, H=5, O=3)
    cluster.scale(0)
    deadline = time.monotonic() + 20
    while client.scheduler_info()["workers"] and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        with pytest.raises(ShardError, match=r"no result after 0.2 seconds; .* whether the workers are alive"):
            shard(SMALL, client.get_executor(), timeout=0.2).forward(params, x)
    finally:
        cluster.scale(2)


def test_a_client_that_is_closed_is_told(cluster):
    client = distributed.Client(cluster)
    executor = client.get_executor()
    client.close()
    with pytest.raises(ShardError, match=r"shard 1 of 2, sequences 0 to 0: .*losed"):
        shard(SMALL, executor).forward(SMALL.init(seed=1, D=2, H=5, O=3), np.ones((3, 2, 2)))
