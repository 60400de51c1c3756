"""The shipped models, from file to integers: what each step costs on real images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import hsnn_compiler as hc
from hsnn_compiler.data import load_arrays
from hsnn_compiler.loading import load_model

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


@pytest.fixture(scope="module")
def test_set():
    return load_arrays(DIGITS / "digits_test.npz")


def compiled(name, test_set, **options):
    """Accuracies of PyTorch, the float SNN and the integer program, in percent."""
    model = load_model(DIGITS / f"{name}.pt").module
    calibration = load_arrays(DIGITS / "digits_calib.npz").x
    program = hc.compile(model, calibration=calibration, name=name, **options)
    with torch.no_grad():
        predicted = model(torch.from_numpy(test_set.x)).argmax(1).numpy()
    results = [program.simulate(test_set.x, backend) for backend in ("float", "reference")]
    return [100 * (predicted == test_set.y).mean(), *(100 * result.accuracy(test_set.y) for result in results)]


@pytest.mark.parametrize(("timesteps", "allowed"), [(16, 0.5), (8, 1.5)])
def test_cnn_loses_little(test_set, timesteps, allowed):
    source, floating, integer = compiled("digits_cnn", test_set, timesteps=timesteps)
    assert source >= 99
    assert source - floating <= allowed
    assert abs(integer - floating) <= 0.5


@pytest.mark.parametrize(("timesteps", "least"), [(8, 97.0), (16, 97.5), (32, 98.5)])
def test_reset_to_zero_is_calibrated_for_itself(test_set, timesteps, least):
    _, floating, integer = compiled("digits_cnn", test_set, timesteps=timesteps, reset="zero")
    assert floating >= least
    assert abs(integer - floating) <= 0.6


def test_direct_coded_network_loses_nothing_before_quantisation(test_set):
    source, floating, integer = compiled("digits_direct", test_set)
    assert source >= 97.5
    assert floating == source
    assert abs(integer - floating) <= 1


def test_without_data_the_network_still_works(test_set):
    model = load_model(DIGITS / "digits_cnn.pt").module
    program = hc.compile(model, example=test_set.x[:1])
    assert [finding.code for finding in program.findings] == ["W0214"]
    assert program.simulate(test_set.x).accuracy(test_set.y) > 0.5


def test_clipped_activations_stay_clipped(test_set):
    """ReLU6 on inputs far beyond 6: the neurons must saturate where the activation does."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 32)
    layer.weight.data *= 60
    model = torch.nn.Sequential(torch.nn.Flatten(), layer, torch.nn.ReLU6(), torch.nn.Linear(32, 10)).eval()
    program = hc.compile(model, calibration=load_arrays(DIGITS / "digits_calib.npz").x, timesteps=64)
    with torch.no_grad():
        expected = model(torch.from_numpy(test_set.x)).numpy()
    got = program.simulate(test_set.x, "float").output
    assert abs(got - expected).max() < 0.05 * abs(expected).max()


def test_overflow_on_calibration_data_is_said():
    """Strong inhibition over many steps drives potentials to the limit of 24 bits."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 400), torch.nn.ReLU(), torch.nn.Linear(400, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)
    )
    model[2].weight.data[1:] = -abs(model[2].weight.data[1:])
    x = torch.rand(64, 20).numpy()
    quiet = hc.compile(model.eval(), calibration=x, timesteps=4)
    assert not quiet.findings or all(finding.code != "W0451" for finding in quiet.findings)
    loud = hc.compile(model.eval(), calibration=x, timesteps=256)
    assert [finding.node for finding in loud.findings if finding.code == "W0451"] == ["_3"]
    assert loud.simulate(x).saturated["_3"] > 0


def test_hybrid_network_loses_nothing_before_quantisation(test_set):
    """Two loops over time, ANN paths beside them, and a turn of the host between the chip's two."""
    source, floating, integer = compiled("digits_has", test_set)
    assert source >= 97.5
    assert floating == source
    assert abs(integer - floating) <= 1
