#!/usr/bin/python3
"""Train Starling, the small story model of this repository, and write it as a GGUF file.

Reads a tar.gz of Markdown books, trains a byte-level BPE vocabulary and a llama-architecture model
on all but the held-out books, measures bits per byte on those with the weights as stored (q8_0),
and prints sampled text.

Needs the Debian packages python3-torch, python3-numpy, python3-regex and libopenblas0-pthread; no
accelerator.
"""
import argparse
import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from starling import bpe, evaluate, gguf, text, train  # noqa: E402
from starling.model import Config, Starling  # noqa: E402

DATA = HERE.parent.parent / "shared/data/text/books-en-children.tar.gz"
N_STEPS = 1178
"""What the published model took; see README.md."""

PROMPTS = ("Once upon a time there was a little girl who",
           "The dragon looked at the children and said,",
           "One cold winter morning, the old woman opened the door and")


def parse_arguments():
    plan = train.Plan()
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=pathlib.Path, default=DATA, metavar="TAR_GZ",
        help="the books (default: shared/data/text/books-en-children.tar.gz beside the repository)")
    add("--out", type=pathlib.Path, default=HERE / "starling.gguf", metavar="GGUF",
        help="where to write the model; replaced at every checkpoint and at the end "
             "(default: %(default)s)")
    add("--checkpoint", type=pathlib.Path, metavar="FILE",
        help="save the state of training here every few minutes, and continue from it if it exists")
    add("--evaluate", action="store_true",
        help="do not train: measure the model at --out and sample from it")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=N_STEPS,
                        help="train this many steps (default: %(default)s)")
    length.add_argument("--minutes", type=float, default=0.0,
                        help="train for this long by the wall clock instead; not reproducible "
                             "bit for bit")
    add("--seed", type=int, default=plan.seed,
        help="of the initial weights, the order of the text and the samples (default: %(default)s)")
    add("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    add("--float32", action="store_true",
        help="multiply in f32; bfloat16 is the default and faster on CPUs with AVX512-BF16 or AMX")
    return parser.parse_args()


def tokenise(books):
    """Learn a vocabulary from `books` ({title: documents}).

    Return (tokenizer, token stream uint16 [N]).
    """
    documents = [document for book in books.values() for document in book]
    tokenizer = bpe.Tokenizer(bpe.train_merges(documents, Config().n_vocab))
    stream = np.array(tokenizer.encode_documents(documents), dtype=np.uint16)
    n_bytes = sum(len(document.encode("utf-8")) for document in documents)
    print(f"{len(books)} books, {len(documents)} documents, {n_bytes} bytes, {len(stream)} tokens "
          f"({n_bytes / len(stream):.2f} bytes/token)", flush=True)
    return tokenizer, stream


def train_model(args, tokenizer, stream, held_out):
    """Train a model and write it to args.out, now and then and at the end."""
    model = Starling(Config())
    print(f"{model.n_params()} parameters, {model.config}", flush=True)

    def save(_):
        gguf.write_gguf(args.out, model.config, tokenizer, model.weights())
        first_chapters = held_out[text.HELD_OUT[0]][:3]
        score = evaluate.bits_per_byte(model, tokenizer, first_chapters, stride=model.config.n_ctx)
        print(f"wrote {args.out}; {score:.3f} bits per byte on three held-out chapters", flush=True)

    plan = train.Plan(minutes=args.minutes, n_steps=0 if args.minutes else args.steps,
                      seed=args.seed, n_threads=args.threads,
                      dtype="float32" if args.float32 else "bfloat16")
    train.Trainer(model, stream, plan, args.checkpoint, save).run()
    gguf.write_gguf(args.out, model.config, tokenizer, model.weights())
    print(f"wrote {args.out}, {args.out.stat().st_size} bytes", flush=True)


def report(path, held_out, seed):
    """Print the bits per byte of the model at `path` on each held-out book, and its samples."""
    config, tokenizer, weights = gguf.read_gguf(path)
    model = Starling.from_weights(config, weights)
    for title, documents in held_out.items():
        score = evaluate.bits_per_byte(model, tokenizer, documents, stride=config.n_ctx // 2)
        print(f"held out: {title}: {score:.4f} bits per byte (q8_0, whole book)", flush=True)
    for prompt in PROMPTS:
        tokens = evaluate.generate(model, tokenizer, prompt, n_tokens=120, seed=seed)
        print(f"--- seed {seed}, temperature 0.7, top-p 0.9\n{prompt}{tokenizer.decode(tokens)}",
              flush=True)


def main():
    args = parse_arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    books, held_out = text.split_books(text.read_books(args.data))
    if not args.evaluate:
        train_model(args, *tokenise(books), held_out)
    report(args.out, held_out, args.seed)


if __name__ == "__main__":
    main()
