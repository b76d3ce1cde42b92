"""Our names against those of the published weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.published import from_published, is_published, to_published
from mask2former.modeling.layers.window_attention import relative_position_index

PIXEL, DECODER = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
# Ours and the published spelling of one parameter of each kind.
PAIRS = {
    PIXEL + "level_embed": PIXEL + "transformer.level_embed",
    PIXEL + "input_proj.0.1.weight": PIXEL + "input_proj.0.1.weight",
    PIXEL + "layers.3.self_attention.attention.value_proj.weight": PIXEL
    + "transformer.encoder.layers.3.self_attn.value_proj.weight",
    PIXEL + "layers.3.self_attention.norm.bias": PIXEL + "transformer.encoder.layers.3.norm1.bias",
    PIXEL + "layers.3.feed_forward.linear2.bias": PIXEL + "transformer.encoder.layers.3.linear2.bias",
    PIXEL + "layers.3.feed_forward.norm.bias": PIXEL + "transformer.encoder.layers.3.norm2.bias",
    PIXEL + "lateral_convs.0.norm.weight": PIXEL + "adapter_1.norm.weight",
    PIXEL + "output_convs.0.weight": PIXEL + "layer_1.weight",
    DECODER + "layers.8.cross_attention.attention.in_proj_weight": DECODER
    + "transformer_cross_attention_layers.8.multihead_attn.in_proj_weight",
    DECODER + "layers.8.self_attention.attention.out_proj.bias": DECODER
    + "transformer_self_attention_layers.8.self_attn.out_proj.bias",
    DECODER + "layers.8.feed_forward.norm.weight": DECODER + "transformer_ffn_layers.8.norm.weight",
    DECODER + "norm.bias": DECODER + "decoder_norm.bias",
    DECODER + "query_feat.weight": DECODER + "query_feat.weight",
    "backbone.stem.conv1.weight": "backbone.stem.conv1.weight",
}


def test_names_both_ways() -> None:
    ours = {name: torch.rand(3) for name in PAIRS}
    theirs = to_published(ours)
    assert set(theirs) == set(PAIRS.values())
    assert is_published(theirs) and not is_published(ours)
    back = from_published(theirs)
    assert all(torch.equal(back[name], value) for name, value in ours.items()) and len(back) == len(ours)


def test_two_fpn_levels_are_counted_from_the_other_end() -> None:
    ours = {PIXEL + f"lateral_convs.{i}.weight": torch.tensor(i) for i in range(2)}
    theirs = to_published(ours)
    assert theirs == {PIXEL + "adapter_2.weight": torch.tensor(0), PIXEL + "adapter_1.weight": torch.tensor(1)}
    assert from_published(theirs) == ours


def test_older_spellings() -> None:
    old = {
        "sem_seg_head.layer_1.weight": torch.tensor(1),
        DECODER + "static_query.weight": torch.tensor(2),
        "criterion.empty_weight": torch.ones(4),
    }
    assert from_published(old) == {
        PIXEL + "output_convs.0.weight": torch.tensor(1),
        DECODER + "query_feat.weight": torch.tensor(2),
    }


def test_baselines_are_told_by_their_pixel_decoder() -> None:
    assert is_published({"sem_seg_head.pixel_decoder.adapter_1.weight": 0, "sem_seg_head.predictor.weight": 0})
    assert is_published({"sem_seg_head.layer_4.weight": 0})  # MaskFormer v1's first files


class Holder(nn.Module):
    """Has parameters of given names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            node: nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(node, part):
                    node.add_module(part, nn.Module())
                node = getattr(node, part)
            node.register_parameter(last, nn.Parameter(torch.zeros(3)))


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_checkpointer_reads_published_files(tmp_path: Path, suffix: str) -> None:
    values = {name: np.random.rand(3).astype("float32") for name in PAIRS.values()}
    path = tmp_path / ("weights" + suffix)
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": values, "__author__": "third_party"}))
    else:
        torch.save({"model": {name: torch.from_numpy(value) for name, value in values.items()}}, path)
    model = Holder(list(PAIRS))
    MaskFormerCheckpointer(model).load(str(path))
    for ours, theirs in PAIRS.items():
        assert np.array_equal(model.get_parameter(ours).detach().numpy(), values[theirs]), ours


def test_indices_of_swin_are_dropped_and_computed_again() -> None:
    table = "backbone.layers.0.blocks.1.attn.relative_position_bias_table"
    index = table.replace("bias_table", "index")
    published = to_published({table: torch.rand(25, 2)})
    assert torch.equal(published[index], relative_position_index(3))
    assert from_published(published).keys() == {table}


def test_hugging_face_files_are_not_loaded_by_halves(tmp_path: Path) -> None:
    names = ["model.pixel_level_module.encoder.x.weight", "model.pixel_level_module.decoder.level_embed"]
    torch.save({name: torch.ones(3) for name in names}, tmp_path / "hf.bin")
    with pytest.raises(NotImplementedError, match="Hugging Face weights with a backbone other than Swin and ResNet"):
        MaskFormerCheckpointer(Holder(["a"])).load(str(tmp_path / "hf.bin"))
