"""What `pruneas.generate` and `pruneas generate` call: one method's architectures, from one trained base network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pruneas import forking, interrupts
from pruneas.architecture import Architecture, Budget
from pruneas.config import Space
from pruneas.errors import RunError
from pruneas.files import copy_file
from pruneas.progress import Observer
from pruneas.run.folder import digest, held, prepare, settled


def generate(
    space: Space,
    method: str,
    *,
    budgets: Sequence[str] = (),
    shares: Sequence[float] = (),
    sources: Sequence[Architecture] = (),
    masks: Mapping[str, Path] | None = None,
    out: Path | None = None,
    run: Path | None = None,
    download: bool = False,
    command: str,
    observer: Observer,
) -> dict[str, Path]:
    """The files of the architectures that a method gives, by budget ('0.5') or share ('share=0.6').

    The base network is trained by the space's recipe (or has the space's weights) once, in the folder `run`, by default
    one named after the settings, in runs/: other methods and budgets take it up from there, and so does a command that
    was interrupted. `out` names the file; with several targets each is named after its own, before the ending.
    Masks that it gives are written beside it, as `net.masked.json` and `net.masked.mask.safetensors`. `masks` are the
    files of those of `sources` that have some, by `Architecture.mask`.
    Raises an InputError where the method cannot work on this network.
    """
    named = {str(budget): budget for budget in map(Budget.parse, budgets)}
    folder = run if run is not None else _default_folder(space, method, sources)
    kept = settled(space)
    observer.stage("start", "loading torch", 0)
    forking.start(space.compute.threads)

    with interrupts.held_back():
        from pruneas.cost.limits import Limits
        from pruneas.generators import find_methods
        from pruneas.run.generation import Generation
        from pruneas.run.ledger import Ledger
        from pruneas.run.setting import Setting, check_givens
        from pruneas.search.propose import Target
        from pruneas.structure.masks import mask_path

    with held(folder):
        found = find_methods([method], {method: space.generators.options.get(method, {})})
        setting = replace(
            Setting.of(kept, folder, download, observer, budgets=named.values()), methods=(found[-1],), space=space
        )
        targets = {name: setting.target(budget) for name, budget in named.items()}
        targets |= {
            f"share={share:g}": Target(limits=Limits({"flops": setting.model.base.flops}), share=share)
            for share in shares
        }
        prepare(folder, kept, fresh=False)
        generation = Generation(setting, targets, observer, needed=[method], sources=sources, masks=masks)
        facts = {"command": command, **setting.facts()}
        check_givens(folder, facts)
        ledger = Ledger(folder / "run.json", facts, {"generators": generation.images_left()}, observer)
        with setting.pool() as pool:
            generation.run(pool, ledger)
        ledger.save()
        for note in generation.notes():
            observer.note(note)
        paths = {name: generation.architecture(method, name) for name in targets}
        if out is None:
            return paths
        copies = {name: out if len(paths) == 1 else _named(out, name) for name in paths}
        for name, copy in copies.items():
            _copied(paths[name], copy)
            if (masked := generation.masked(method, name)).exists():
                _copied(mask_path(masked), mask_path(copy.with_suffix(".masked.json")))
                _copied(masked, copy.with_suffix(".masked.json"))
        return copies


def _default_folder(space: Space, method: str, sources: Sequence[Architecture]) -> Path:
    """Methods share a folder, and so a base network; one with options or sources has one of its own."""
    own = [space.generators.options.get(method, {}), [source.to_json() for source in sources]]
    more = {"method": method, "own": json.dumps(own, sort_keys=True)} if any(own) else {}
    return Path("runs") / f"{space.name}-generate-{digest(settled(space), **more)}"


def _named(out: Path, target: str) -> Path:
    return out.with_name(f"{out.stem}-{target.replace('=', '-')}{out.suffix}")


def _copied(path: Path, out: Path) -> None:
    try:
        copy_file(path, out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror}; give another file with --out") from error
