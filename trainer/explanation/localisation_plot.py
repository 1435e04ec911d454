"""Plot of localisation accuracy; does not import torch."""

from typing import Final

from trainer.explanation.localisation import IOU, Localisation
from trainer.report.drawing import COLOURS, DASHES, MARKERS, Drawing, canvas, styled

_WIDTH, _HEIGHT = 640, 360
_PANEL: Final = (60, 50, 560, 270)


@styled()
def plotted(document: Localisation) -> Drawing:
    """Mean accuracy over the overlap above which a box counts as found; one line per kind of map and published row."""
    lines = {method["name"]: method["mean"]["iou"] for method in document["methods"]}
    for other in document["published"]:
        suffix = "" if other["comparable"] else ", other boxes"
        lines[f"{other['name']}{suffix}"] = [other["iou"][str(least)]["mean"] for least in IOU]
    figure, (axes,) = canvas(_WIDTH, _HEIGHT, [_PANEL])
    for number, (name, values) in enumerate(lines.items()):
        axes.plot(
            IOU,
            values,
            label=name,
            color=COLOURS[number],
            marker=MARKERS[number],
            linestyle=DASHES[number],
            clip_on=False,
        )
    axes.set(xlim=(0.05, 0.75), ylim=(0, 1), xlabel="IoU above", ylabel="share of boxes found, mean of findings")
    axes.set_title(f"{document['boxes']} boxes on {document['images']} images", loc="left")
    axes.legend(loc="upper right")
    description = "; ".join(f"{name} {values[0]:.3f} at 0.1, {values[-1]:.3f} at 0.7" for name, values in lines.items())
    return Drawing(figure, f"Mean share of drawn boxes found, by required IoU: {description}")
