import importlib.resources
import subprocess
import sys

import pruneas
from pruneas.catalogue import GENERATORS, LARGE_IMAGES, OPTIONS
from pruneas.generators import METHODS
from pruneas.networks import NETWORKS


def test_what_is_listed_is_what_can_be_imported():
    public = {name for name in vars(pruneas) if not name.startswith("_")}
    modules = {name for name in public if isinstance(getattr(pruneas, name), type(sys))}
    helpers = {"annotations", "Any", "Mapping", "Path", "PackageNotFoundError", "Sequence", "TYPE_CHECKING", "version"}
    assert public - modules - helpers == set(pruneas.__all__)


def test_searching_twice_in_one_process_finds_the_function_and_not_the_folder_of_that_name():
    code = "import pruneas, pruneas.run.stages, pruneas.search.trials; print(callable(pruneas.search))"
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"


def test_importing_it_loads_nothing_heavy():
    code = "import sys, pruneas; print([m for m in ('torch', 'optuna', 'numpy', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_its_types_are_marked_as_there():
    assert importlib.resources.files(pruneas).joinpath("py.typed").is_file()


def test_the_catalogue_names_the_generators_that_there_are():
    assert dict(GENERATORS) == {name: method.summary for name, method in METHODS.items()}
    assert {name: set(options) for name, options in OPTIONS.items()} == {
        name: set(method.options) for name, method in METHODS.items()
    }


def test_the_networks_of_large_images_end_in_a_thousand_classes():
    import inspect

    classes = {name: inspect.signature(factory).parameters["classes"].default for name, factory in NETWORKS.items()}
    assert LARGE_IMAGES == {name for name, default in classes.items() if default == 1000}


def test_errors_survive_the_way_between_processes():
    import pickle

    from pruneas.errors import SpaceError

    error = SpaceError(["a: b", "c: d"])
    again = pickle.loads(pickle.dumps(error))
    assert (again.complaints, str(again)) == (error.complaints, str(error))
