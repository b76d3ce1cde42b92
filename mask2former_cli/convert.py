"""The words of ``mask2former convert``."""

from __future__ import annotations

import argparse

from mask2former_cli.choices import WEIGHT_FORMATS

EXAMPLES = """
The format of the input is recognised by its names: ours, published (MaskFormer v1 too), Hugging Face's, and backbones
alone: Swin's classifiers, ResNets of torchvision, timm, Detectron2 (R-50.pkl) and Caffe2. The suffix of OUT
chooses the kind of file: .pth, .bin (PyTorch), .pkl (arrays, for Detectron2), .safetensors. Values are not changed.

examples:
  %(prog)s model_final.pth model.safetensors --to hf
  %(prog)s coco/panoptic/r50 r50.pth --to ours
  %(prog)s hf://org/name model.pkl --to published
  %(prog)s eomt_dinov3_difference.bin eomt.pth --base dinov3_from_timm.safetensors --to ours
  %(prog)s output/eomt/model_final.pth vit.safetensors --to timm
With --to timm the plain ViT alone is written, and the call of timm.create_model that loads it is printed.
With --to hf and an OUT without a suffix, a folder is written that Hugging Face's from_pretrained opens (configuration,
image processor, weights and a card with the scores); IN is then the output folder of a training, or a published model:
  %(prog)s output/mine hf_model --to hf
  %(prog)s output/mine hf_model --to hf --push org/name
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Convert weights between formats.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "input",
        metavar="IN",
        help="file, URL, hf://org/name, name of a published model, or output folder of a training (its best weights)",
    )
    result.add_argument("output", metavar="OUT", help="file to write; with --to hf a folder too")
    result.add_argument("--to", choices=WEIGHT_FORMATS, required=True, help="format of the parameter names")
    result.add_argument("--base", metavar="FILE", help="backbone's weights, to which those of IN are differences")
    result.add_argument("--push", metavar="ORG/NAME", help="upload the folder to this repository of the hub too")
    result.add_argument("--license", metavar="ID", help="of the weights, for the folder's card, such as cc-by-nc-4.0")
    return result
