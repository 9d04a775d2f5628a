"""Execute the book's notebooks in place and store what they show.

    python scripts/execute.py                            pages whose stored outputs are not valid
    python scripts/execute.py semi/consistency ...       these pages, valid or not
    python scripts/execute.py --budget gpu ...           smoke, laptop (default) or gpu
    python scripts/execute.py --time-only --budget gpu   measure the seconds, keep the outputs
    python scripts/execute.py --refresh [PAGE ...]       renew the tables after new results

Stored outputs are valid while the code cells are those that made them. Beside the outputs a
notebook carries, under ``lsseg_edu`` in its metadata, the budget, device, seconds, peak memory
and library version of that run.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from notebooks import ROOT, code_hash, editions, generate, is_code, sources, write
from tqdm import tqdm

LIMIT_KB = 400
WIDGET = "application/vnd.jupyter.widget-view+json"
FACTS = """{
    "device": __import__("torch").cuda.get_device_name()
    if __import__("torch").cuda.is_available() else f"CPU, {__import__('os').cpu_count()} cores",
    "version": __import__("lsseg_edu").__version__,
}"""


def valid(notebook) -> bool:
    """Whether the stored outputs are those of the code that stands there now."""
    return notebook.metadata.get("lsseg_edu", {}).get("code") == code_hash(notebook)


class PeakMemory(threading.Thread):
    """Highest resident memory of a process and its children, in MB, looked at 5 times a second."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.process, self.peak, self.over = psutil.Process(pid), 0, threading.Event()

    def run(self):
        while not self.over.wait(0.2):
            try:
                family = [self.process, *self.process.children(recursive=True)]
                used = sum(member.memory_info().rss for member in family)
            except psutil.NoSuchProcess:
                continue
            self.peak = max(self.peak, used // 2**20)


def run(notebook, folder: Path, budget: str, title: str) -> dict:
    """Execute all cells with a progress bar; returns the facts of the run."""
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
    )
    environment = {**os.environ, "LSSEG_EDU_BUDGET": budget, "TQDM_DISABLE": "1"}
    with client.setup_kernel(env=environment):
        memory = PeakMemory(client.km.provisioner.pid)
        memory.start()
        start = time.perf_counter()
        for i, cell in enumerate(tqdm(notebook.cells, desc=title, unit="cell")):
            client.execute_cell(cell, i)
        seconds = time.perf_counter() - start
        memory.over.set()
        notebook.cells.append(nbformat.v4.new_code_cell(FACTS))  # a question to the kernel
        answer = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
        notebook.cells.pop()
    facts = ast.literal_eval(answer.outputs[0].data["text/plain"])
    return {"budget": budget, "seconds": round(seconds), "peak_mb": memory.peak, **facts}


def tidy(notebook) -> None:
    """Keep what a reader sees; drop what changes from run to run or needs a kernel."""
    for cell in filter(is_code, notebook.cells):
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            if WIDGET in output.get("data", {}) and "text/html" in output["data"]:
                del output["data"][WIDGET]
    notebook.metadata.pop("widgets", None)


def complaints(notebook, target: Path) -> list[str]:
    """What must not be stored: too many bytes, or words on stderr."""
    found = []
    size = target.stat().st_size // 1000
    if size > LIMIT_KB:
        found.append(f"{target.name} is {size} kB; at most {LIMIT_KB}: fewer or smaller figures.")
    for cell in filter(is_code, notebook.cells):
        for output in cell.outputs:
            if output.get("name") == "stderr":
                words = output["text"].strip().splitlines()[-1]
                found.append(f"{target.name} writes to stderr: {words}")
    return found


def execute(source: Path, budget: str, time_only: bool) -> list[str]:
    """Execute one page and store it; returns what is wrong with it."""
    target, name = source.with_suffix(".ipynb"), source.relative_to(ROOT).with_suffix("")
    notebook = generate(source)
    fresh = copy.deepcopy(notebook) if time_only else notebook
    try:
        facts = run(fresh, source.parent, budget, name.as_posix())
    except CellExecutionError as error:
        return [f"{name} stopped: {error}"]
    stored = notebook.metadata.setdefault("lsseg_edu", {})
    measured = {key: facts[key] for key in ("seconds", "device", "peak_mb")}
    measured_all = {**stored.get("measured", {}), budget: measured}
    if not time_only:
        tidy(notebook)
        stored.update(facts, code=code_hash(notebook))
    if budget != "smoke":
        stored["measured"] = measured_all
    write(notebook, target)
    for path, edition in editions(source).items():  # the badge now knows the new time
        write(edition, path)
    print(f"{name}: {facts['seconds']} s, {facts['peak_mb']} MB, {facts['device']}")
    return complaints(notebook, target)


def refresh(source: Path) -> list[str]:
    """Renew the outputs that are the same at every budget, by a run at the smallest one.

    Those are the cells without the tag: among them all tables of ``results.csv``, which grows.
    """
    target, name = source.with_suffix(".ipynb"), source.relative_to(ROOT).with_suffix("")
    notebook = generate(source)
    if not valid(notebook):
        return [f"{name} has no valid outputs to refresh: run `make execute` on it."]
    fresh = copy.deepcopy(notebook)
    try:
        run(fresh, source.parent, "smoke", name.as_posix())
    except CellExecutionError as error:
        return [f"{name} stopped: {error}"]
    tidy(fresh)
    for cell, new in zip(notebook.cells, fresh.cells, strict=True):
        if is_code(cell) and "nbval-ignore-output" not in cell.metadata.get("tags", []):
            cell.outputs = new.outputs
    write(notebook, target)
    return complaints(notebook, target)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE")
    parser.add_argument("--budget", default="laptop", choices=["smoke", "laptop", "gpu"])
    parser.add_argument("--time-only", action="store_true", help="keep the stored outputs")
    parser.add_argument("--refresh", action="store_true", help="renew the tables of results only")
    args = parser.parse_args(argv)
    pages = sources(args.pages)
    if args.refresh:
        return report([sentence for source in pages for sentence in refresh(source)])
    due = [s for s in pages if args.pages or args.time_only or not valid(generate(s))]
    print(f"{len(pages) - len(due)} of {len(pages)} pages have valid outputs; {len(due)} to run.")
    wrong = []
    for source in due:
        wrong += execute(source, args.budget, args.time_only)
    return report(wrong)


def report(wrong: list[str]) -> int:
    """Print what is wrong; the exit status that says so."""
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
