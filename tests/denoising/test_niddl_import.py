"""TensorFlow checkpoints: a table is written by the format's description, read back, and damaged in every way."""

import struct
from contextlib import suppress

import numpy as np
import pytest
import torch
from google_crc32c import value as crc32c

import niddl_xr as nx
from niddl_xr import NiddlError
from niddl_xr.denoising.nn.networks import build_network


def varint(number: int) -> bytes:
    result = b""
    while number > 0x7F:
        result += bytes([number & 0x7F | 0x80])
        number >>= 7
    return result + bytes([number])


def field(number: int, content: int | bytes) -> bytes:
    if isinstance(content, bytes):
        return varint(number << 3 | 2) + varint(len(content)) + content
    return varint(number << 3) + varint(content)


def block(rows: list[tuple[bytes, bytes]]) -> bytes:
    """A LevelDB block whose keys share prefixes, as TensorFlow writes them."""
    content, before = b"", b""
    for key, value in rows:
        shared = 0
        while shared < min(len(before), len(key)) and before[shared] == key[shared]:
            shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return content + struct.pack("<II", 0, 1)


def write_checkpoint(folder, tensors: dict[str, np.ndarray]) -> None:
    """Write model.index and model.data as tensorflow/core/util/tensor_bundle describes them."""
    folder.mkdir(exist_ok=True)
    rows, data = [(b"", field(1, 1))], b""
    for name in sorted(tensors):
        raw = tensors[name].astype("<f4").tobytes()
        checksum = crc32c(raw)
        masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
        shape = b"".join(field(2, field(1, size)) for size in tensors[name].shape)
        message = field(1, 1) + field(2, shape) + field(4, len(data)) + field(5, len(raw))
        rows.append((name.encode(), message + varint(6 << 3 | 5) + struct.pack("<I", masked)))
        data += raw
    trailer = b"\0" + b"\0" * 4  # not compressed; this checksum is not read
    content, handles = b"", []
    for part in (rows[:40], rows[40:]):  # two data blocks
        body = block(part)
        handles.append((part[-1][0], varint(len(content)) + varint(len(body))))
        content += body + trailer
    meta = varint(len(content)) + varint(len(block([])))
    content += block([]) + trailer
    index = block(handles)
    place = varint(len(content)) + varint(len(index))
    content += index + trailer
    footer = (meta + place).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / "model.index").write_bytes(content + footer)
    (folder / "model.data-00000-of-00001").write_bytes(data)


def tensorflow_variables(network: str) -> dict[str, np.ndarray]:
    """Random variables W1, B1, … in the order of layers, with Adam's moments, as the authors' code saves them."""
    rng = np.random.default_rng(0)
    widths = {
        "unet_fixed": [(1, 32)] + [(32, 32)] * 14 + ["t", (64, 32), (32, 32), (32, 32)] * 4 + [(32, 1)],
        "hourglass_wres": [(1, 32)] + [(32, 32)] * 21 + ["t", (32, 32), (32, 32), (32, 32)] * 3 + [(32, 1)],
    }[network]
    tensors = {"beta1_power": np.float32(0.5), "beta2_power": np.float32(0.5)}
    for number, width in enumerate(widths, start=1):
        inputs, outputs = (32, 32) if width == "t" else width
        shape = (3, 3, outputs, inputs) if width == "t" else (3, 3, inputs, outputs)
        tensors[f"W{number}"] = rng.normal(0, 0.1, shape)
        tensors[f"B{number}"] = rng.normal(0, 0.1, outputs)
        tensors[f"W{number}/Adam"] = tensors[f"W{number}"] * 0
    return {name: np.asarray(tensor, "float32") for name, tensor in tensors.items()}


@pytest.fixture
def run_folder(tmp_path):
    write_checkpoint(tmp_path / "run", tensorflow_variables("hourglass_wres"))
    return tmp_path / "run"


@pytest.mark.parametrize(("network", "parameters"), [("unet_fixed", 314_913), ("hourglass_wres", 305_793)])
def test_weights_arrive_at_their_layers(tmp_path, network, parameters):
    variables = tensorflow_variables(network)
    write_checkpoint(tmp_path / "run", variables)
    denoiser = nx.import_niddl(tmp_path / "run")
    assert denoiser.card["network"] == {"name": network, "options": {"output": "relu"}}
    assert denoiser.card["parameters"] == parameters
    model = build_network(network)
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in denoiser.weights.items()})
    # The layers in the order in which a forward pass meets the first of each kind.
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    image = np.random.default_rng(1).normal(size=(8, 9)).astype("float32")
    with torch.inference_mode():
        result = first(torch.from_numpy(image)[None, None])[0].numpy()
    window = image[2:5, 3:6]  # TensorFlow correlates (y, x, in, out) without flipping
    expected = np.einsum("yx,yxo->o", window, variables["W1"][:, :, 0]) + variables["B1"]
    np.testing.assert_allclose(result[:, 3, 4], expected, rtol=1e-4, atol=1e-5)


def test_the_transposed_convolution_is_tensorflows():
    """Output (2i + k) takes input i times kernel k; what falls beyond 2n is dropped ("SAME", stride 2, kernel 3)."""
    from niddl_xr.denoising.nn.networks._layers import Upsample

    layer = Upsample(2)
    image = torch.rand(1, 2, 4, 5)
    kernel = layer.transposed.weight  # (in, out, y, x)
    expected = torch.zeros(1, 2, 9, 11) + layer.transposed.bias[:, None, None]
    for y in range(4):
        for x in range(5):
            expected[0, :, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3] += torch.einsum(
                "i,ioyx->oyx", image[0, :, y, x], kernel
            )
    torch.testing.assert_close(layer(image), torch.relu(expected[..., :8, :10]), atol=1e-5, rtol=1e-4)


def test_a_missing_file_is_said(run_folder):
    (run_folder / "model.data-00000-of-00001").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model.data-00000-of-00001 in .*expected a NIDDL run folder"):
        nx.import_niddl(run_folder)


def test_damage_is_said(run_folder):
    data, index = run_folder / "model.data-00000-of-00001", run_folder / "model.index"
    good_data, good_index = data.read_bytes(), index.read_bytes()
    data.write_bytes(good_data[:-4])
    with pytest.raises(NiddlError, match="its index describes .*do not belong together"):
        nx.import_niddl(run_folder)
    flipped = bytearray(good_data)
    flipped[1000] ^= 1
    data.write_bytes(flipped)
    with pytest.raises(NiddlError, match="is damaged: the checksum of tensor .* is wrong; copy the file again"):
        nx.import_niddl(run_folder)
    data.write_bytes(good_data)
    for length in (0, 20, len(good_index) // 2, len(good_index) - 1):
        index.write_bytes(good_index[:length])
        with pytest.raises(NiddlError, match="model.index is not a readable TensorFlow checkpoint index"):
            nx.import_niddl(run_folder)


def test_no_byte_of_the_index_can_crash_the_reader(run_folder):
    index = run_folder / "model.index"
    good = index.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(good), size=300):
        broken = bytearray(good)
        broken[place] = rng.integers(256)
        index.write_bytes(broken)
        with suppress(NiddlError):  # anything else fails the test
            nx.import_niddl(run_folder)


def test_another_network_is_said(tmp_path):
    variables = {name: array for name, array in tensorflow_variables("unet_fixed").items() if name != "W7"}
    write_checkpoint(tmp_path / "run", variables)
    with pytest.raises(NiddlError, match=r"holds 31 layers; expected a network of NIDDL .*'hourglass_wres': 35"):
        nx.import_niddl(tmp_path / "run")
