"""Decoding many images on several processes, in order and in bounded memory."""

import multiprocessing
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.core.errors import UserError
from stages.core.suggestions import escape_name
from stages.data.sources.base import Sample
from stages.data.sources.images import convert_image

SAMPLES_PER_CHUNK = 64
CHUNKS_AHEAD_PER_WORKER = 2


@dataclass(frozen=True)
class Decoder:
    """Opens, checks and converts samples.

    Attributes:
        load: of the manifest.
        height: of the result, in pixels.
        width: of the result, in pixels.
        channels: 1 or 3.
        fit: see `convert_image`.
        max_pixels: larger images are refused before they are decoded.
    """

    load: Callable[[Sample, int], Image.Image]
    height: int
    width: int
    channels: int
    fit: str
    max_pixels: int

    def decode(self, samples: Sequence[Sample]) -> list[np.ndarray | str]:
        """For each sample the image, uint8 (height, width, channels), or what is wrong with it."""
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = self.max_pixels
        try:
            with warnings.catch_warnings():
                # Of Pillow's other warnings, such as odd metadata, none makes an image unusable.
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return [self._decode_one(sample) for sample in samples]
        finally:
            Image.MAX_IMAGE_PIXELS = limit

    def _decode_one(self, sample: Sample) -> np.ndarray | str:
        try:
            with self.load(sample, max(self.height, self.width)) as image:
                image.load()
                try:
                    return convert_image(
                        image, channels=self.channels, height=self.height, width=self.width, fit=self.fit
                    )
                except ValueError as error:
                    return str(error)
        except FileNotFoundError:
            return "does not exist"
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            return f"has more than {self.max_pixels} pixels (images.max_pixels or --max-pixels)"
        except UnidentifiedImageError:
            return "is not an image"
        except Exception as error:  # on damaged files Pillow's readers raise almost anything
            if isinstance(error, OSError) and error.strerror:
                return f"cannot be opened ({error.strerror})"
            return f"is damaged ({(str(error) or type(error).__name__).splitlines()[0]})"


def decode_in_order(decoder: Decoder, samples: Sequence[Sample], n_workers: int) -> Iterator[np.ndarray | str]:
    """What `decoder.decode` gives for each sample, in order, whatever the number of processes.

    Raises:
        ValueError: a worker process was killed.
    """
    chunks = [samples[start : start + SAMPLES_PER_CHUNK] for start in range(0, len(samples), SAMPLES_PER_CHUNK)]
    n_workers = min(n_workers, len(chunks))
    if n_workers <= 1:
        for chunk in chunks:
            yield from decoder.decode(chunk)
        return
    # Not joblib's ordered generator: it decodes on, into memory, however slowly its results are taken.
    # Spawned, because a fork of a process with threads can hang.
    context = multiprocessing.get_context("spawn")
    # An interrupt is for the process that reads; it takes the others down.
    ignore_interrupts = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with ProcessPoolExecutor(n_workers, context, **ignore_interrupts) as pool:
        pending = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(decoder.decode, chunk))
                if len(pending) > CHUNKS_AHEAD_PER_WORKER * n_workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool:
            raise UserError("a decoding process was killed, perhaps for its memory; use fewer workers") from None
        finally:
            pool.shutdown(cancel_futures=True)


def decode_batches(
    decoder: Decoder, samples: Sequence[Sample], n_workers: int, batch_size: int
) -> Iterator[tuple[list[Sample], np.ndarray, list[tuple[Sample, str]]]]:
    """The images of samples in batches; memory does not grow with their number.

    Args:
        decoder: opens them.
        samples: in the order wanted.
        n_workers: decoding processes.
        batch_size: images at a time.

    Yields:
        Samples, their images, uint8 (B, H, W, C) with B possibly 0 in the last batch, and the
        samples among them that are no usable images, with the reasons.
    """
    good, images, bad = [], [], []

    def batch():
        shape = (len(good), decoder.height, decoder.width, decoder.channels)
        return good, np.stack(images) if good else np.empty(shape, np.uint8), bad

    for sample, image in zip(samples, decode_in_order(decoder, samples, n_workers), strict=True):
        if isinstance(image, str):
            bad.append((sample, image))
            continue
        good.append(sample)
        images.append(image)
        if len(good) == batch_size:
            yield batch()
            good, images, bad = [], [], []
    if good or bad:
        yield batch()


def check_skipped(skipped: Mapping[str, list[list[str]]], samples: Sequence[Sample], *, stop: bool) -> None:
    """Decide whether a dataset can do without its bad images.

    Args:
        skipped: path and reason of every bad image, by split.
        samples: all samples, the bad ones among them.
        stop: whether one bad image is too many.

    Raises:
        ValueError: it cannot; the message has a line for every bad image.
    """
    bad = {path: reason for pairs in skipped.values() for path, reason in pairs}
    if not bad:
        return
    listed = "".join(f"\n  {escape_name(path)}: {reason}" for path, reason in bad.items())
    if stop:
        raise UserError(
            f"{len(bad)} of {len(samples)} images cannot be used; "
            f"mend or remove them, or set images.on_error to skip:{listed}"
        )
    wanted = dict.fromkeys(place for sample in samples for place in _list_classes(sample))
    kept = {place for sample in samples if sample.path not in bad for place in _list_classes(sample)}
    empty = [f"class '{place[2]}' in {place[0]}" for place in wanted if place not in kept]
    if empty:
        raise UserError(
            f"without its {len(bad)} bad images nothing is left of {'; '.join(empty)}; mend or replace them:{listed}"
        )


def _list_classes(sample: Sample) -> list[tuple[str, str, str]]:
    """Split, task and class of every label of a sample."""
    return [(sample.split, task, label) for task, label in sample.labels.items() if label is not None]
