"""What ``--model`` means for ``evaluate`` and ``draw``: configuration, weights and the place of results."""

from __future__ import annotations

from pathlib import Path

import pytest

from mask2former.cli.settings import settings_of


def test_a_folder_gives_what_the_options_leave_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Complete them by the weights and the folder itself, as an absolute path even where its name is a number."""
    (folder := tmp_path / "2024").mkdir()
    monkeypatch.chdir(tmp_path)
    config, named = str(folder / "config.yaml"), ["MODEL.WEIGHTS", "other.pth"]
    assert settings_of("2024", named) == (config, [*named, "OUTPUT_DIR", str(folder)])
    assert settings_of("2024", [*named, "OUTPUT_DIR", "there"]) == (config, [*named, "OUTPUT_DIR", "there"])
    with pytest.raises(FileNotFoundError, match=r"lacks model_final\.pth"):
        settings_of("2024", [])


def test_a_published_model_has_no_folder(tmp_path: Path) -> None:
    file, settings = settings_of("coco/panoptic/r50", [])
    assert Path(file).name == "r50.yaml" and settings == ["MODEL.WEIGHTS", "coco/panoptic/r50"]
    with pytest.raises(ValueError, match="neither the output folder of a training nor a name"):
        settings_of(str(tmp_path / "nothing"), [])
