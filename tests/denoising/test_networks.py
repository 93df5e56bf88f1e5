"""Networks: costs as published, reaches measured, blocks against their formulas in numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from niddl_xr import NiddlError, networks
from niddl_xr.denoising.nn.networks import build_network, network_options
from niddl_xr.denoising.nn.networks._cost import cost
from niddl_xr.denoising.nn.networks._hourglass import Hourglass
from niddl_xr.denoising.nn.networks._layers import ChannelWeights, Upsample
from niddl_xr.denoising.nn.networks._unet import UNet

# Parameters and GMAC at 512×512 of the public code: NIDDL's TensorFlow networks and their torch port, CSBDeep 0.8.2,
# 3D-RCAN for planes, RCAN as published. Of DFCAN: 16 blocks of 111,364, stem 640, last convolution 36,928, head 577.
PUBLISHED = [
    ("unet_fixed", {}, 314_913, "21.0"),
    ("unet_fixed", {"upsampling": "torch"}, 294_433, "20.6"),
    ("hourglass_wres", {}, 305_793, "29.6"),
    ("hourglass_wres", {"upsampling": "torch"}, 290_433, "29.2"),
    ("unet", {}, 14_908_225, "87.1"),
    ("unet", {"upsampling": "torch"}, 13_167_425, "81.8"),
    ("hourglass_wores", {}, 5_441_921, "131.8"),
    ("hourglass_wores", {"upsampling": "torch"}, 5_011_841, "127.8"),
    ("care", {}, 922_977, "60.6"),
    ("care", {"depth_levels": 3}, 3_790_817, "87.5"),
    ("care", {"depth_levels": 4, "kernel_px": 3}, 5_495_521, "41.2"),
    ("care", {"depth_levels": 4}, 15_260_897, "114"),
    ("rcan", {}, 337_917, "87.1"),
    ("rcan", {"blocks": 5}, 525_797, "135"),
    ("rcan", {"width": 64, "blocks": 10, "reduction": 16}, 3_944_585, "1025"),
    ("rcan", {"width": 64, "groups": 10, "blocks": 20, "reduction": 16}, 15_294_625, "3972"),
    ("dfcan", {}, 1_819_969, None),
]
RECTIFIABLE = [name for name in networks() if "output" in network_options(name)]


def linear_network(name: str, **options):
    """Build a network whose output may be negative."""
    return build_network(name, **({"output": "linear"} if name in RECTIFIABLE else {}), **options)


# Networks whose reach does not depend on the widths, made narrow: every path is then cheap to follow.
NARROW = {
    "unet": lambda **options: UNet(1, 1, (2,) * 5, bytes_per_pixel=1, **options),
    "unet_fixed": lambda **options: UNet(1, 1, (2,) * 5, bytes_per_pixel=1, **options),
    "hourglass_wres": lambda **options: Hourglass(1, 1, (2,) * 4, residual=True, bytes_per_pixel=1, **options),
    "hourglass_wores": lambda **options: Hourglass(1, 1, (2,) * 4, residual=False, bytes_per_pixel=1, **options),
    "care": lambda **options: build_network("care", **{"first_width": 2} | options),
}
REACHING = [
    *[(name, {}) for name in networks()],
    *[(name, {"kernel_px": 3, "upsampling": "torch"}) for name in ("unet_fixed", "hourglass_wres", "hourglass_wores")],
    *[(name, {"kernel_px": 5, "upsampling": "tensorflow"}) for name in ("unet", "hourglass_wres", "hourglass_wores")],
    ("care", {"depth_levels": 1, "kernel_px": 3}),
    ("care", {"depth_levels": 4, "kernel_px": 3}),
]


@pytest.mark.parametrize(("name", "options", "parameters", "gmac"), PUBLISHED)
def test_the_costs_are_those_published(name, options, parameters, gmac):
    with torch.device("meta"):
        network = build_network(name, **options)
    counted = cost(network)
    assert counted.parameters == parameters
    assert counted.weight_bytes == 4 * parameters
    if gmac is not None:
        digits = len(gmac.partition(".")[2])
        assert f"{counted.multiply_adds / 1e9:.{digits}f}" == gmac


def test_costs_by_hand():
    """One channel, two levels: every layer's pixels × weights, written out."""
    care = build_network("care", depth_levels=1, first_width=2, kernel_px=3)
    full = 9 * (1 * 2 + 2 * 2) + 9 * (4 * 2 + 2 * 2) + 2 * 1
    half = 9 * (2 * 4 + 4 * 2)
    assert cost(care, 6, 10).multiply_adds == 60 * full + 15 * half
    assert cost(care, 5, 9) == cost(care, 6, 10)  # rounded up to the grid, as a denoiser does
    assert cost(build_network("care", inputs=3, depth_levels=1, first_width=2, kernel_px=3), 6, 10, inputs=3) == (
        sum(parameter.numel() for parameter in care.parameters()) + 9 * 2 * 2,
        4 * (sum(parameter.numel() for parameter in care.parameters()) + 9 * 2 * 2),
        60 * (full + 9 * 2 * 2) + 15 * half,
    )


def test_niddl_fast_stays_within_its_budget():
    """Every convolution written out as pixels × inputs × outputs × kernel, from the finest level to the coarsest."""
    first, second, third, fourth = 16, 24, 40, 64
    half, quarter, eighth, sixteenth = 256**2, 128**2, 64**2, 32**2
    ends = half * 9 * (4 * first + first * 4)
    blocks = 18 * (half * first**2 + 2 * quarter * second**2 + 2 * eighth * third**2 + sixteenth * fourth**2)
    down = 4 * (quarter * first * second + eighth * second * third + sixteenth * third * fourth)
    up = quarter * first * second + eighth * second * third + sixteenth * third * fourth
    network = build_network("niddl_fast")
    assert cost(network).multiply_adds == ends + blocks + down + up <= 1.2e9
    assert cost(network).parameters == sum(parameter.numel() for parameter in network.parameters()) == 177_988


@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize("name", networks())
def test_every_network_keeps_the_size(name, inputs):
    network = linear_network(name, inputs=inputs, outputs=2).eval()
    grid = max(network.grid_px, 8)
    planes = torch.randn(2, inputs, 2 * grid, 3 * grid)
    with torch.inference_mode():
        result = network(planes)
        assert result.shape == (2, 2, 2 * grid, 3 * grid)
        assert result.dtype == torch.float32
        # Planes of a batch do not see each other, and the layout in memory does not matter.
        alone = network(planes[1:].contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(alone, result[1:], atol=1e-5, rtol=1e-4)
    assert network.bytes_per_pixel > 0


@pytest.mark.parametrize("name", networks())
def test_every_weight_is_used_and_learns(name):
    network = linear_network(name)
    edge = max(2 * network.grid_px, 8)
    network(torch.randn(1, 1, edge, edge)).square().mean().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


def measured_reach(network: nn.Module, declared: int, axis: int) -> int:
    """Follow every path back from a pixel at every place in the pooling grid: positive weights cannot cancel."""
    network = network.double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1 / parameter[0].numel() if parameter.ndim > 1 else 1)
    for module in list(network.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):  # lets one path through; the mean lets all
                setattr(module, key, nn.AvgPool2d(child.kernel_size))
    grid = network.grid_px
    centre = (declared // grid + 2) * grid
    planes = torch.ones(grid, 1, 2 * centre, grid, dtype=torch.float64, requires_grad=True)
    result = network(planes) if axis == 0 else network(planes.mT).mT
    sum(result[place, 0, centre + place, 0] for place in range(grid)).backward()
    touched = [np.flatnonzero(gradient.abs().sum(1).numpy()) for gradient in planes.grad[:, 0]]
    return max(max(centre + place - t.min(), t.max() - centre - place) for place, t in enumerate(touched))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("name", "options"), REACHING)
def test_the_reach_is_the_measured_one(name, options, axis):
    network = linear_network(name, **options).eval()
    if network.reach_px is None:
        planes = torch.rand(1, 1, 30, 40)
        other = planes.clone()
        other[..., 0, 0] += 1000
        with torch.inference_mode():
            assert not torch.equal(network(planes)[..., -1, -1], network(other)[..., -1, -1])
    elif name in NARROW:
        settings = {"output": "linear", "kernel_px": 5 if name == "care" else 3} | options
        if name != "care":
            settings["upsampling_kind"] = settings.pop("upsampling", "tensorflow")
        narrow = NARROW[name](**settings)
        assert narrow.grid_px == network.grid_px
        assert measured_reach(narrow, network.reach_px, axis) == network.reach_px
    else:
        assert measured_reach(network, network.reach_px, axis) == network.reach_px


@pytest.mark.parametrize(("kernel_px", "upsampling"), [(3, "tensorflow"), (5, "tensorflow"), (3, "torch")])
def test_upsampling_is_the_transpose_of_a_strided_convolution(kernel_px, upsampling):
    """TensorFlow defines it so: the gradient of the "SAME" convolution of stride 2, whose padding is k - 2 in all."""
    layer = Upsample(2, kernel_px, upsampling)
    with torch.no_grad():
        layer.transposed.bias.copy_(torch.tensor([10.0, 11.0]))  # no ReLU cuts in
    small, kernel = torch.rand(1, 2, 4, 5), layer.transposed.weight.detach()  # kernel (in, out, y, x)
    size = kernel.shape[-1]
    assert size == (2 if upsampling == "torch" else kernel_px)
    front, behind = (size - 2) // 2, size - 2 - (size - 2) // 2
    large = torch.zeros(1, 2, 8, 10, requires_grad=True)
    strided = nn.functional.conv2d(nn.functional.pad(large, (front, behind, front, behind)), kernel, stride=2)
    (strided * small).sum().backward()
    torch.testing.assert_close(layer(small), large.grad + layer.transposed.bias[:, None, None])


def test_channel_attention_by_its_formula():
    layer = ChannelWeights(6, 2)
    features = torch.randn(2, 6, 5, 7)
    squeeze, expand = layer[1], layer[3]
    mean = features.numpy().mean((2, 3))
    narrow = np.maximum(mean @ squeeze.weight.detach().numpy()[:, :, 0, 0].T + squeeze.bias.detach().numpy(), 0)
    score = narrow @ expand.weight.detach().numpy()[:, :, 0, 0].T + expand.bias.detach().numpy()
    np.testing.assert_allclose(layer(features).detach().numpy()[:, :, 0, 0], 1 / (1 + np.exp(-score)), rtol=1e-4)


@pytest.mark.parametrize(
    ("height", "rows"), [(6, [0, 1, 2, 3, 4, 5]), (12, [0, 2, 4, 6, 8, 10]), (8, [0, 1, 2, 4, 5, 6])]
)
def test_the_spectrum_of_fourier_attention(height, rows):
    """Frequency 0 in the centre; of height × 12 frequencies the attention looks at 6 rows and every second column."""
    from niddl_xr.denoising.nn.networks.dfcan import FourierAttention

    features = torch.randn(1, 4, height, 12)
    spectrum = FourierAttention(4, 3, 2, spectrum_px=6).spectrum(features)[0].numpy()
    amplitudes = np.abs(np.fft.fft2(features[0].numpy())) / np.sqrt(height * 12)
    centred = np.roll(amplitudes, (height // 2, 6), axis=(1, 2))[:, rows][:, :, ::2]
    np.testing.assert_allclose(spectrum, centred**0.8, rtol=1e-3, atol=1e-5)


def silenced(name):
    network = build_network(name, output="linear", width=4, reduction=2)
    for parameter in network.groups.parameters():
        nn.init.zeros_(parameter)
    return network


def test_with_silent_groups_the_skips_of_rcan_remain():
    network, planes = silenced("rcan"), torch.randn(1, 1, 12, 14)
    features = network.stem(planes)
    torch.testing.assert_close(network(planes), network.head(features + network.last(features)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network.groups[0].blocks(features), features)  # inside a group, too


def test_with_silent_blocks_each_of_the_four_groups_of_dfcan_doubles():
    network, planes = silenced("dfcan"), torch.randn(1, 1, 12, 14)
    features = 2**4 * network.stem(planes)
    torch.testing.assert_close(network(planes), network.head(network.last(features)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", RECTIFIABLE)
def test_a_rectified_output_is_the_linear_one_without_negatives(name):
    linear, rectified = (build_network(name, output=output).eval() for output in ("linear", "relu"))
    rectified.load_state_dict(linear.state_dict())
    edge = 2 * max(linear.grid_px, 8)
    planes = torch.randn(1, 1, edge, edge) * 10
    with torch.inference_mode():
        result = linear(planes) - linear(planes).median()  # negative and positive, whatever the weights
        linear.head.convolution.bias -= linear(planes).median()
        rectified.load_state_dict(linear.state_dict())
        torch.testing.assert_close(rectified(planes), result.clamp(min=0), atol=1e-5, rtol=1e-4)


def test_wrong_names_and_options_are_said():
    with pytest.raises(NiddlError, match="no network 'resnet'; choose one of care, dfcan, hourglass_wores"):
        build_network("resnet")
    with pytest.raises(NiddlError, match=r"unet_fixed has no option \['depth'\]; its options are \['inputs', "):
        build_network("unet_fixed", depth=3)
    with pytest.raises(NiddlError, match="expected output 'relu' or 'linear', got 'tanh': residuals"):
        build_network("rcan", output="tanh")
    with pytest.raises(NiddlError, match="expected upsampling 'tensorflow' or 'torch', got 'bilinear': 'tensorflow'"):
        build_network("hourglass_wres", upsampling="bilinear")
    for name in ("unet", "hourglass_wores", "care", "rcan", "dfcan", "niddl_fast"):
        with pytest.raises(NiddlError, match="expected kernel_px 3 or 5, got 4: choose one of the paper's"):
            build_network(name, kernel_px=4)
    with pytest.raises(NiddlError, match="expected depth_levels of 1 or more, got 0: give a whole number"):
        build_network("care", depth_levels=0)
    with pytest.raises(NiddlError, match=r"expected width of 1 or more, got 8.5: give a whole number"):
        build_network("niddl_fast", width=8.5)
    with pytest.raises(NiddlError, match="expected reduction from 1 to the width 8, got 16: choose a divisor"):
        build_network("rcan", width=8, reduction=16)
    with pytest.raises(
        NiddlError, match="expected an even spectrum_px, got 33: frequency 0 would not be in the centre"
    ):
        build_network("dfcan", spectrum_px=33)
    with pytest.raises(NiddlError, match="expected inputs of 1 or more, got 0: give a whole number"):
        build_network("unet_fixed", inputs=0)
