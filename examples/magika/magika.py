#!/usr/bin/env python3
"""Tells what files hold, with Google's Magika model on a Starlane server: all files that need the
model go in one request. See README.md."""
import argparse
import json
import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from oip_client import DEFAULT_URL, Client  # pylint: disable=wrong-import-position

MODES = ("high_confidence", "medium_confidence", "best_guess")
ROWS_MAX = 256
"""Of one request: half a megabyte."""

TEXTS = set("""
    aidl appleplist asm asp autohotkey autoit awk batch bazel bib c clojure cmake cobol coffeescript
    cpp cs csproj css csv dart diff dm dockerfile dxf elixir eml erb erlang fortran gemfile gemspec
    gitattributes gitmodules go gradle groovy handlebars haskell hcl htaccess html ics ignorefile
    ini internetshortcut ipynb java javascript jinja json jsonl julia kotlin latex lisp lua m3u m4
    makefile markdown matlab mht mum objectivec ocaml pascal pem perl php po powershell prolog
    proteindb proto python r randomtxt rdf rst rtf ruby rust scala scss sgml shell smali solidity
    sql srt stltext sum svg swift tcl textproto toml tsv twig txt typescript vba vcxproj verilog
    vhdl vtt vue winregistry xml yaml yara zig""".split())
"""The labels of text; what the model says of one without being sure means "txt"."""


def features(content, config):
    """The model's row for a file's bytes: the beginning, then the end, white space stripped and
    padded between. None where too little is left for the model."""
    block, pad = config["block_size"], config["padding_token"]
    begin = content[:block].lstrip()[:config["beg_size"]]
    end = content[-block:].rstrip()[-config["end_size"]:]
    if len(content) < config["min_file_size_for_dl"] or len(begin) < config["min_file_size_for_dl"]:
        return None
    row = numpy.full(config["beg_size"] + config["end_size"], pad, numpy.int32)
    row[:len(begin)] = numpy.frombuffer(begin, numpy.uint8)
    row[len(row) - len(end):] = numpy.frombuffer(end, numpy.uint8)
    return row


def label_without_model(content, config):
    if not content:
        return "empty"
    try:
        content[:config["block_size"]].decode()
    except UnicodeDecodeError:
        return "unknown"
    return "txt"


def label_of(scores, config, mode):
    """(what the model says, what is told, score): a guess below its threshold is told as "txt" or
    "unknown"."""
    best = int(numpy.argmax(scores))
    guess, score = config["target_labels_space"][best], float(scores[best])
    told = config["overwrite_map"].get(guess, guess)
    medium = config["medium_confidence_threshold"]
    needed = {"best_guess": 0, "medium_confidence": medium,
              "high_confidence": config["thresholds"].get(guess, medium)}[mode]
    if score < needed:
        told = "txt" if told in TEXTS else "unknown"
    return guess, told, score


def classify(contents, config, infer, mode="high_confidence"):
    """(guess, label, score) of each content. `infer` takes rows and gives scores."""
    rows = [features(content, config) for content in contents]
    asked = [row for row in rows if row is not None]
    scores = []
    for start in range(0, len(asked), ROWS_MAX):
        scores.extend(infer(numpy.stack(asked[start:start + ROWS_MAX])))
    scores = iter(scores)
    return [("undefined", label_without_model(content, config), 1.0) if row is None
            else label_of(next(scores), config, mode) for content, row in zip(contents, rows)]


def main():
    parser = argparse.ArgumentParser(description="Tell what files hold.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--config", required=True, help="the model's config.min.json")
    parser.add_argument("--server", default=DEFAULT_URL, help=f"(default: {DEFAULT_URL})")
    parser.add_argument("--model", default="magika")
    parser.add_argument("--mode", choices=MODES, default=MODES[0])
    options = parser.parse_args()
    config = json.loads(pathlib.Path(options.config).read_text(encoding="utf-8"))
    client = Client(options.server)
    contents = [pathlib.Path(name).read_bytes() for name in options.files]
    answers = classify(contents, config,
                       lambda rows: client.infer(options.model, bytes=rows)["target_label"],
                       options.mode)
    for name, (_, label, score) in zip(options.files, answers):
        print(f"{name}: {label} {score:.4f}")


if __name__ == "__main__":
    main()
