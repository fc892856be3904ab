"""What a text names, and what is said of one that names nothing."""

import pytest

from pruneas.architecture import Input, Reference
from pruneas.errors import ArchitectureError, NetworkError, SpaceError
from pruneas.subject import Subject
from tests.nets import INPUT, structure_of
from tests.tiny import space_file


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("torchvision:resnet50", (3, 224, 224)),
        ("torchvision:inception_v3", (3, 299, 299)),
        ("torchvision:vit_h_14", (3, 224, 224)),
        ("timm:resnet50", (3, 224, 224)),
        ("timm:inception_v3", (3, 299, 299)),
        ("pruneas:vgg16(width=0.25)", (3, 32, 32)),
        ("pruneas:vgg16(channels=1)", (1, 32, 32)),
        ("pruneas:preresnet50", (3, 224, 224)),
    ],
)
def test_networks_of_a_zoo_have_a_usual_input(text, shape):
    if text.startswith("timm:"):
        pytest.importorskip("timm")
    assert Subject.of(text) == Subject(network=Reference.parse(text), inputs=(Input(shape),))


def test_given_inputs_hold():
    given = [Input((3, 64, 64)), Input((128,), "int64")]
    assert Subject.of("torchvision:resnet50", given).inputs == tuple(given)
    assert Subject.of("digits", given).inputs == tuple(given)


def test_an_input_that_nobody_knows_is_asked_for():
    with pytest.raises(NetworkError, match=r"network a\.b:make: its input must be given.*--input 3x224x224.*inputs="):
        Subject.of("a.b:make")


def test_an_architecture_file_names_its_network_and_input(tmp_path):
    from pruneas.structure.build import describe

    structure = structure_of("Chain")
    path = tmp_path / "found.json"
    path.write_text(describe(structure, structure.widths).to_json(), encoding="utf-8")
    with pytest.raises(ArchitectureError, match=r"building it would run code of the package 'tests'.*--trust tests"):
        Subject.of(str(path))
    assert Subject.of(str(path), trust="tests") == Subject(network=Reference.parse("tests.nets:Chain"), inputs=INPUT)


def test_a_space_names_its_network_input_and_rules(tmp_path):
    found = Subject.of("cifar10-resnet56")
    assert found.network == Reference.parse("pruneas:resnet56(classes=10)")
    assert found.inputs == (Input((3, 32, 32)),)
    assert found.widths["minimum"] > 0
    path = space_file(tmp_path)
    assert Subject.of(str(path)).network.name.startswith("pruneas:")


@pytest.mark.parametrize("text", ["no/such.json", "no/such.toml"])
def test_a_missing_file_is_told(text):
    with pytest.raises(NetworkError, match=f"^{text}: there is no such file$"):
        Subject.of(text)


def test_a_wrong_space_is_told_as_elsewhere(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text("schema = 1\n", encoding="utf-8")
    with pytest.raises(SpaceError, match="network"):
        Subject.of(str(path))


def test_a_plain_word_gets_all_that_it_could_have_been():
    with pytest.raises(NetworkError, match=r"^'resnet50' names nothing: give a network such as 'torchvision:resnet50'"):
        Subject.of("resnet50")
    with pytest.raises(NetworkError, match=r"or a search space \(cifar10-resnet56, .*digits.*\.toml file\)$"):
        Subject.of("digitz")
