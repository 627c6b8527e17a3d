"""Images of which nothing is known, for a network to say it."""

from pathlib import Path

from stages.core.errors import UserError
from stages.data.sources.base import EXTENSIONS, Sample, walk_images


def find_images(path: str | Path) -> tuple[Path, list[Sample]]:
    """All images below a folder, sorted by path, or the one that `path` is.

    Returns:
        The folder that the samples' paths start from, and the samples, without labels.

    Raises:
        ValueError: there is no such folder or file, or it holds no images.
    """
    path = Path(path)
    if path.is_file():
        return path.parent, [Sample(path.name, {}, "test")]
    if not path.is_dir():
        raise UserError(f"{path}: is neither a folder nor an image; correct --images")
    samples = [Sample(name, {}, "test") for name in sorted(walk_images(path))]
    if not samples:
        raise UserError(f"{path}: holds no images ({', '.join(EXTENSIONS)}); correct --images")
    return path, samples
