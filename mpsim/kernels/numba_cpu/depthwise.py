"""Depthwise convolutions in Numba: one input and one output channel per group, float32 sums.

Forward and by the input, the images of a channel lie one after another in one strip with their zeros, so that an
element of the kernel is the strip moved, and the sums of neighbouring places are vectors. By the weights, channels
are the lanes: a copy of an image has its channels side by side, and every channel's sum runs in the written order.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.numba_cpu.lanes import TAPS, taps_fused, taps_separate
from mpsim.kernels.numba_cpu.panels import LANES, _strip

PLACES = 4 * LANES  # of a strip, summed together
ROOM = 8192  # places of a task's images
NEIGHBOURS = 512  # elements of a task's channels of one image: neighbours in memory, which is read ahead
ONE, TWO, THREE = np.uint64(1), np.uint64(2), np.uint64(3)
LONG = 16  # a row that is worth the start of a vector loop

_strip_fused, _strip_separate = _strip(PLACES, True), _strip(PLACES, False)


@njit(cache=True)
def places_of(shape, origin, stride, dilation, pitch, size):  # type: ignore[no-untyped-def]
    """Where each element of a plane with zeros before and between goes in the phases of a strip, ``size`` places each.

    Element (h, w) stands in row origin + h*dilation and column origin + w*dilation of a canvas; row i and column j of
    that at place i // stride * pitch + j // stride of phase i % stride * stride + j % stride.
    """
    places = np.empty(shape, np.uint64)  # Numba does not ask whether an unsigned index counts from the end
    for h in range(shape[0]):
        row = origin[0] + h * dilation[0]
        for w in range(shape[1]):
            column = origin[1] + w * dilation[1]
            phase = row % stride[0] * stride[1] + column % stride[1]
            places[h, w] = phase * size + row // stride[0] * pitch + column // stride[1]
    return places


@njit(cache=True)
def move(source, begin, sources, target, start, targets, width):  # type: ignore[no-untyped-def]
    """target[start + targets] = source[begin + sources], rows of ``width``; what is contiguous is moved at once.

    Indices are unsigned (see places_of), and no view is made: for small images either would cost more than the moves.
    """
    last = width - 1
    together = sources[last] - sources[0] == np.uint64(last) and targets[last] - targets[0] == np.uint64(last)
    if together and width >= LONG:
        for first in range(0, sources.size, width):
            row, to = source[begin + sources[first] :], target[start + targets[first] :]
            for w in range(width):
                to[w] = row[w]
    elif together and width % 4 == 0:
        for first in range(0, sources.size, 4):
            at, to = begin + sources[first], start + targets[first]
            elements = source[at], source[at + ONE], source[at + TWO], source[at + THREE]
            target[to], target[to + ONE], target[to + TWO], target[to + THREE] = elements
    else:
        for i in range(sources.size):
            target[start + targets[i]] = source[begin + sources[i]]


@njit(cache=True, parallel=True)
def correlate(source, weights, kernel, stride, padding, dilation, canvas, fused, out):  # type: ignore[no-untyped-def]
    """out[n, c, i, j] = sum over (r, s) of weights[c, (r, s)] * canvas[n, c, i*stride + r, j*stride + s].

    The canvas has a height and a width and holds the dilated images from place ``padding`` on. K is one chunk.
    """
    images, channels, height, width = out.shape
    pitch = (canvas[1] + stride[1] - 1) // stride[1]
    area = (canvas[0] + stride[0] - 1) // stride[0] * pitch
    group = min(channels, max(1, NEIGHBOURS // (height * width)))
    together = min(images, max(1, ROOM // (area * group)))
    size = together * area + (kernel[0] // stride[0] + 1) * pitch + kernel[1] + PLACES
    offsets = places_of(kernel, (0, 0), stride, (1, 1), pitch, size).reshape(-1).astype(np.int64)
    places = places_of(source.shape[2:], padding, stride, dilation, pitch, size).reshape(-1)
    results = places_of((height, width), (0, 0), (1, 1), (1, 1), pitch, size).reshape(-1)
    elements, outputs = np.arange(places.size).astype(np.uint64), np.arange(results.size).astype(np.uint64)
    plain, result, strip_size = source.reshape(-1), out.reshape(-1), stride[0] * stride[1] * size
    groups, blocks = (channels + group - 1) // group, (images + together - 1) // together
    for task in prange(groups * blocks):
        channel, image = task % groups * group, task // groups * together
        width_of_group, count = min(group, channels - channel), min(together, images - image)
        strips = np.zeros(width_of_group * strip_size, np.float32)
        totals = np.empty(width_of_group * size, np.float32)
        for n in range(count):
            for c in range(width_of_group):
                begin = np.uint64(((image + n) * channels + channel + c) * places.size)
                move(plain, begin, elements, strips, np.uint64(c * strip_size + n * area), places, source.shape[3])
        for c in range(width_of_group):
            weight = weights[channel + c]
            for place in range(0, count * area, PLACES):
                if fused:
                    _strip_fused(weight, strips, c * strip_size + place, offsets, totals, c * size + place)
                else:
                    _strip_separate(weight, strips, c * strip_size + place, offsets, totals, c * size + place)
        for n in range(count):
            for c in range(width_of_group):
                begin = np.uint64(((image + n) * channels + channel + c) * results.size)
                move(totals, np.uint64(c * size + n * area), results, result, begin, outputs, width)


@njit(cache=True)
def channels_last(images, left, top, pitch, lanes):  # type: ignore[no-untyped-def]
    """lanes[((top + h)*pitch + left + w)*LANES + c] = images[c, h, w], at most LANES of c."""
    for h in range(images.shape[1]):
        for c in range(images.shape[0]):
            source, target = images[c, h], lanes[((top + h) * pitch + left) * LANES + c :]
            for w in range(source.size):
                target[w * LANES] = source[w]


@njit(cache=True, parallel=True)
def weight_gradient(x, gy, kernel, stride, padding, chunk, fused, gw):  # type: ignore[no-untyped-def]
    """gw[c, (r, s)] = sum over (n, i, j) of gy[n, c, i, j] * padded x[n, c, i*stride + r, j*stride + s]."""
    images, channels, height, width = gy.shape
    rows, pitch = x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1]
    size, area = kernel[0] * kernel[1], height * width
    steps, padded = np.empty(area, np.int64), (size + TAPS - 1) // TAPS * TAPS
    for i in range(area):
        steps[i] = (i // width * stride[0] * pitch + i % width * stride[1]) * LANES
    offsets = np.zeros(padded, np.int64)  # the sums that fill the last group are thrown away
    for k in range(size):
        offsets[k] = (k // kernel[1] * pitch + k % kernel[1]) * LANES
    for block in prange((channels + LANES - 1) // LANES):
        first, last = block * LANES, min(channels, (block + 1) * LANES)
        right, left = np.zeros(rows * pitch * LANES, np.float32), np.zeros(area * LANES, np.float32)
        sums, totals = np.zeros(padded * LANES, np.float32), np.zeros(padded * LANES, np.float32)
        done = 0
        for n in range(images):
            channels_last(x[n, first:last], padding[1], padding[0], pitch, right)
            channels_last(gy[n, first:last], 0, 0, width, left)
            i = 0
            while i < area:
                count = min(area - i, chunk - done % chunk)
                for at in range(0, padded, TAPS):
                    if fused:
                        taps_fused(left, i * LANES, right, steps, i, count, offsets, at, sums)
                    else:
                        taps_separate(left, i * LANES, right, steps, i, count, offsets, at, sums)
                i, done = i + count, done + count
                if done % chunk == 0 or done == images * area:
                    for j in range(sums.size):
                        totals[j] = sums[j] if done <= chunk else totals[j] + sums[j]
                        sums[j] = 0
        for c in range(first, last):
            for k in range(size):
                gw[c, k] = totals[k * LANES + c - first]
