import numpy as np
import pytest
import torch

from niddl_xr import NiddlError, networks
from niddl_xr.denoising.nn.networks import build_network


@pytest.mark.parametrize(("name", "parameters"), [("unet_fixed", 314_913), ("hourglass_wres", 305_793)])
def test_parameters_of_the_paper(name, parameters):
    network = build_network(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def multiply_adds(network, size):
    """Count them as the shapes of the layers dictate, in a forward pass."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        inputs_or_outputs = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
        positions = inputs_or_outputs.shape[-1] * inputs_or_outputs.shape[-2]
        total += positions * module.weight.numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 1, size, size))
    return total


@pytest.mark.parametrize(("name", "gmac"), [("unet_fixed", 21.0), ("hourglass_wres", 29.6)])
def test_cost_of_the_paper(name, gmac):
    # The cost is proportional to the area: a sixteenth of 512×512 is enough to count.
    assert multiply_adds(build_network(name), 128) * 16 / 1e9 == pytest.approx(gmac, abs=0.05)


@pytest.mark.parametrize("name", networks())
def test_every_network_keeps_size_and_states_its_reach(name):
    network = build_network(name, output="linear").eval()
    grid = network.grid_px
    height, width = 2 * grid, 3 * grid
    planes = torch.randn(2, 1, height, width)
    with torch.inference_mode():
        result = network(planes)
    assert result.shape == planes.shape
    assert result.dtype == torch.float32
    assert network.reach_px > 0
    # Planes of a batch do not see each other.
    with torch.inference_mode():
        torch.testing.assert_close(network(planes[1:]), result[1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", networks())
def test_no_pixel_looks_further_than_the_stated_reach(name):
    network = build_network(name, output="linear").eval()
    for parameter in network.parameters():  # positive weights: no influence can cancel
        torch.nn.init.constant_(parameter, 0.01)
    grid, reach = network.grid_px, network.reach_px
    centre = -(-reach // grid) * grid
    size = 2 * centre + 2 * grid
    furthest = 0
    for phase in (0, grid - 1):  # the reach differs with the place in the pooling grid
        planes = torch.ones(1, 1, size, size, requires_grad=True)
        network(planes)[0, 0, centre + phase, centre + phase].backward()
        touched = np.flatnonzero(planes.grad[0, 0].abs().sum(0).numpy())
        furthest = max(furthest, centre + phase - touched.min(), touched.max() - centre - phase)
    assert furthest <= reach
    assert furthest > reach - grid  # the halo is not wasted either


def test_unknown_names_list_the_known():
    with pytest.raises(NiddlError, match="no network 'resnet'; choose one of hourglass_wres, unet_fixed"):
        build_network("resnet")
    with pytest.raises(NiddlError, match=r"no option \['depth'\]; its options are \['channels', 'output'\]"):
        build_network("unet_fixed", depth=3)
    with pytest.raises(ValueError, match="expected output 'relu' or 'linear', got 'tanh'"):
        build_network("unet_fixed", output="tanh")
