#!/usr/bin/env python3
"""Reads the text in a picture with three models on a Starlane server: one finds lines, one tells
which of them stand on their heads, one reads them. See README.md."""
import argparse
import json
import pathlib
import sys

import numpy

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import geometry  # pylint: disable=wrong-import-position
import png  # pylint: disable=wrong-import-position
from oip_client import DEFAULT_URL, Client  # pylint: disable=wrong-import-position

SIDE_MIN, SIDE_MAX, SIDE_STEP = 736, 2048, 32
"""Small pictures are enlarged for the detector until the shorter side has so many pixels."""
PIXEL_MIN, LINE_MIN, GROWTH, EDGE_MIN = 0.3, 0.6, 1.5, 3
"""The detector's: a pixel is text, an area is a line; how much of a line it marks; pixels of a
line's height below which it is a speck."""
TURN_MIN = 0.6
"""A line is turned round when the classifier is as sure as this of its pieces on average."""
LINE_HEIGHT, TURN_WIDTH, LINE_WIDTH_MAX = 48, 192, 4096
TEXT_MIN = 0.5
"""What is read with less certainty is no text."""


def find_lines(client, model, image):
    """Boxes of lines, in pixels of the image."""
    scale = SIDE_MIN / min(image.shape[:2])
    scale = min(max(scale, 1), SIDE_MAX / max(image.shape[:2]))
    height, width = (max(1, round(n * scale / SIDE_STEP)) * SIDE_STEP for n in image.shape[:2])
    levels = geometry.resize(image, height, width)[:, :, ::-1] / 255
    levels = (levels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    (output,) = client.infer(model, x=as_tensor(levels)).values()
    seen = output[0, 0]
    boxes = []
    for runs in geometry.components(seen > PIXEL_MIN):
        if numpy.concatenate([seen[y, start:end] for y, start, end in runs]).mean() < LINE_MIN:
            continue
        box = geometry.around(runs)
        if box.height < EDGE_MIN:
            continue
        box = geometry.grow(box, GROWTH)
        # The picture was scaled nearly alike in both directions, so angles stay as they are.
        x, y = image.shape[1] / width, image.shape[0] / height
        boxes.append(box._replace(x=box.x * x, y=box.y * y, width=box.width * x,
                                  height=box.height * y))
    return in_reading_order(boxes)


def in_reading_order(boxes):
    """By rows, each from left to right."""
    rows = []
    for box in sorted(boxes, key=lambda box: box.y):
        if rows and box.y - rows[-1][0].y < box.height / 2:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda box: box.x)]


def as_tensor(levels):
    """[1, channels, height, width], float32."""
    return levels.transpose(2, 0, 1)[None].astype(numpy.float32)


def line_tensor(line):
    """A line's picture as the classifier and the reader take it: 48 pixels high, -1 to 1."""
    width = min(max(round(line.shape[1] * LINE_HEIGHT / line.shape[0]), 1), LINE_WIDTH_MAX)
    return as_tensor(geometry.resize(line, LINE_HEIGHT, width)[:, :, ::-1] / 127.5 - 1)


def turn_round(client, model, lines):
    """Those that stand on their heads come back upright. The classifier sees pieces that are four
    times as wide as high, all in one request; a line is what its pieces are on average."""
    pieces, owners = [], []
    for owner, line in enumerate(lines):
        tensor = line_tensor(line)
        for start in range(0, max(1, tensor.shape[3] - LINE_HEIGHT), TURN_WIDTH):
            piece = tensor[0, :, :, start:start + TURN_WIDTH]
            pieces.append(numpy.pad(piece, ((0, 0), (0, 0), (0, TURN_WIDTH - piece.shape[2]))))
            owners.append(owner)
    (sure,) = client.infer(model, x=numpy.stack(pieces)).values()
    on_head = numpy.bincount(owners, sure[:, 1]) / numpy.bincount(owners)
    return [line[::-1, ::-1] if turned > TURN_MIN else line for line, turned in zip(lines, on_head)]


def read_line(client, model, line, letters):
    """(text, mean probability): of each column the best letter; the same one again is the same
    letter still, unless a blank (0) stands between (CTC)."""
    (scores,) = client.infer(model, x=line_tensor(line)).values()
    best = scores[0].argmax(axis=1)
    kept = (best != 0) & (best != numpy.roll(best, 1) * (numpy.arange(len(best)) > 0))
    sure = scores[0].max(axis=1)[kept]
    return "".join(letters[i] for i in best[kept]), float(sure.mean()) if len(sure) else 0.0


def read_image(client, image, letters, models):
    """[(text, probability, box)] of all lines, top to bottom."""
    boxes = find_lines(client, models["det"], image)
    if not boxes:
        return []
    lines = turn_round(client, models["cls"], [geometry.cut(image, box) for box in boxes])
    read = [(*read_line(client, models["rec"], line, letters), box)
            for line, box in zip(lines, boxes)]
    return [line for line in read if line[1] >= TEXT_MIN]


def read_letters(path):
    """The reader's classes: blank, the file's lines, a space."""
    return ["", *pathlib.Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n"), " "]


def main():
    parser = argparse.ArgumentParser(description="Read the text in a PNG picture.")
    parser.add_argument("image", metavar="FILE.png")
    parser.add_argument("--keys", required=True, help="the models' ppocr_keys_v1.txt")
    parser.add_argument("--server", default=DEFAULT_URL, help=f"(default: {DEFAULT_URL})")
    parser.add_argument("--models", default="ocr-det,ocr-cls,ocr-rec",
                        help="names of the three (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="with probabilities and boxes")
    options = parser.parse_args()
    models = dict(zip(("det", "cls", "rec"), options.models.split(",")))
    lines = read_image(Client(options.server), png.read(options.image).astype(float),
                       read_letters(options.keys), models)
    for text, probability, box in lines:
        if options.json:
            print(json.dumps({"text": text, "probability": round(probability, 4),
                              "box": {key: round(float(v), 4) for key, v in box._asdict().items()}},
                             ensure_ascii=False))
        else:
            print(text)


if __name__ == "__main__":
    main()
