"""Reckoning memory before a run."""

from types import SimpleNamespace

import psutil
import pytest

from envs.process.ram import available_memory, reckon
from envs.spec import UserError

GIB = 2**30


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with 8 GiB available, and a folder for a container's limits."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * GIB))
    return tmp_path


def test_a_run_that_fits_is_summed(monkeypatch, machine):
    assert reckon([("weights", 100), ("replay", 23)]) == 123


def test_a_run_that_does_not_fit_is_refused_with_the_figures(monkeypatch, machine):
    monkeypatch.setattr("envs.process.ram.available_memory", lambda: 3 * GIB)
    with pytest.raises(
        UserError, match=r"wants 4.50 GiB .*replay of X 4.25 GiB, slots 256.0 MiB.* 3.00 GiB are available"
    ):
        reckon([("replay of X", 17 * GIB // 4), ("slots", GIB // 4)])


def test_without_a_container_the_machine_counts(machine):
    assert available_memory(machine) == 8 * GIB


@pytest.mark.parametrize(("limit", "available"), [(5 * GIB, 3.5 * GIB), ("max", 8 * GIB), (100 * GIB, 8 * GIB)])
def test_a_containers_lower_limit_counts_and_its_file_cache_does_not(machine, limit, available):
    (machine / "memory.max").write_text(f"{limit}\n")
    (machine / "memory.current").write_text(f"{2 * GIB}\n")
    (machine / "memory.stat").write_text(f"anon 7\ninactive_file {GIB // 2}\nactive_file 3\n")
    assert available_memory(machine) == available


def test_an_older_containers_limit_counts_too(machine):
    (machine / "memory").mkdir()
    (machine / "memory/memory.limit_in_bytes").write_text(f"{5 * GIB}")
    (machine / "memory/memory.usage_in_bytes").write_text(f"{6 * GIB}")
    (machine / "memory/memory.stat").write_text("cache 7\ninactive_file 0\n")
    assert available_memory(machine) == 0
