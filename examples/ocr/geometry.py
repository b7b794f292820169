"""From a map of probabilities to rectangles around lines of text, and from a rectangle to its
picture, upright. numpy only; lines of text are few, so plain loops do."""
import collections
import math

import numpy

Box = collections.namedtuple("Box", "x y width height angle")
"""Centre, sizes along and across the text, and the angle between text and x axis in radians."""


def _weights(n_in, n_out):
    """[n_out, n_in]: linear interpolation, over as many pixels as an output pixel covers."""
    scale = n_in / n_out
    reach = max(scale, 1)
    centres = (numpy.arange(n_out) + 0.5) * scale - 0.5
    distance = abs(centres[:, None] - numpy.arange(n_in)) / reach
    weights = numpy.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def resize(image, height, width):
    """[height, width, channels] of an image with float levels."""
    rows = numpy.tensordot(_weights(image.shape[0], height), image, (1, 0))
    return numpy.tensordot(_weights(image.shape[1], width), rows, (1, 1)).transpose(1, 0, 2)


def _runs(row):
    """(start, end) of the stretches of a row that are true."""
    edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([0], row.view(numpy.int8), [0]))))
    return edges.reshape(-1, 2).tolist()


def components(mask):
    """Lists of runs (y, start, end), a list for each connected area."""
    parent, runs, before = [], [], []

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i
    for y, row in enumerate(mask):
        current = []
        for start, end in _runs(row):
            number = len(runs)
            parent.append(number)
            runs.append((y, start, end))
            current.append(number)
            for other in before:
                if runs[other][1] <= end and start <= runs[other][2]:
                    parent[root(other)] = root(number)
        before = current
    areas = collections.defaultdict(list)
    for number, run in enumerate(runs):
        areas[root(number)].append(run)
    return list(areas.values())


def _hull(points):
    """The corners of the convex hull, by Andrew's monotone chain."""
    points = sorted(set(points))

    def half(sequence):
        chain = []
        for x, y in sequence:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]
    return numpy.array(half(points) + half(reversed(points)), float)


def around(runs):
    """The smallest rectangle around an area: one of its sides lies on a side of the hull."""
    corners = _hull([(x, y + dy) for y, start, end in runs for x in (start, end) for dy in (0, 1)])
    best = None
    for (x, y), (next_x, next_y) in zip(corners, numpy.roll(corners, -1, axis=0)):
        angle = math.atan2(next_y - y, next_x - x)
        along, across = (corners @ axis for axis in _axes(angle))
        width, height = numpy.ptp(along), numpy.ptp(across)
        if best is None or width * height < best[0]:
            middle = ((along.min() + along.max()) / 2, (across.min() + across.max()) / 2)
            best = width * height, middle, width, height, angle
    _, middle, width, height, angle = best
    x, y = numpy.array(middle) @ numpy.array(_axes(angle))
    if height > width:
        width, height, angle = height, width, angle + math.pi / 2
    # Text runs to the right: the angle is within a quarter turn of the x axis.
    return Box(x, y, width, height, (angle + math.pi / 2) % math.pi - math.pi / 2)


def _axes(angle):
    return (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))


def grow(box, ratio):
    """The detector marks the middle of a line: all sides move out by area * ratio / perimeter."""
    distance = box.width * box.height * ratio / (2 * (box.width + box.height))
    return box._replace(width=box.width + 2 * distance, height=box.height + 2 * distance)


def cut(image, box):
    """The box's picture, upright, at the image's resolution. What lies outside is white."""
    height, width = max(1, round(box.height)), max(1, round(box.width))
    (ax, ay), (bx, by) = _axes(box.angle)
    along = (numpy.arange(width) + 0.5 - width / 2)[None, :]
    across = (numpy.arange(height) + 0.5 - height / 2)[:, None]
    x, y = (box.x + along * ax + across * bx - 0.5), (box.y + along * ay + across * by - 0.5)
    padded = numpy.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=255)
    x = numpy.clip(x + 1, 0, padded.shape[1] - 1.001)
    y = numpy.clip(y + 1, 0, padded.shape[0] - 1.001)
    column, row = x.astype(int), y.astype(int)
    right, down = (x - column)[..., None], (y - row)[..., None]
    top = padded[row, column] * (1 - right) + padded[row, column + 1] * right
    bottom = padded[row + 1, column] * (1 - right) + padded[row + 1, column + 1] * right
    return top * (1 - down) + bottom * down
