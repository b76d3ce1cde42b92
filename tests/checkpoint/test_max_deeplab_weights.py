"""Weights of MaX-DeepLab: TensorFlow's variables and back, exactly; and the object paths of its checkpoint files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_backbone, build_sem_seg_head
from small_models import max_deeplab as small
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.checkpoint import MaskFormerCheckpointer, max_deeplab
from mask2former.checkpoint.formats import convert, to_ours
from mask2former.checkpoint.weights_io import write

PATH = "/.ATTRIBUTES/VARIABLE_VALUE"


def model(stem: list[int] | None = None, **keys: object) -> nn.ModuleDict:
    cfg = small(**keys)
    cfg.MODEL.AXIAL_RESNET.STEM_CHANNELS = stem or [4, 8]
    backbone = build_backbone(cfg)
    return nn.ModuleDict({"backbone": backbone, "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape())})


def filled(module: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        name: torch.rand_like(value)
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize(
    ("stem", "keys"),
    [
        ([4, 8], {"SEMANTIC_DECODER": True}),
        ([8], {"PRETRAINED_ROUNDS": 1, "NEW_ROUNDS": 1, "DUAL_PATH_STAGES": [4, 5]}),
    ],
)
def test_weights_go_to_tensorflow_and_back_exactly(stem: list[int], keys: dict[str, object]) -> None:
    ours = filled(model(stem, **keys))
    variables = convert(ours, "published")
    assert len(variables) == len(ours)
    name, back = to_ours({**variables, "global_step": torch.tensor(7)})
    assert name == "MaX-DeepLab, TensorFlow"
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[key], value) for key, value in ours.items())
    again = convert(back, "published")
    assert all(torch.equal(again[key], value) for key, value in variables.items())
    with pytest.raises(ValueError, match="Hugging Face has no MaX-DeepLab"):
        convert(ours, "hf")


def test_kernels_mean_the_same() -> None:
    """Compute with TensorFlow's layouts by hand: kernels [kh, kw, in, out], depthwise [kh, kw, in, 1], [1, in, out]."""
    network = model()
    ours = filled(network)
    variables = {key: value.numpy() for key, value in max_deeplab.to_published(ours).items()}
    x = torch.rand(1, 3, 3, 3)
    kernel = variables["encoder/stem/conv1_bn_act/conv/kernel"]
    expected = np.einsum("cyx,yxco->o", x[0].numpy(), kernel)
    found = F.conv2d(x, ours["backbone.stem.conv1_bn_act.conv.weight"])[0, :, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    x = torch.rand(1, 16, 5, 5)
    kernel = variables["pixel_space_head/conv_block/conv1_bn_act/depthwise/depthwise_conv/depthwise_kernel"]
    expected = np.einsum("cyx,yxc->c", x[0].numpy(), kernel[..., 0])
    weight = ours["sem_seg_head.predictor._pixel_space_head_conv0bnact.conv.weight"]
    np.testing.assert_allclose(F.conv2d(x, weight, groups=16)[0, :, 0, 0], expected, rtol=1e-5)
    kernel = variables["transformer_class_head/conv/kernel"]
    x = torch.rand(1, kernel.shape[1], 1)
    weight = ours["sem_seg_head.predictor._transformer_class_head.conv.weight"]
    np.testing.assert_allclose(F.conv1d(x, weight)[0, :, 0], x[0, :, 0].numpy() @ kernel[0], rtol=1e-5)
    kernel = variables["encoder/stage5/block1/attention/height_axis/qkv_kernel"]
    weight = ours["backbone.stage5.block1.attention._height_axis.qkv_transform.conv.weight"]
    x = torch.rand(1, kernel.shape[0], 1)
    np.testing.assert_allclose(F.conv1d(x, weight)[0, :, 0], x[0, :, 0].numpy() @ kernel, rtol=1e-5)


def test_norms_of_attention_have_tensorflows_axes() -> None:
    variables = max_deeplab.to_published(filled(model()))
    axis, dual = "encoder/stage5/block1/attention/width_axis/", "encoder/stage5/block1_transformer/memory_attention/"
    assert variables[axis + "batch_norm_similarity/gamma"].shape == (3, 1, 4, 1, 1)
    assert variables[axis + "batch_norm_retrieved_output/beta"].shape == (2, 1, 4, 1, 8)
    assert variables[dual + "batch_norm_similarity/moving_mean"].shape == (4,)
    assert variables[dual + "batch_norm_retrieved_value/moving_variance"].shape == (1, 4, 1, 4)


def test_a_file_of_variables_loads_whole(tmp_path: Path) -> None:
    ours, target = filled(model()), model()
    file = str(tmp_path / "max_deeplab.safetensors")
    write(max_deeplab.to_published(ours), file)
    checkpointer = MaskFormerCheckpointer(target)
    checkpointer.load(file)
    report = checkpointer.report
    assert report is not None and report.format == "MaX-DeepLab, TensorFlow"
    assert report.matched == report.total and not report.left_over
    for name, value in ours.items():
        torch.testing.assert_close(target.state_dict()[name], value, rtol=0, atol=0)


def test_a_pretrained_encoder_is_a_start(tmp_path: Path) -> None:
    """Without memory, dual-path blocks, decoder and head."""
    ours, target = filled(model()), model()
    encoder = {
        key: value
        for key, value in max_deeplab.to_published(ours).items()
        if key.split("/")[1] in ("stem", "stage2", "stage3", "stage4", "stage5") and "_transformer/" not in key
    }
    file = str(tmp_path / "encoder.safetensors")
    write({key: value for key, value in encoder.items() if key.startswith("encoder/")}, file)
    before = target.state_dict()["backbone.memory_feature"].clone()
    checkpointer = MaskFormerCheckpointer(target)
    checkpointer.load(file)
    assert checkpointer.report is not None and checkpointer.report.matched == len(encoder)
    state = target.state_dict()
    assert torch.equal(
        state["backbone.stage5.block1.conv3_bn.conv.weight"], ours["backbone.stage5.block1.conv3_bn.conv.weight"]
    )
    assert torch.equal(state["backbone.memory_feature"], before)


def test_object_paths_of_checkpoint_files() -> None:
    """The paths that writing a model with TensorFlow gave."""
    paths = {
        "encoder/_stage4/_block2/_attention/_height_axis/qkv_kernel": (
            "encoder/stage4/block2/attention/height_axis/qkv_kernel"
        ),
        "encoder/memory_feature": "encoder/memory_feature",
        "encoder/_stem/_conv1_bn_act/_batch_norm/gamma": "encoder/stem/conv1_bn_act/batch_norm/gamma",
        "semantic_decoder/_aspp/_conv_bn_act/_conv/kernel": "auxiliary_semantic_decoder/aspp/conv_bn_act/conv/kernel",
        "semantic_decoder/_low_level_conv1/_conv/kernel": "auxiliary_semantic_decoder/low_level_conv1/conv/kernel",
        "semantic_head_without_last_layer/_conv1_bn_act/_pointwise/_conv/kernel": (
            "auxiliary_semantic_head/conv_block/conv1_bn_act/pointwise/conv/kernel"
        ),
        "semantic_last_layer/bias": "auxiliary_semantic_head/final_conv/bias",
        "pixel_space_head/conv_block/_conv1_bn_act/_depthwise/_depthwise_conv/depthwise_kernel": (
            "pixel_space_head/conv_block/conv1_bn_act/depthwise/depthwise_conv/depthwise_kernel"
        ),
        "pixel_space_head/final_conv/bias": "pixel_space_head/final_conv/bias",
        "transformer_mask_head/_batch_norm/beta": "transformer_mask_head/batch_norm/beta",
        "pixel_space_mask_batch_norm/gamma": "pixel_space_mask_batch_norm/gamma",
    }
    state = {path + PATH: torch.tensor(index) for index, path in enumerate(paths)}
    state["encoder/memory_feature/.OPTIMIZER_SLOT/optimizer/m" + PATH] = torch.tensor(-1)
    state["global_step" + PATH] = torch.tensor(-1)
    found = max_deeplab.of_object_paths(state)
    assert found == {name: index for index, name in enumerate(paths.values())}


def test_a_tensorflow_file_is_read(tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    parts = ["encoder", "_stem", "_conv1_bn_act", "_conv", "kernel"]
    root = node = tensorflow.Module()
    for part in parts[:-1]:
        setattr(node, part, tensorflow.Module())
        node = getattr(node, part)
    kernel = np.random.default_rng(0).random((3, 3, 3, 4), dtype=np.float32)
    node.kernel = tensorflow.Variable(kernel)
    checkpoint = tensorflow.train.Checkpoint(encoder=root.encoder, global_step=tensorflow.Variable(3))
    variables = max_deeplab.read_tensorflow(checkpoint.save(str(tmp_path / "ckpt")))
    assert variables.keys() == {"encoder/stem/conv1_bn_act/conv/kernel"}
    np.testing.assert_array_equal(variables["encoder/stem/conv1_bn_act/conv/kernel"], kernel)


def test_a_tensorflow_file_without_tensorflow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"ckpt-100000 is a checkpoint of TensorFlow.*pip install tensorflow"):
        max_deeplab.read_tensorflow("ckpt-100000")
