"""Bundles: a compiled program as a folder.

    manifest.json   format, versions, timing, inputs and outputs, sha256 of every file and of the model
    report.md       what the compiler did and what it cost, for people
    report.json     the same for programs
    network.py      builds the Lava processes; ``python network.py`` replays example.npz
    arrays.npz      its weights and biases       example.npz   a few samples and their results
    hsnn_lava/      processes that Lava lacks
    host/           the stages of the host, ONNX models, and stages.json, which says how they hang together
    run.py          runs all of it on data: ``python run.py data.npz``; needs no PyTorch
    graphs/         program.nir (everything), float.nir (before quantisation), chip.nir (plain NIR, but
                    for windows, which NIR has no op for), trained.npz where passes trained: the parameters
                    that changed, ``pass/node:name``, which compiling again takes as they are

A bundle appears whole or not at all: it is written beside its place and then renamed. Same
model, same data, same options: same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nir
import numpy as np

from hsnn_compiler import __version__
from hsnn_compiler.diagnostics import Finding, HsnnError, Source, refuse
from hsnn_compiler.families import LOIHI, PACKAGES, read_mapping
from hsnn_compiler.ir import storage
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import is_nir
from hsnn_compiler.ir.stages import senders
from hsnn_compiler.ir.types import Coding, TensorType
from hsnn_compiler.report.table import Table

if TYPE_CHECKING:
    from hsnn_compiler.program import Program, StageRecord

FORMAT = 1
MANIFEST = "manifest.json"


def write_bundle(program: Program, directory: Path) -> Path:
    """Write a bundle, replacing an earlier bundle of the same name. E0203 if something else is there."""
    directory = directory.resolve()
    check_place(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        aside.chmod(0o777 & ~_umask())
        _write_files(program, aside)
        _exchange(aside, directory)
    except OSError as error:
        raise _unwritable(directory, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return directory


def read_bundle(directory: str | Path) -> Program:
    """Read a bundle. E0340 if it is none, E0341 if a file is not the one that was written."""
    from hsnn_compiler.choice import Choice
    from hsnn_compiler.program import Program

    folder = Path(directory)
    manifest = _read_manifest(folder)
    changed = [name for name, digest in manifest["files"].items() if _digest(folder / name) != digest]
    if changed:
        raise refuse(
            "E0341",
            f"changed or missing since the bundle was written: {', '.join(sorted(changed))}",
            suggestion="compile again",
        )
    example = np.load(folder / "example.npz")
    return Program(
        graph=storage.read(folder / "graphs" / "program.nir"),
        floating=storage.read(folder / "graphs" / "float.nir"),
        target=manifest["target"],
        source=manifest["source"],
        options=manifest["options"],
        stages=tuple(_stage(plain) for plain in manifest["passes"]),
        findings=tuple(Finding(**{**f, "source": Source(**f["source"])}) for f in manifest["findings"]),
        example=example["x"],
        choice=Choice.from_plain(manifest["choice"]) if manifest.get("choice") else None,
        trained=_trained(folder / "graphs" / "trained.npz"),
        mapping=read_mapping(folder, manifest["target"]),
        directory=folder.resolve(),
    )


def _trained(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """What passes trained; nothing where none did."""
    found: dict[str, dict[str, np.ndarray]] = {}
    if path.is_file():
        for name, array in np.load(path).items():
            trainer, _, key = name.partition("/")
            found.setdefault(trainer, {})[key] = array
    return found


def _stage(plain: dict[str, Any]) -> StageRecord:
    """What the manifest keeps of one pass."""
    from hsnn_compiler.program import StageRecord

    tables = tuple(Table.from_plain(table) for table in plain.get("tables", ()))
    return StageRecord(**{**plain, "notes": tuple(plain["notes"]), "tables": tables})


def is_bundle(path: str | Path) -> bool:
    """Whether a path looks like a bundle."""
    return (Path(path) / MANIFEST).is_file()


def chip_segment(graph: Graph) -> Graph:
    """The chip's part alone: an Input for each population the host feeds, and for each source of spikes on the host.

    There is an Output for each population the host reads. All of it is plain NIR, but for what NIR has no op for.
    """
    chip = Graph(f"{graph.name}.chip", graph.timesteps)
    for node in graph:
        if node.on_chip and node.kind != "Encode":
            chip.add(node)
    sent = {node.name: chip.unique(f"input.{node.name}") for node in senders(graph)}
    for source, name in sent.items():
        kind = graph[source].type or TensorType(graph[source].shape, Coding.SPIKES)
        chip.add(Node(name, nir.Input(np.array(kind.shape)), kind))
    for encode in graph.of_kind("Encode"):
        for edge in graph.out_edges(encode.name):
            if encode.name not in sent and edge.dst in chip:
                shape = graph[edge.dst].shape
                node = Node(chip.unique(f"input.{edge.dst}"), nir.Input(np.array(shape)))
                chip.add(node.with_(type=TensorType(shape, Coding.CURRENT)))
                chip.connect(Edge(node.name, edge.dst))
    for edge in graph.edges:
        if edge.dst in chip and (edge.src in chip or edge.src in sent):
            chip.connect(edge._replace(src=sent.get(edge.src, edge.src)))
        elif edge.src in chip:
            name = chip.unique(f"output.{edge.src}")
            chip.add(Node(name, nir.Output(np.array(graph[edge.src].shape))), edge.src)
    return infer_types(chip)


# -- writing ------------------------------------------------------------------------------------


def _write_files(program: Program, folder: Path) -> None:
    from hsnn_compiler import families
    from hsnn_compiler.report.markdown import to_markdown
    from hsnn_compiler.report.sections import sections

    graphs = folder / "graphs"
    graphs.mkdir()
    storage.write(program.graph, graphs / "program.nir")
    storage.write(program.floating, graphs / "float.nir")
    if program.trained:
        flat = {f"{name}/{key}": array for name, arrays in program.trained.items() for key, array in arrays.items()}
        np.savez(graphs / "trained.npz", allow_pickle=False, **flat)
    chip = chip_segment(program.graph)
    storage.write(chip, graphs / "chip.nir", plain=all(is_nir(node.op) for node in chip))
    families.emit(program.graph, program.target, folder, __version__, program.example)
    if program.mapping is not None:
        program.mapping.save(folder)
    tables = sections(program)
    (folder / "report.md").write_text(to_markdown(program, tables), encoding="utf-8")
    _write_json(folder / "report.json", {table.title: table.to_dicts() for table in tables})
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    _write_json(folder / MANIFEST, _manifest(program, {name: _digest(folder / name) for name in names}))


def _manifest(program: Program, files: dict[str, str | None]) -> dict[str, Any]:
    graph = program.graph
    ends = {
        kind: {node.name: list(node.shape) for node in graph.of_kind(kind.capitalize())} for kind in ("input", "output")
    }
    schedules = {node.name: node.schedule.depth for node in graph if node.schedule}
    return {
        "format": FORMAT,
        "name": graph.name,
        "target": program.target,
        "versions": {"hsnn-compiler": __version__, **_versions("nir", "numpy", "torch", *PACKAGES[program.family])},
        "timesteps": graph.timesteps,
        "latency": max(schedules.values(), default=0),
        "schedule": schedules,
        "chips": _chips(program),
        "inputs": ends["input"],
        "outputs": ends["output"],
        "source": program.source,
        "options": program.options,
        "choice": None if program.choice is None else program.choice.plain(),
        "passes": [asdict(stage) for stage in program.stages],
        "findings": [finding.to_dict() for finding in program.findings],
        "files": files,
    }


def _chips(program: Program) -> list[list[dict[str, Any]]] | None:
    """What is on each chip of the target; None where a pipeline without `place` left more than it holds.

    None for SpiNNaker, too: what goes where is its own tools' choice.
    """
    if program.family != LOIHI:
        return None
    from hsnn_compiler.passes.place import fit
    from hsnn_compiler.passes.usage import usages
    from hsnn_compiler.targets import load_target

    target = load_target(program.target)
    layout, _ = fit(program.graph, usages(program.graph, target), target)
    return None if layout is None else [[asdict(part) for part in parts] for parts in layout.chips]


def _versions(*packages: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def check_place(directory: Path) -> None:
    """Refuse (E0203) a place where something other than a bundle would be lost."""
    if not directory.exists():
        return
    foreign = _foreign_files(directory)
    if foreign:
        raise refuse(
            "E0203",
            f"{directory.name} holds what no bundle holds ({', '.join(foreign[:3])}): nothing was written",
            suggestion="choose another folder with -o DIR",
        )


def _foreign_files(directory: Path) -> list[str]:
    """Files in the way that an earlier bundle did not bring."""
    if not directory.is_dir():
        return [directory.name]
    own: set[str] = set()
    if is_bundle(directory):
        with contextlib.suppress(HsnnError):
            own = {MANIFEST, *_read_manifest(directory)["files"]}
    files = [path.relative_to(directory) for path in directory.rglob("*") if not path.is_dir()]
    return sorted(str(path) for path in files if str(path) not in own and "__pycache__" not in path.parts)


def _unwritable(directory: Path, error: OSError) -> HsnnError:
    return refuse(
        "E0205", f"the bundle could not be written to {directory}: {error.strerror}", suggestion="choose another -o DIR"
    )


def _exchange(aside: Path, directory: Path) -> None:
    """Put the new folder in its place; the old one stays until the new one is there."""
    if not directory.exists():
        aside.replace(directory)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old.", dir=directory.parent))
    directory.replace(old)
    try:
        aside.replace(directory)
    except OSError:
        old.replace(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1, sort_keys=False) + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# -- reading ------------------------------------------------------------------------------------


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        known = manifest["format"] <= FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"{folder} is not a bundle ({MANIFEST}: {reason})"
        raise refuse("E0340", message, supported="a folder that hsnn-compile wrote") from None
    if not known:
        raise refuse(
            "E0340",
            f"{folder} has format {manifest['format']}, this compiler reads up to {FORMAT}",
            suggestion="upgrade hsnn-compiler",
        )
    return manifest


def _digest(path: Path) -> str | None:
    """sha256 of a file, None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
