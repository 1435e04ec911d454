"""Explanation of a model's predictions for given images, and a check that its maps depend on the weights.

OUT/randomisation.json   result of randomising the weights
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from trainer.data.image_files import ImageFile
from trainer.errors import InputError, on_one_line
from trainer.explanation import randomisation
from trainer.explanation.explainer import Explained, Explainer
from trainer.explanation.map_writer import Bad, Line, Output, each, opened
from trainer.explanation.randomisation import Maps, Randomisation
from trainer.report.formatting import last_name
from trainer.report.picture_files import writing
from trainer.runtime.console import Reporter
from trainer.runtime.progress import USUALLY_FEW
from trainer.storage import LocalStorage, output_files
from trainer.storage.files import write_file

RANDOMISATION: Final = "randomisation.json"

REDRAWS: Final = 3
CHECKED_IMAGES: Final = 32
"""Randomised networks, and images per network: 19 passes over this many images for DenseNet-121."""


def numbers_of(names: Sequence[str], findings: Sequence[str]) -> list[int]:
    """Indices of the findings with these names. Raises: InputError for one that the model does not have.

    `names` are the parts of a text between commas: those of a name that has commas are joined again.
    """
    names = _joined_at_commas(names, findings)
    unknown = [name for name in names if name not in findings]
    if unknown:
        raise InputError(
            f"cannot explain `{on_one_line(unknown[0])}`: the model has no such finding (from `--findings`)",
            hint=f"its findings are {', '.join(findings)}",
        )
    return [findings.index(name) for name in dict.fromkeys(names)]


def _joined_at_commas(parts: Sequence[str], findings: Sequence[str]) -> list[str]:
    """From each part on, the most parts that are a finding together, otherwise the part alone."""
    names, first = [], 0
    while first < len(parts):
        texts = [",".join(parts[first:end]).strip() for end in range(len(parts), first, -1)]
        nth = next((nth for nth, text in enumerate(texts) if text in findings), len(texts) - 1)
        names.append(texts[nth])
        first += len(texts) - nth
    return names


def explain(
    explainer: Explainer,
    files: Sequence[ImageFile],
    *,
    named: Sequence[int],
    top: int,
    output: Output,
    report: Callable[[Line], None],
    reporter: Reporter,
) -> list[Bad]:
    """Write maps of the findings `named`, by default of the `top` most probable of each image; returns unusable images.

    `report` gets each line.

    Raises: InputError when OUT cannot be written.
    """
    findings = named or range(len(explainer.trained.findings))

    with opened(explainer.trained, output, files, report) as writer:

        def draw(seen: Explained) -> list[Line]:
            numbers = named or np.argsort(-seen.probability_K, kind="stable")[:top].tolist()
            return [writer.draw(seen, number) for number in numbers]

        return each(explainer, files, findings, draw=draw, add=writer.add, reporter=reporter)


def check_randomisation(
    explainer: Explainer,
    files: Sequence[ImageFile],
    *,
    named: Sequence[int],
    seed: int,
    folder: Path,
    reporter: Reporter,
) -> Randomisation:
    """Check on at most the first 32 images whether maps depend on the model's weights; the result is written to OUT.

    Raises: InputError when no image is usable.
    """
    output_files.check(LocalStorage(str(folder)), [RANDOMISATION])
    views = explainer.views(files[:CHECKED_IMAGES])
    if not views:
        raise InputError(f"cannot check maps: none of the first {min(len(files), CHECKED_IMAGES)} images is usable")
    trained = explainer.trained
    numbers = list(named) or list(range(len(trained.findings)))
    passes = 1 + REDRAWS * len(randomisation.stages(trained.network))
    with reporter.progress("randomising weights", passes, USUALLY_FEW) as advance:

        def maps_of(network: nn.Module) -> Maps:
            maps_NMhw = explainer.maps(network, views, numbers)
            advance(1)
            return maps_NMhw

        stages = randomisation.check(
            trained.network,
            maps_of,
            fresh=randomisation.untrained(trained.model, trained.head, len(trained.findings)),
            draws=REDRAWS,
            seed=seed,
        )
    images = sum(len(view) for view in views)
    document = Randomisation(
        format=randomisation.FORMAT,
        model=last_name(trained.origin),
        images=images,
        maps=images * len(numbers),
        draws=REDRAWS,
        stages=stages,
    )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / RANDOMISATION, (json.dumps(document, indent=1) + "\n").encode())
    return document
