import pytest
import torch

from pruneas.training.augment import Normaliser, crop_and_flip


@pytest.mark.parametrize("padding", [0, 2])
def test_crop_and_flip_do_what_a_loop_over_images_does(padding):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (13, 3, 5, 7), generator=generator, dtype=torch.uint8)
    top, left = torch.randint(2 * padding + 1, (2, 13), generator=generator)
    mirrored = torch.rand(13, generator=generator) < 0.5
    expected = torch.zeros_like(images)
    for n in range(13):
        for y in range(5):
            for x in range(7):
                from_y, from_x = y + int(top[n]) - padding, x + int(left[n]) - padding
                if 0 <= from_y < 5 and 0 <= from_x < 7:
                    expected[n, :, y, 6 - x if mirrored[n] else x] = images[n, :, from_y, from_x]
    found = crop_and_flip(images, top, left, mirrored, padding)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_no_crop_and_no_flip_leave_images_as_they_are():
    images = torch.randint(0, 256, (3, 1, 5, 7), dtype=torch.uint8)
    zeros = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(crop_and_flip(images, zeros, zeros, None, 0), images)
    assert torch.equal(crop_and_flip(images, zeros + 2, zeros + 2, None, 2), images)


def test_normalising_takes_the_mean_and_the_spread_out_of_each_channel():
    images = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.7), (0.2, 0.3, 0.4)
    expected = (images.double() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    found = Normaliser(mean, std, width=7, device="cpu")(images)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_a_channel_without_spread_does_not_divide_by_zero():
    assert (
        Normaliser((0.0,), (0.0,), width=2, device="cpu")(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)).isfinite().all()
    )
