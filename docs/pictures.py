"""Take the pictures of README.md again: `.venv/bin/python docs/pictures.py`.

report.webp   the report of the run of `make demo`, or of `--run DIRECTORY`
status.png    `launcher status`: of `--job NAME` in the cluster of KUBECONFIG, else of a job as a real cluster answered once
              (tests/launcher/status/snapshots), behind the tests' API server

Needs the environment of `make setup`, and Chromium.
"""

import argparse
import html
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import yaml
from PIL import Image, ImageChops

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = Path(__file__).with_name("pictures")
SNAPSHOT: Final = ROOT / "tests/launcher/status/snapshots/gang-incomplete.yaml"
JOB: Final = "chexnet-1"
"""What the job of the snapshot is called in the picture."""

REPORT_PX: Final = (1200, 900)
"""Width and height of the window: the top of the page, with its five numbers and the ROC curves."""

TERMINAL_PX: Final = (1000, 2400)
"""120 characters a line, and more height than a terminal's output needs: the rest is cut off."""

PICTURE_PX: Final = 1800
"""Width of a picture: twice that at which a README shows it, for fine screens."""

MARGIN_PX: Final = 36

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

TERMINAL: Final = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #14181f; color: #d8dee9; font: 13px/1.5 "DejaVu Sans Mono", monospace; }}
pre {{ margin: 18px 20px; font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }}
b {{ color: #8fbcbb; font-weight: normal; }}
</style><pre><b>$ {command}</b>
{output}</pre>"""


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of README.md again.")
    parser.add_argument("--run", type=Path, help="directory of a finished run; that of `make demo` unless given")
    parser.add_argument("--job", help="job in the cluster of KUBECONFIG; a recorded one unless given")
    given = parser.parse_args()
    browser = found_browser()
    with tempfile.TemporaryDirectory() as folder:
        run = given.run or demo_run()
        page = (run / "report/index.html").resolve()
        report = screenshot(browser, page, REPORT_PX, Path(folder))
        saved(report, PICTURES / "report.webp", quality=65, method=6)
        terminal = Path(folder) / "terminal.html"
        terminal.write_text(status_page(given.job, Path(folder)), encoding="utf-8")
        status = without_rest(screenshot(browser, terminal, TERMINAL_PX, Path(folder)))
        saved(status.quantize(64), PICTURES / "status.png", optimize=True)


def found_browser() -> str:
    """The command of a Chromium."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(
            f"error: cannot take pictures: none of {', '.join(BROWSERS)} is installed\nhint: apt-get install chromium"
        )
    return browser


def demo_run() -> Path:
    """The run of `make demo`, trained first where it is not there."""
    run = ROOT / "demo/runs/demo"
    if not (run / "report/index.html").exists():
        subprocess.run(["make", "demo"], cwd=ROOT, check=True, stdout=sys.stderr)
    return run


def screenshot(browser: str, page: Path, window_px: tuple[int, int], folder: Path) -> Image.Image:
    """The top of a page in a window of that width and height."""
    width, height = window_px
    shot = folder / f"{page.stem}.png"
    command = [browser, "--headless=new", "--hide-scrollbars", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command += [f"--window-size={width},{height}", f"--force-device-scale-factor={PICTURE_PX / width}"]
    if os.geteuid() == 0:  # Chromium refuses its sandbox to root; the pages are ours
        command.append("--no-sandbox")
    subprocess.run(
        [*command, f"--screenshot={shot}", page.as_uri()], check=True, stderr=subprocess.DEVNULL, timeout=120
    )
    with Image.open(shot) as image:
        return image.convert("RGB")


def without_rest(image: Image.Image) -> Image.Image:
    """The picture, cut off a margin below its last line."""
    background = Image.new("RGB", image.size, image.getpixel((0, 0)))
    box = ImageChops.difference(image, background).getbbox() or (0, 0, *image.size)
    return image.crop((0, 0, image.width, box[3] + MARGIN_PX))


def saved(image: Image.Image, path: Path, **options: object) -> None:
    """Write a picture, and say how large it is."""
    content = io.BytesIO()
    image.save(content, path.suffix.removeprefix("."), **options)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.getvalue())
    sys.stdout.write(f"{path}  {image.width} x {image.height}  {len(content.getvalue()) / 1000:.0f} kB\n")


def status_page(job: str | None, folder: Path) -> str:
    """What `launcher status` prints, as a terminal shows it."""
    output = status_of(job, os.environ) if job else recorded_status(folder)
    return TERMINAL.format(command=html.escape(f"launcher status {job or JOB}"), output=html.escape(output.rstrip()))


def status_of(job: str, environment: Mapping[str, str]) -> str:
    """The true output of the command."""
    command = [sys.executable, "-m", "launcher", "status", job]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def recorded_status(folder: Path) -> str:
    """The same of a job as a real cluster once answered."""
    sys.path.insert(0, str(ROOT / "tests/launcher"))
    from apiserver import ApiServer  # noqa: PLC0415 - the tests' helpers are on no path

    server = ApiServer()
    try:
        for path, body in recorded_objects().items():
            server.state.put(path, body)
        return status_of(JOB, os.environ | {"KUBECONFIG": str(server.kubeconfig(folder / "kubeconfig"))})
    finally:
        server.stop()


def recorded_objects() -> dict[str, dict[str, Any]]:
    """Objects of the snapshot by their path in the API, as old now as they were then."""
    text = SNAPSHOT.read_text(encoding="utf-8")
    then = datetime.fromisoformat(yaml.safe_load(text)["now"].replace("Z", "+00:00"))
    later = datetime.now(timezone.utc) - then

    def moved(moment: re.Match[str]) -> str:
        time = datetime.fromisoformat(moment[1]).replace(tzinfo=timezone.utc)
        return f"{(time + later).strftime('%Y-%m-%dT%H:%M:%S')}{moment[2]}"

    text = re.sub(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)((?:\.\d+)?Z)", moved, text)
    case = yaml.safe_load(re.sub(r"\bgang\b", JOB, text))
    space = "namespaces/team-a"
    objects = {f"/apis/kubeflow.org/v1/{space}/pytorchjobs/{JOB}": case["job"]}
    for pod in [*case["node_pods"], *case["pods"]]:  # the job's own are in both, shorter in the first
        metadata = pod["metadata"]
        if metadata["name"].startswith(JOB):
            metadata.setdefault("labels", {})["training.kubeflow.org/job-name"] = JOB
        objects[f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"] = pod
    for number, event in enumerate(case["events"]):
        objects[f"/api/v1/{space}/events/event-{number}"] = {"metadata": {"name": f"event-{number}"}, **event}
    return objects | {f"/api/v1/nodes/{node['metadata']['name']}": node for node in case["nodes"]}


if __name__ == "__main__":
    main()
