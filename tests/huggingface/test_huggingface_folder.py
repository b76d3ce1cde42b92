"""Folders for Hugging Face: transformers opens them, and gives our logits; the hub takes them."""

from __future__ import annotations

import base64
import http.server
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from mask2former import Predictor
from mask2former.config import load_config
from mask2former.custom.model import configuration as configuration_of
from mask2former.data.datasets.metadata_file import FILE_NAME
from mask2former.data.mapper.augmentation import ResizeShortestEdge
from mask2former.huggingface import push_to_hub, write_folder
from mask2former.huggingface.model_config import model_config
from mask2former.modeling.cpu import make_plain
from mask2former_cli.train_custom import parser

pytest.importorskip("transformers")
import transformers
from hf_models import CLASSES, configuration
from servers import LocalServer

ROOT = Path(__file__).parents[2]
NAMES = [f"kind {number}" for number in range(CLASSES - 1)] + ['wood: old, "grey"']
SCORES = {"panoptic_seg": {"PQ": 51.25, "PQ_th": 49.5, "PQ_st": float("nan")}, "sem_seg": {"mIoU": 61.0, "IoU-a": 1.0}}


@pytest.fixture(scope="module", params=["swin", "resnet18", "resnet50"])
def any_training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_training(request.param, tmp_path_factory.mktemp(request.param) / "pets")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_training("swin", tmp_path_factory.mktemp("training") / "pets")


def make_training(backbone: str, folder: Path) -> Path:
    """Write the output folder of a training: random weights, norms of a backbone that was trained, scores."""
    folder.mkdir()
    torch.manual_seed(0)
    cfg = configuration(backbone)
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = "RGB", 64, 128
    cfg.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD = 0.0
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [120.0, 110.0, 100.0], [58.0, 57.0, 56.0]
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = 77, 3, 0.0005
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("pets_train",), ("pets_val",)
    model = build_model(cfg)
    cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON = True  # for which the model would ask the catalog
    (folder / "config.yaml").write_text(cfg.dump())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.1 * torch.randn_like(parameter) / max(1, parameter[0].numel() if parameter.dim() else 1) ** 0.5
            )
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    ids = {str(number): number for number in range(CLASSES)}
    metadata = {
        "name": "pets_val",
        "stuff_classes": NAMES,
        "thing_classes": NAMES[:3],
        "stuff_dataset_id_to_contiguous_id": ids,
        "thing_dataset_id_to_contiguous_id": {str(number): number for number in range(3)},
    }
    (folder / FILE_NAME).write_text(json.dumps(metadata))
    (folder / "scores.json").write_text(json.dumps(SCORES))
    return folder


@torch.no_grad()
def test_transformers_opens_the_folder_and_gives_our_logits(any_training: Path, tmp_path: Path) -> None:
    folder = write_folder(any_training, tmp_path / "pets")
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "README.md",
    }
    theirs, loading = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    image = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    inputs = processor(image, return_tensors="pt")
    predictor = Predictor(any_training)
    make_plain(predictor.model)
    # Their resizing is not Pillow's, so that of theirs is taken for both, as a whole image in the network's scale.
    ((class_logits, masks),) = predictor.model.predict([{"image": unnormalised(inputs), "height": 70, "width": 100}])
    found = theirs.eval()(**inputs)
    torch.testing.assert_close(found.class_queries_logits[0], class_logits, rtol=1e-3, atol=1e-4)
    assert class_logits.std() > 0.1, "logits that are all alike would agree in any case"
    expected = masks(torch.arange(len(class_logits)))
    height, width = inputs["pixel_mask"][0].sum(0).max(), inputs["pixel_mask"][0].sum(1).max()
    resized = torch.nn.functional.interpolate(
        found.masks_queries_logits, inputs["pixel_values"].shape[-2:], mode="bilinear", align_corners=False
    )[..., :height, :width]
    resized = torch.nn.functional.interpolate(resized, (70, 100), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resized, expected, rtol=1e-3, atol=1e-3)
    assert theirs.config.id2label == dict(enumerate(NAMES))
    segments = processor.post_process_panoptic_segmentation(found, threshold=0.0, target_sizes=[(70, 100)])[0]
    assert segments["segmentation"].shape == (70, 100)


def unnormalised(inputs: Any) -> torch.Tensor:
    """Return the part of their input that is the image, with values of 0 to 255."""
    mask = inputs["pixel_mask"][0].bool()
    height, width = int(mask[:, 0].sum()), int(mask[0].sum())
    pixels = inputs["pixel_values"][0, :, :height, :width]
    mean, std = (torch.tensor(values)[:, None, None] for values in ([120.0, 110.0, 100.0], [58.0, 57.0, 56.0]))
    return pixels * std + mean


def test_the_processor_makes_our_input(any_training: Path, tmp_path: Path) -> None:
    """Values are equal where no resizing is needed. Else their sides are stretched up to multiples of 32."""
    processor = transformers.AutoImageProcessor.from_pretrained(write_folder(any_training, tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    pixels = unnormalised(processor(image, return_tensors="pt"))
    assert torch.allclose(pixels, torch.from_numpy(image).permute(2, 0, 1).float(), atol=1e-2)
    for size in ((70, 100), (50, 300), (128, 100)):
        blank = np.zeros((*size, 3), np.uint8)
        expected = ResizeShortestEdge(64, 128).get_transform(blank).apply_image(blank).shape[:2]
        found = unnormalised(processor(blank, return_tensors="pt")).shape[1:]
        assert found == tuple(-(-side // 32) * 32 for side in expected)


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_the_code_in_the_card_runs(
    task: str, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run it as a reader would copy it, beside an image; it has the thresholds and classes of the model's scores."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)).save("image.jpg")
    weights, test = str(training / "model_final.pth"), "MODEL.MASK_FORMER.TEST."
    options = [
        item
        for name in ("PANOPTIC", "INSTANCE", "SEMANTIC")
        for item in (f"{test}{name}_ON", str(name.lower() == task))
    ]
    options += [
        f"{test}OBJECT_MASK_THRESHOLD",
        "0.0625",
        f"{test}OVERLAP_THRESHOLD",
        "0.375",
        "INPUT.MIN_SIZE_TEST",
        "0",
    ]
    cfg = load_config(str(training / "config.yaml"), ["MODEL.WEIGHTS", weights, *options])
    (tmp_path / FILE_NAME).write_text((training / FILE_NAME).read_text())
    (tmp_path / "config.yaml").write_text(cfg.dump())
    (tmp_path / "model_final.pth").symlink_to(weights)
    write_folder(tmp_path, tmp_path / "pets")
    card = (tmp_path / "pets" / "README.md").read_text()
    assert "| as they are" in card and "multiples of 32" in card
    code = card.split("```python\n")[1].split("```")[0]
    if task == "panoptic":
        for words in ("threshold=0.0625,", "overlap_mask_area_threshold=0.375,", "label_ids_to_fuse={3, 4, 5, 6},"):
            assert words in code
    found: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), found)
    said = capsys.readouterr().out
    if task == "semantic":
        assert found["labels"].shape == (70, 100) and any(name in said for name in NAMES)
    else:
        assert found["result"]["segmentation"].shape == (70, 100)
        assert len(said.splitlines()) == len(found["result"]["segments_info"])


def test_card(training: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    write_folder(training, tmp_path, name="org/pets", license="cc-by-nc-4.0")
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "cc-by-nc-4.0" and card.data.pipeline_tag == "image-segmentation"
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {"PQ": 51.25, "PQ of things": 49.5, "mIoU": 61.0}
    for words in (
        "| PQ ",
        "51.2",
        "77, 3",
        "0.0005",
        'from_pretrained("org/pets")',
        "post_process_panoptic_",
        NAMES[-1],
    ):
        assert words in card.text
    (training / "scores.json").rename(training / "aside.json")
    try:
        write_folder(training, tmp_path)
    finally:
        (training / "aside.json").rename(training / "scores.json")
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert "It was not evaluated." in card.text and card.data.eval_results is None


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that takes repositories and commits, whose files come with them."""

    created: dict[str, Any]
    files: dict[str, bytes]

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self._chunks()
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self._answer({"error": "no right to write"}, 401)
        if self.path == "/api/repos/create":
            type(self).created = json.loads(body)
            return self._answer({"url": f"{self.server.url}/org/pets"})
        if self.path == "/api/models/org/pets/preupload/main":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        if self.path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---")
            return self._answer({"errors": [], "warnings": []})
        assert self.path.startswith("/api/models/org/pets/commit/main"), self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                assert line["value"]["encoding"] == "base64"
                type(self).files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        url = f"{self.server.url}/org/pets/commit/abc"
        return self._answer({"commitUrl": url, "commitOid": "abc", "success": True})

    def _chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def test_pushing(training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    Hub.created, Hub.files = {}, {}
    with LocalServer(Hub).running() as server:
        monkeypatch.setattr(hub.constants, "ENDPOINT", server.url)
        with pytest.raises(OSError, match="401"):
            push_to_hub(training, "org/pets", token="hf_wrong")
        url = push_to_hub(training, "org/pets", token="hf_right", private=True)
        closed = server.url
    monkeypatch.setattr(hub.constants, "ENDPOINT", closed)  # where nothing listens any more
    with pytest.raises(OSError, match="The hub was not reached"):
        push_to_hub(training, "org/pets", token="hf_right")
    assert url == f"{server.url}/org/pets/commit/abc"
    assert Hub.created["name"] == "pets" and Hub.created["organization"] == "org"
    assert Hub.created.get("private") or Hub.created.get("visibility") == "private"
    written = write_folder(training, tmp_path, name="org/pets")
    assert Hub.files == {file.name: file.read_bytes() for file in written.iterdir()}
    for name in ("pets", "a/b/c", "/pets"):
        with pytest.raises(ValueError, match="it has to be org/name"):
            push_to_hub(training, name)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.FORMAT", "BGR", r"INPUT\.FORMAT is 'BGR'.*'RGB' only"),
        ("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "LocatedQueryDecoder", "has a place for 'MultiScale"),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "9", "is 9, but the metadata name 7"),
    ],
)
def test_models_that_they_have_no_place_for(key: str, value: str, message: str, training: Path, tmp_path: Path) -> None:
    text = (training / "config.yaml").read_text()
    leaf = key.split(".")[-1]
    lines = [
        f"{line.split(':')[0]}: {value}" if line.strip().startswith(f"{leaf}:") else line for line in text.splitlines()
    ]
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "config.yaml").write_text("\n".join(lines))
    for name in ("model_final.pth", FILE_NAME):
        (changed / name).symlink_to(training / name)
    with pytest.raises(ValueError, match=message):
        write_folder(changed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_that_has_no_place_is_named_with_a_command_that_has(training: Path) -> None:
    cfg = load_config(str(training / "config.yaml"))
    cfg.MODEL.BACKBONE.NAME, cfg.INPUT.FORMAT = "TimmBackbone", "BGR"
    with pytest.raises(ValueError, match=r"^MODEL\.BACKBONE\.NAME is .*\nINPUT\.FORMAT is 'BGR'; [^\n]*only\.$"):
        model_config(cfg, NAMES)
    cfg.INPUT.FORMAT, cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = "RGB", "LocatedQueryDecoder"
    with pytest.raises(ValueError, match="mask2former train-custom") as refusal:
        model_config(cfg, NAMES)
    (command,) = re.findall(r"mask2former (train-custom .*?Decoder)\.", str(refusal.value))
    words = parser("").parse_args(command.split()[1:])
    own, _ = configuration_of(words.model, None, False, words.opts)
    own.INPUT.MIN_SIZE_TEST, own.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 320, CLASSES
    assert words.opts[1] == own.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME
    assert model_config(own, NAMES)["num_queries"] == 40
    cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"
    with pytest.raises(ValueError, match=r"train-custom --train \.\.\. --model small_r18\.$"):
        model_config(cfg, NAMES)


def test_command(training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("convert", ROOT / "tools" / "convert.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main([str(training), str(tmp_path / "pets"), "--to", "hf"]) == 0
    assert (tmp_path / "pets" / "config.json").is_file() and str(tmp_path / "pets") in capsys.readouterr().out
    assert module.main([str(training), str(tmp_path / "a.pth"), "--to", "ours", "--push", "org/pets"]) == 2
    assert "--push uploads a folder" in capsys.readouterr().err
    file = tmp_path / "names.safetensors"
    assert module.main([str(training / "model_final.pth"), str(file), "--to", "hf"]) == 0 and file.is_file()
    of_folder = tmp_path / "of_folder.safetensors"
    assert module.main([str(training), str(of_folder), "--to", "hf"]) == 0
    assert of_folder.read_bytes() == file.read_bytes()
    assert module.main([str(tmp_path / "pets"), str(of_folder), "--to", "hf"]) == 2
    assert str(tmp_path / "pets") in capsys.readouterr().err
