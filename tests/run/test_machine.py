import pytest
import torch

from pruneas.errors import SpaceError
from pruneas.run.machine import gpus, hardware, num_cores, num_workers, resolve_device, versions


def test_workers_are_those_asked_for_or_one_a_core_and_two_at_most():
    assert num_workers(3, "cpu") == 3
    assert num_workers(0, "cpu") == min(2, num_cores())
    assert num_workers(0, "cuda") == 1


def test_several_gpus_are_shared_out_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpus("cuda:1") == gpus("cpu") == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus("cuda") == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    assert gpus("cuda") == ("3", "GPU-5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus("cuda") == ()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused():
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(SpaceError, match="'cuda:1' is not there; torch sees 0 GPUs"):
        resolve_device("cuda:1")


def test_results_name_their_hardware_and_versions():
    assert f"{num_cores()} cores; 2 trainings at a time, 1 thread each" in hardware("cpu", 2, 1)
    found = versions()
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] != "unknown"
    assert "unknown" not in found.values()
