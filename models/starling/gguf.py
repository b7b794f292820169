"""Write a trained Starling as a GGUF file (version 3) that llama.cpp loads, and read it back.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Matrices are q8_0 (blocks of 32
numbers: one f16 scale, 32 int8), norms are f32.
"""
import os
import struct

import numpy as np

from starling.bpe import EOT_ID, Tokenizer
from starling.model import Config

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # gguf_metadata_value_type
SCALARS = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}
GGML_F32, GGML_Q8_0 = 0, 8  # ggml_type
FILE_TYPE_Q8_0 = 7  # llama_ftype
TOKEN_NORMAL, TOKEN_CONTROL = 1, 3
BLOCK = 32
BLOCK_TYPE = np.dtype([("scale", "<f2"), ("codes", "i1", BLOCK)])


def quantise_q8_0(matrix):
    """Round f32 [R, C], C a multiple of 32, to blocks [R, C / 32] of BLOCK_TYPE."""
    values = matrix.astype(np.float32).reshape(matrix.shape[0], -1, BLOCK)
    scales = np.abs(values).max(axis=-1) / np.float32(127)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    blocks = np.empty(scales.shape, BLOCK_TYPE)
    blocks["scale"] = scales
    blocks["codes"] = np.trunc(values * inverse[..., None] + np.copysign(np.float32(0.5), values))
    return blocks


def tensor_bytes(array):
    """(ggml type, little-endian bytes) of an array: q8_0 for a matrix, f32 for a vector."""
    if array.ndim == 1:
        return GGML_F32, array.astype("<f4").tobytes()
    return GGML_Q8_0, quantise_q8_0(array).tobytes()


def tensor_array(kind, shape, data, offset):
    """The f32 array of `shape` that tensor_bytes stored at `offset` of `data`."""
    n_numbers = int(np.prod(shape))
    if kind == GGML_F32:
        return np.frombuffer(data, "<f4", n_numbers, offset).reshape(shape)
    blocks = np.frombuffer(data, BLOCK_TYPE, n_numbers // BLOCK, offset)
    return (blocks["scale"].astype(np.float32)[:, None] * blocks["codes"]).reshape(shape)


def tensor_name(parameter):
    """GGUF name of a parameter of the model: `blocks.3.attn.q.weight` -> `blk.3.attn_q.weight`."""
    if parameter == "embedding.weight":
        return "token_embd.weight"
    if parameter == "norm.weight":
        return "output_norm.weight"
    _, layer, rest = parameter.split(".", 2)
    return f"blk.{layer}." + rest.replace("attn.", "attn_").replace("ffn.", "ffn_")


def parameter_name(tensor):
    """The parameter that tensor_name() gave the name `tensor`."""
    if tensor == "token_embd.weight":
        return "embedding.weight"
    if tensor == "output_norm.weight":
        return "norm.weight"
    _, layer, rest = tensor.split(".", 2)
    if not rest.endswith("_norm.weight"):
        rest = rest.replace("_", ".", 1)
    return f"blocks.{layer}.{rest}"


def metadata(config, tokenizer):
    """Pairs [(key, type, value)] that describe the model, its architecture and its tokenizer."""
    types = [TOKEN_CONTROL if index == EOT_ID else TOKEN_NORMAL
             for index in range(len(tokenizer.tokens))]
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "starling"),
        ("general.license", STRING, "cc0-1.0"),
        ("general.description", STRING,
         "A small story model trained from scratch on public-domain children's books"),
        ("general.file_type", U32, FILE_TYPE_Q8_0),
        ("general.quantization_version", U32, 2),
        ("llama.block_count", U32, config.n_layer),
        ("llama.context_length", U32, config.n_ctx),
        ("llama.embedding_length", U32, config.n_embd),
        ("llama.feed_forward_length", U32, config.n_ff),
        ("llama.attention.head_count", U32, config.n_head),
        ("llama.attention.head_count_kv", U32, config.n_head),
        ("llama.attention.layer_norm_rms_epsilon", F32, config.norm_eps),
        ("llama.rope.dimension_count", U32, config.n_embd // config.n_head),
        ("llama.rope.freq_base", F32, config.rope_base),
        ("llama.vocab_size", U32, config.n_vocab),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", (ARRAY, STRING), tokenizer.tokens),
        ("tokenizer.ggml.token_type", (ARRAY, I32), types),
        ("tokenizer.ggml.merges", (ARRAY, STRING), [" ".join(merge) for merge in tokenizer.merges]),
        ("tokenizer.ggml.bos_token_id", U32, EOT_ID),
        ("tokenizer.ggml.eos_token_id", U32, EOT_ID),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
    ]


def write_gguf(path, config, tokenizer, weights):
    """Write `weights` ({parameter name: array}) to `path`, replacing an older file in one step."""
    pairs = metadata(config, tokenizer)
    tensors = [(tensor_name(name), array.shape, *tensor_bytes(array))
               for name, array in weights.items()]
    infos, offset = b"", 0
    for name, shape, kind, data in tensors:
        infos += _string(name) + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, offset)
        offset += len(_padded(data))
    header = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(pairs))
    header += b"".join(_string(key) + _typed(kind, value) for key, kind, value in pairs) + infos
    with open(f"{path}.part", "wb") as out:
        out.write(_padded(header) + b"".join(_padded(data) for *_, data in tensors))
    os.replace(f"{path}.part", path)


def read_gguf(path):
    """Read a file of write_gguf. Return (Config, Tokenizer, {parameter name: f32 array})."""
    with open(path, "rb") as file:
        reader = _Reader(file.read())
    if reader.take("<4sI") != (MAGIC, VERSION):
        raise ValueError(f"{path}: not a GGUF file of version {VERSION}")
    n_tensors, n_pairs = reader.take("<QQ")
    pairs = {reader.string(): reader.typed() for _ in range(n_pairs)}
    infos = [reader.tensor_info() for _ in range(n_tensors)]
    start = len(_padded(reader.data[:reader.at]))
    weights = {parameter_name(name): tensor_array(kind, shape, reader.data, start + offset)
               for name, shape, kind, offset in infos}
    tokenizer = Tokenizer(merge.split(" ") for merge in pairs["tokenizer.ggml.merges"])
    return _config(pairs), tokenizer, weights


def _config(pairs):
    """The Config that metadata() described."""
    return Config(n_vocab=pairs["llama.vocab_size"], n_embd=pairs["llama.embedding_length"],
                  n_head=pairs["llama.attention.head_count"], n_layer=pairs["llama.block_count"],
                  n_ff=pairs["llama.feed_forward_length"], n_ctx=pairs["llama.context_length"],
                  rope_base=pairs["llama.rope.freq_base"],
                  norm_eps=pairs["llama.attention.layer_norm_rms_epsilon"])


class _Reader:
    """Takes values off the front of a GGUF file's bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, layout):
        """The tuple of struct `layout`."""
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def string(self):
        (size,) = self.take("<Q")
        self.at += size
        return self.data[self.at - size:self.at].decode("utf-8")

    def value(self, kind):
        return self.string() if kind == STRING else self.take(SCALARS[kind])[0]

    def typed(self):
        """A value behind its type."""
        (kind,) = self.take("<I")
        if kind != ARRAY:
            return self.value(kind)
        kind, size = self.take("<IQ")
        return [self.value(kind) for _ in range(size)]

    def tensor_info(self):
        """(name, shape with rows first, ggml type, offset in the data section)."""
        name = self.string()
        (n_dims,) = self.take("<I")
        shape = self.take(f"<{n_dims}Q")[::-1]
        return (name, shape, *self.take("<IQ"))


def _padded(data):
    return data + b"\0" * (-len(data) % ALIGNMENT)


def _string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    """The bytes of one scalar."""
    if kind == STRING:
        return _string(value)
    return struct.pack(SCALARS[kind], value)


def _typed(kind, value):
    """A value behind its type; an array's kind is the pair (ARRAY, kind of its elements)."""
    if isinstance(kind, tuple):
        elements = b"".join(_value(kind[1], element) for element in value)
        return struct.pack("<IIQ", ARRAY, kind[1], len(value)) + elements
    return struct.pack("<I", kind) + _value(kind, value)
