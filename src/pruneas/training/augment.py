"""Random crop, flip and normalisation of a whole batch at once, on whatever device the batch is.

Batches come in as uint8 and stay so until the end, because bytes are cheap to move. Inside, a batch lies as
(n, h, w, c) in memory, which is torch's channels-last format and what convolutions read fastest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_and_flip(images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor | None, padding: int) -> Tensor:
    """Each image with `padding` black pixels around it, cut to its old size at (top, left), then mirrored if asked.

    Args:
        images: uint8 (n, c, h, w).
        top, left: int64 (n,), in [0, 2 * padding].
        mirrored: bool (n,), or None for none.

    Returns:
        uint8 (n, c, h, w), channels last in memory.
    """
    height, width = images.shape[-2:]
    images = images.permute(0, 2, 3, 1).contiguous()  # (n, h, w, c)
    if padding:
        padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        # Every crop of every image as a view, (n, tops, lefts, h, w, c); indexing copies the asked ones in long runs.
        crops = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        images = crops[torch.arange(len(images), device=images.device), top, left]
    if mirrored is not None:
        images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
    return images.permute(0, 3, 1, 2)


def cut_out(images: Tensor, row: Tensor, column: Tensor, side: int) -> Tensor:
    """Each image (n, c, h, w) with a square of zeros, the mean of normalised images, around (row, column) (n,).

    The part of the square that is outside of the image is lost [DeVries2017].
    """

    def covered(centre: Tensor, size: int) -> Tensor:
        distance = torch.arange(size, device=images.device) - centre[:, None]  # (n, size)
        return (distance >= -(side // 2)) & (distance < side - side // 2)

    height, width = images.shape[-2:]
    square = covered(row, height)[:, None, :, None] & covered(column, width)[:, None, None, :]
    return images.masked_fill(square, 0.0)


class Normaliser:
    """Turns uint8 batches into float32 ones with the given mean and standard deviation taken out, channels last.

    `mean` and `std` are per channel, of pixels between 0 and 1.
    """

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], *, width: int, device: torch.device | str
    ) -> None:
        # One factor a pixel of a row, not a channel: the inner loop then runs over w * c numbers instead of c.
        shift = torch.tensor(mean, dtype=torch.float64)
        scale = torch.tensor(std, dtype=torch.float64).clamp_min(1 / 255)
        self._factor = (1 / (255 * scale)).float().repeat(width).to(device)
        self._offset = (-shift / scale).float().repeat(width).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """float32 (n, c, h, w) from uint8 (n, c, h, w)."""
        rows = images.permute(0, 2, 3, 1).flatten(2)  # (n, h, w * c)
        normal = rows.float().mul_(self._factor).add_(self._offset)
        count, channels, height, width = images.shape
        return normal.view(count, height, width, channels).permute(0, 3, 1, 2)
