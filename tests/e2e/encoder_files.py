"""Folders with a text encoder and a cross-encoder small enough to know what they answer: a token's
hidden state is its row of a table, and a pair's logit is the sum of its tokens' weights."""
import json
import struct

from onnx_files import FLOAT, data, number, value_info

INT64 = 7
OPSET = 12
"""The last one in which ReduceSum has its axes as an attribute."""

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "sun", "moon", "star", "sky"]
ROWS = {"sun": (4, 0), "moon": (0, 3), "star": (2, 2), "sky": (-4, 3)}
WEIGHTS = {"sun": 2.0, "moon": 1.0, "star": -1.0, "sky": -3.0}


def tokenizer():
    """A WordPiece tokenizer of whole words."""
    special = [{"id": i, "content": word, "special": True}
               for i, word in enumerate(VOCABULARY[:4])]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
            "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]",
                      "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                      "vocab": {word: i for i, word in enumerate(VOCABULARY)}}}


def table(rows, width):
    values = [float(value) for word in VOCABULARY for value in rows.get(word, (0,) * width)]
    return number(1, len(VOCABULARY)) + number(1, width) + number(2, FLOAT) + \
        data(8, "table") + data(9, struct.pack(f"<{len(values)}f", *values))


def gather(output):
    return data(1, "table") + data(1, "input_ids") + data(2, output) + data(4, "Gather")


def write_folder(folder, nodes, initializer, output):
    graph = b"".join(data(1, node) for node in nodes) + data(2, "main") + data(5, initializer)
    graph += data(11, value_info("input_ids", ["batch", "tokens"], INT64)) + data(12, output)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(number(1, 7) + data(2, "tester") + data(7, graph) +
                                        data(8, number(2, OPSET)))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()), encoding="utf-8")
    return folder


def make_encoder(folder):
    output = value_info("last_hidden_state", ["batch", "tokens", 2])
    return write_folder(folder, [gather("last_hidden_state")], table(ROWS, 2), output)


def make_cross_encoder(folder):
    axes = data(1, "axes") + number(8, 1) + number(20, 7)
    keepdims = data(1, "keepdims") + number(3, 0) + number(20, 2)
    total = data(1, "rows") + data(2, "logits") + data(4, "ReduceSum") + data(5, axes) + \
        data(5, keepdims)
    rows = {word: (weight,) for word, weight in WEIGHTS.items()}
    return write_folder(folder, [gather("rows"), total], table(rows, 1),
                        value_info("logits", ["batch", 1]))
