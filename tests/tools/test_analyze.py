"""tools/analyze.py: what it adds to fvcore's counting, against numbers worked out by hand; whole models are counted."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.analysis import flop_counts
from mask2former.cli import analyze
from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.ops import ms_deform_attn, ms_deform_attn_fused
from mask2former.ops.library import is_loaded, plain_pytorch

ROOT = Path(__file__).parents[2]


class Attend(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)


class Sample(nn.Module):
    def forward(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn(value, [(4, 3), (2, 2)], locations, weights)


class SampleFused(nn.Module):
    def forward(self, value: Tensor, centres: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return ms_deform_attn_fused(value, [(4, 3), (2, 2)], centres, offsets, logits)


class AddProduct(nn.Module):
    def forward(self, total: Tensor, one: Tensor, other: Tensor) -> Tensor:
        return total.clone().addmm_(one, other)


class AddProducts(nn.Module):
    """Of a kind that no model here calls."""

    def forward(self, total: Tensor, one: Tensor, other: Tensor) -> Tensor:
        return torch.baddbmm(total, one, other)


def counted(module: nn.Module, *inputs: Tensor) -> FlopCountAnalysis:
    handlers = {**dict.fromkeys(flop_counts.FREE), **flop_counts.HANDLERS}
    analysis = FlopCountAnalysis(module, inputs).set_op_handle(**handlers)
    return analysis.unsupported_ops_warnings(False).tracer_warnings("none")


def test_attention() -> None:
    """2 images, 3 heads: 5 queries with 7 keys of 4 channels, softmax, then 7 values of 6 channels for each query."""
    inputs = (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 6))
    assert counted(Attend(), *inputs).total() == 2 * 3 * (5 * 7 * 4 + 5 * 7 * 3 + 5 * 7 * 6)


def test_added_product() -> None:
    assert counted(AddProduct(), torch.randn(5, 7), torch.randn(5, 3), torch.randn(3, 7)).total() == 5 * 3 * 7


@pytest.mark.parametrize("compiled", [True, False])
def test_deformable_attention(compiled: bool) -> None:
    """2 images, 9 queries, 3 heads of 8 channels, 2 levels of 4 points: 4 neighbours and a weight each, and a softmax.

    The plain version is counted by its parts, and comes to the same.
    """
    if compiled and not is_loaded("cpu"):
        pytest.skip("the compiled operator is not built")
    value, locations, weights = torch.randn(2, 16, 3, 8), torch.rand(2, 9, 3, 2, 4, 2), torch.rand(2, 9, 3, 2, 4)
    centres = torch.rand(1, 9, 1, 2)
    with nullcontext() if compiled else plain_pytorch():
        classic, fused = (
            counted(Sample(), value, locations, weights),
            counted(SampleFused(), value, centres, locations, weights),
        )
        assert classic.total() == 2 * 9 * 3 * 2 * 4 * 8 * 5
        assert fused.total() == 2 * 9 * 3 * 2 * 4 * (8 * 5 + 3)
        assert not classic.unsupported_ops() and not fused.unsupported_ops()


def test_an_operator_that_is_not_counted_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Model(nn.Module):
        def forward(self, batch: list[dict[str, Tensor]]) -> Tensor:
            return AddProducts()(*(batch[0]["image"] for _ in range(3)))

    assert flop_counts.flop_analysis(Model(), torch.rand(2, 2, 2)).total() == 0
    assert "aten::baddbmm" in caplog.text


# Every kind of backbone, pixel decoder, decoder, head and result.
WHOLE = [
    *("quickstart/panoptic", "quickstart/instance", "quickstart/semantic", "quickstart/maskformer"),
    *("quickstart/per_pixel", "quickstart/per_pixel_plus"),
    *("coco/panoptic/r50", "coco/panoptic/swin", "ade20k/semantic/maskformer_r50"),
]


@pytest.mark.parametrize("name", WHOLE)
@torch.no_grad()
def test_nothing_of_a_whole_model_is_left_uncounted(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_all(str(tmp_path))
    model = build_model(load_config(str(ROOT / f"configs/{name}.yaml"), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]))
    image = torch.rand(3, 64, 96) * 255
    totals = []
    for mode in (nullcontext, plain_pytorch):
        caplog.clear()
        with mode():
            analysis = flop_counts.flop_analysis(model.eval(), image)
            by_module = analysis.by_module()
            assert not analysis.unsupported_ops()
        assert "Unsupported" not in caplog.text
        totals.append([by_module[f"model.{part}"] for part in flop_counts.PARTS.values()])
    assert totals[0] == totals[1]


@pytest.mark.parametrize("name", ["panoptic", "maskformer", "per_pixel_plus"])
@torch.no_grad()
def test_parts_of_a_model(name: str, tmp_path: Path) -> None:
    register_all(str(tmp_path))
    cfg = load_config(str(ROOT / f"configs/quickstart/{name}.yaml"), ["MODEL.DEVICE", "cpu"])
    model, image = build_model(cfg).eval(), torch.rand(3, 64, 96) * 255
    counted = flop_counts.count(model, image)
    assert counted["total"][0] == sum(parameter.numel() for parameter in model.parameters())
    assert counted["total"][0] == sum(counted[part][0] for part in flop_counts.PARTS)
    assert all(sum(counted[part][i] for part in flop_counts.PARTS) <= counted["total"][i] for i in (1, 2))
    stem = 32 * 48 * 64 * 7 * 7 * 3
    assert counted["backbone"][1] > stem
    first = FlopCountAnalysis(model.backbone.stem.conv1, torch.rand(1, 3, 64, 96)).unsupported_ops_warnings(False)
    assert first.by_operator()["conv"] == stem
    seconds = analyze.measure(model, image, repeats=1)
    assert 0 < sum(seconds[part] for part in flop_counts.PARTS) <= seconds["total"]
    text = analyze.table(counted, seconds)
    assert [line.split("  ")[0].strip() for line in text.splitlines()[1:]] == [*flop_counts.PARTS, "results", "total"]


@pytest.mark.parametrize(
    ("name", "backbone"), [("r50", "R50"), ("r101", "R101"), ("swin", "Swin-T"), ("swin_large_in21k", "Swin-L")]
)
def test_published_numbers_belong_to_their_network(name: str, backbone: str) -> None:
    folder = ROOT / "configs/coco/panoptic"
    assert analyze.published(load_config(str(folder / f"{name}.yaml")))[0] == backbone
    assert analyze.published(load_config(str(ROOT / "configs/quickstart/panoptic.yaml"))) is None


def test_products_without_values(tmp_path: Path) -> None:
    """On the device "meta": what fvcore counts but for normalisation, resizing and softmax, which are little."""
    register_all(str(tmp_path))
    cfg = load_config(str(ROOT / "configs/quickstart/panoptic.yaml"), ["MODEL.DEVICE", "meta"])
    model = build_model(cfg).eval()
    products, seconds = analyze.analyse(model, (64, 90), "meta", repeats=1)
    assert not seconds
    cpu = build_model(load_config(str(ROOT / "configs/quickstart/panoptic.yaml"), ["MODEL.DEVICE", "cpu"])).eval()
    with torch.no_grad():
        image = torch.rand(3, 64, 96) * 255  # of the size that 64x90 is padded to
        everything = flop_counts.count(cpu, image)
        pixel_decoder = flop_counts.flop_analysis(cpu, image).by_module_and_operator()[
            "model.sem_seg_head.pixel_decoder"
        ]
    with plain_pytorch():
        plain = flop_counts.count_products(model, (64, 90))
    assert [plain[part][:2] for part in plain] == [products[part][:2] for part in products]
    for part in flop_counts.PARTS:
        assert products[part][0] == everything[part][0]
        assert 0.9 * everything[part][1] < products[part][1] <= everything[part][1], part
    sampled = "ms_deform_attn_fused" if is_loaded("cpu") else "grid_sampler"
    assert pixel_decoder[sampled] > 0
    uncounted = sum(pixel_decoder[name] for name in ("group_norm", "layer_norm", "upsample_bilinear2d"))
    assert products["pixel decoder"][1] == sum(pixel_decoder.values()) - uncounted
    masks = 40 * (128 + 25) * 16 * 24  # of each query, at a quarter of the image's size; 25 channels are coordinates
    assert products["total"][1] == sum(products[part][1] for part in flop_counts.PARTS) + masks
    assert "nan" in analyze.table(products, seconds)


def test_products_of_a_model_without_masks(tmp_path: Path) -> None:
    register_all(str(tmp_path))
    cfg = load_config(str(ROOT / "configs/quickstart/per_pixel.yaml"), ["MODEL.DEVICE", "meta"])
    with pytest.raises(ValueError, match="SemanticSegmentor cannot be counted on the device meta"):
        analyze.analyse(build_model(cfg).eval(), (64, 64), "meta", repeats=1)
