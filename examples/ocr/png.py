"""Reads a PNG file into a numpy array, with the standard library's zlib: 8 bits a channel, grey,
RGB, palette, with or without transparency, not interlaced. That is enough for scans and
screenshots; anything else is refused."""
import struct
import zlib

import numpy

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _chunks(data):
    at = len(SIGNATURE)
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8:at + 8 + size]
        at += 12 + size


def _unfilter(rows, step):
    """Each row says by its first byte from which neighbours its bytes were told apart."""
    out = numpy.zeros((len(rows) + 1, rows.shape[1] - 1 + step), numpy.uint8)
    for y, (kind, *_) in enumerate(rows):
        row, above, line = rows[y, 1:], out[y], out[y + 1]
        if kind == 0:
            line[step:] = row
        elif kind == 2:
            line[step:] = row + above[step:]
        elif kind == 1:
            for x in range(step):
                line[step + x::step] = numpy.cumsum(row[x::step], dtype=numpy.uint8)
        else:
            _unfilter_slowly(kind, row.tolist(), above.tolist(), line, step)
    return out[1:, step:]


def _unfilter_slowly(kind, row, above, line, step):
    """Average and Paeth look at bytes of the row itself."""
    values = [0] * step
    for x, byte in enumerate(row):
        left, up, corner = values[x], above[x + step], above[x]
        if kind == 3:
            guess = (left + up) // 2
        else:
            estimate = left + up - corner
            guess = min((abs(estimate - left), 0, left), (abs(estimate - up), 1, up),
                        (abs(estimate - corner), 2, corner))[2]
        values.append((byte + guess) & 255)
    line[:] = values


def read(path):
    """The image as RGB, [height, width, 3], uint8; what is transparent lies on white."""
    with open(path, "rb") as file:
        data = file.read()
    if not data.startswith(SIGNATURE):
        raise ValueError(f"{path} is no PNG file")
    packed, palette = [], None
    for kind, content in _chunks(data):
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content)
        elif kind == b"PLTE":
            palette = numpy.frombuffer(content, numpy.uint8).reshape(-1, 3)
        elif kind == b"IDAT":
            packed.append(content)
    if depth != 8 or interlaced:
        raise ValueError(f"{path}: {depth} bits a channel, interlaced: {bool(interlaced)}; "
                         "8 bits, not interlaced, can be read")
    n = CHANNELS[colour]
    rows = numpy.frombuffer(zlib.decompress(b"".join(packed)), numpy.uint8)
    pixels = _unfilter(rows.reshape(height, 1 + width * n), n).reshape(height, width, n)
    if palette is not None:
        return palette[pixels[:, :, 0]]
    if n in (2, 4):
        alpha = pixels[:, :, -1:] / 255
        pixels = (pixels[:, :, :-1] * alpha + 255 * (1 - alpha)).round().astype(numpy.uint8)
    return numpy.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
