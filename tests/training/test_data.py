import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from pruneas.errors import DataError
from pruneas.training import DataSource, Images


def draw(path, color=(10, 20, 30), size=(11, 7), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes: 7 and 5 training images, 2 each for testing."""
    root = tmp_path / "pictures"
    for name, count, base in (("cat", 7, 0), ("dog", 5, 100)):
        for i in range(count):
            draw(root / "train" / name / f"{i}.png", (base + i, 20, 30))
        for i in range(2):
            draw(root / "test" / name / f"{i}.png", (base + 50 + i, 20, 30))
    return root


def source(folder, **changes):
    return DataSource(**{"source": f"folder:{folder}", "shape": (3, 7, 11), "validation": 4} | changes)


def reds(images: Images) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


def test_digits_hold_a_quarter_out_for_testing_whatever_the_seed():
    first, second = (DataSource(source="digits", shape=(1, 8, 8), seed=seed).load() for seed in (0, 1))
    assert (len(first.train), len(first.validation), len(first.test)) == (1146, 202, 449)
    assert torch.equal(first.test.images, second.test.images)
    assert not torch.equal(first.validation.images, second.validation.images)
    assert first.fingerprint != second.fingerprint
    assert first.train.images.max() == 255
    assert first.classes == tuple("0123456789")


def test_digits_come_in_other_sizes_and_in_colour():
    data = DataSource(source="digits", shape=(3, 13, 11), training=100).load()
    assert data.train.images.shape == (100, 3, 13, 11)
    assert len(data.mean) == len(data.std) == 3


def test_the_same_source_loads_the_same_data():
    sources = [DataSource(source="digits", shape=(1, 8, 8), training=101, validation=0.2, seed=3) for _ in range(2)]
    first, second = sources[0].load(), pickle.loads(pickle.dumps(sources[1])).load()
    assert torch.equal(first.train.images, second.train.images)
    assert first.fingerprint == second.fingerprint


def test_a_share_is_of_the_images_that_are_used():
    data = DataSource(source="digits", shape=(1, 8, 8), training=120, validation=0.25).load()
    assert (len(data.train), len(data.validation)) == (120, 40)


def test_parts_are_stratified_and_share_no_image(folder):
    data = source(folder).load()
    assert data.classes == ("cat", "dog")
    assert data.validation.labels.tolist() == [0, 0, 1, 1]  # 4 of 12 in proportion 7 : 5 is 2.33 : 1.67
    assert data.train.labels.bincount().tolist() == [5, 3]
    assert sorted(reds(data.train) + reds(data.validation)) == [0, 1, 2, 3, 4, 5, 6, 100, 101, 102, 103, 104]
    assert reds(data.test) == [50, 51, 150, 151]


def test_a_rare_class_is_in_every_part(folder):
    for i in range(2, 5):
        (folder / "train" / "dog" / f"{i}.png").unlink()
    data = source(folder, validation=2, training=2).load()
    assert data.validation.labels.tolist() == data.train.labels.tolist() == [0, 1]


def test_moments_are_those_of_the_training_part(folder):
    data = source(folder).load()
    pixels = data.train.images.double() / 255
    torch.testing.assert_close(torch.tensor(data.mean, dtype=torch.float64), pixels.mean((0, 2, 3)))
    torch.testing.assert_close(
        torch.tensor(data.std, dtype=torch.float64), pixels.permute(1, 0, 2, 3).flatten(1).std(1, correction=0)
    )


def test_val_is_validation_where_there_is_test_too(folder):
    for name in ("cat", "dog"):
        for i in range(3):
            draw(folder / "val" / name / f"{i}.jpg")
    data = source(folder, validation=None).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 6, 4)
    assert len(source(folder, validation=4).load().validation) == 4
    with pytest.raises(DataError, match="7 validation images were asked for, but val/ has 6"):
        source(folder, validation=7).load()


def test_a_lone_val_is_the_test_part(folder):
    (folder / "test").rename(folder / "val")
    data = source(folder).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 4, 4)


def test_images_are_resized_on_the_shorter_side_and_cut_to_the_centre(folder):
    left, middle = np.zeros((20, 60, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)
    left[:, 20:40] = middle  # a white square in the middle of a black band
    Image.fromarray(left).save(folder / "test" / "cat" / "0.png")
    data = source(folder, shape=(1, 5, 5)).load()
    assert data.test.images.shape == (4, 1, 5, 5)
    assert data.test.images[0, 0, :, 1:4].min() == 255


def test_images_of_any_mode_become_colour_or_grey(folder):
    draw(folder / "test" / "cat" / "0.png", (200, 100), mode="LA")
    draw(folder / "test" / "cat" / "1.png", 90, mode="L")
    assert source(folder).load().test.images[:2, :, 0, 0].tolist() == [[200] * 3, [90] * 3]
    assert source(folder, shape=(1, 7, 11)).load().test.images[1, 0, 0, 0] == 90


def test_decoding_happens_once_and_a_changed_file_is_noticed(folder):
    decoded = []
    first = source(folder).load(lambda done, total: decoded.append((done, total)))
    assert decoded == [(12, 16), (16, 16)]
    again = source(folder).load(lambda done, total: decoded.append((done, total)))
    assert len(decoded) == 2
    assert again.fingerprint == first.fingerprint
    draw(folder / "test" / "cat" / "0.png", (77, 20, 30))
    changed = source(folder).load()
    assert reds(changed.test)[0] == 77
    assert changed.fingerprint != first.fingerprint


@pytest.mark.parametrize("change", ["added", "removed", "renamed"])
def test_a_file_that_comes_or_goes_is_noticed(folder, change):
    first = source(folder).load()
    file = folder / "test" / "dog" / "0.png"
    if change == "added":
        draw(file.with_name("2.png"), (9, 9, 9))
    elif change == "removed":
        file.unlink()
    else:
        file.rename(file.with_name("9.png"))
    assert source(folder).load().fingerprint != first.fingerprint


def test_a_copy_elsewhere_has_the_same_fingerprint(folder, tmp_path):
    first = source(folder).load()
    folder.rename(tmp_path / "moved")
    assert source(tmp_path / "moved").load().fingerprint == first.fingerprint


def test_a_damaged_cache_is_rebuilt(folder, cache):
    first = source(folder).load()
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    assert source(folder).load().fingerprint == first.fingerprint


def test_a_selection_takes_and_shows_the_same_images(folder):
    images = source(folder).load().train
    assert images.rows is not None
    index = torch.tensor([3, 0, 5])
    assert torch.equal(images.take(index), images.images[index])
    assert torch.equal(images.first(3).images, images.images[:3])
    assert images.first(3).labels.tolist() == images.labels[:3].tolist()


def remove(path):
    for file in sorted(path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    path.rmdir()


def corrupt(path):
    path.write_bytes(path.read_bytes()[:45])


@pytest.mark.parametrize(
    ("break_", "text"),
    [
        (remove, r"pictures: must be a folder with train/ and test/ or val/, but there is no such folder"),
        (lambda root: remove(root / "train"), r"pictures: must have a folder train/ .*, found test/"),
        (lambda root: remove(root / "test"), r"pictures: must have a folder test/ or val/ beside train/, found train/"),
        (
            lambda root: [remove(root / "train" / name) for name in ("cat", "dog")],
            "train: must have one folder a class, found nothing",
        ),
        (lambda root: remove(root / "train" / "dog"), "train: must have at least two classes, found only cat"),
        (
            lambda root: [(root / "test" / "dog" / f"{i}.png").unlink() for i in range(2)],
            r"test/dog: a class folder must hold images \(.jpg .*\), found nothing. Add images or remove the folder",
        ),
        (
            lambda root: (root / "test" / "dog").rename(root / "test" / "wolf"),
            "test: must have the classes of .*train; missing: dog; not in train/: wolf. Make the class folders agree",
        ),
        (
            lambda root: corrupt(root / "train" / "cat" / "3.png"),
            r"cat/3.png: must be an image that can be decoded",
        ),
        (
            lambda root: Image.new("I;16", (11, 7)).save(root / "train" / "cat" / "3.png"),
            r"train/cat/3.png: must have 8 bits a channel, found pixel mode I;16",
        ),
        (
            lambda root: [(root / "train" / "dog" / f"{i}.png").unlink() for i in range(1, 5)],
            "class dog must have at least 2 images to divide, found 1",
        ),
    ],
    ids=["folder", "train", "test", "classes", "one class", "empty", "disagree", "corrupt", "16 bit", "rare"],
)
def test_a_folder_that_cannot_be_used_says_why(folder, break_, text):
    break_(folder)
    with pytest.raises(DataError, match=text):
        source(folder).load()


def test_more_images_than_there_are_cannot_be_had(folder):
    with pytest.raises(
        DataError, match="9 training and 4 validation images were asked for, but there are 12 to train and validate on"
    ):
        source(folder, training=9).load()


def test_validation_cannot_take_every_image(folder):
    with pytest.raises(DataError, match=r"11 of 12 images would leave less than 1 of some class. Ask for fewer"):
        source(folder, validation=11).load()


def test_fewer_images_than_classes_cannot_be_stratified(folder):
    with pytest.raises(DataError, match="1 images cannot show all 2 classes"):
        source(folder, validation=1).load()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_missing_cifar_says_how_to_get_it(name, tmp_path):
    with pytest.raises(DataError, match=r"no such folder. Download it with --download, or unpack cifar-.*tar.gz into"):
        DataSource(source=f"{name}:{tmp_path}", shape=(3, 32, 32)).load()
    with pytest.raises(DataError, match=rf"cache/pruneas/{name}"):
        DataSource(source=name, shape=(3, 32, 32)).load()


def test_an_incomplete_cifar_says_what_to_do(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="must hold the whole data set, but: Dataset not found or corrupted"):
        DataSource(source=f"cifar10:{tmp_path}", shape=(3, 32, 32)).load()


def test_an_unknown_source_is_an_error():
    with pytest.raises(DataError, match=r"must be digits, cifar10\[:ROOT\].* or folder:PATH, got 'mnist'"):
        DataSource(source="mnist", shape=(1, 8, 8)).load()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": (2, 8, 8)}, "1 or 3 channels"),
        ({"training": 0}, "training must be at least 1"),
        ({"validation": 0}, "validation must be at least 1"),
        ({"validation": 1.0}, r"validation must be a share in \(0, 1\)"),
    ],
)
def test_an_impossible_request_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        DataSource(**{"source": "digits", "shape": (1, 8, 8)} | change)
