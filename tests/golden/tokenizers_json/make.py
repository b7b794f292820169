#!/usr/bin/env python3
"""Writes small tokenizer.json files of every kind that encoders come with, and the texts to try.

    python3 make.py SHARED          # the folder with data/text; writes *.tokenizer.json, texts.json
    npm install tokenizers@0.23.2   # Hugging Face's own library
    node expect.cjs                 # writes *.expected.json: what that library makes of the texts

The vocabularies are trained here, deterministically, on public-domain text; they are small and not
good, but of the right form."""
import base64
import collections
import json
import pathlib
import random
import re
import struct
import sys
import tarfile
import unicodedata

HERE = pathlib.Path(__file__).resolve().parent
MERGES = 500
TRAIN_CHARS = 150_000

ODD = (
    "äöüßéèêñçåøæœÀÉÎÕÜŁłŞşİıĞğ ΑαΒβΓγΣσς ЖжЩщЁё אבגד ابتث हिन्दी ไทยภาษา 日本語テキスト カタカナ ひらがな 한국어 "
    "你好世界中文，。！？ ﬁ ½ ① Ａ１ ™ © … — – ‘ ’ “ ” • № 😀 👍🏽 👨‍👩‍👧 🏳️‍🌈 e\u0301 a\u0308 \u00a0 \u200b \u3000")


def corpus(shared):
    """Some of every collection, in one order."""
    parts = []
    for path in sorted((pathlib.Path(shared) / "data/text").glob("*.tar.gz")):
        with tarfile.open(path) as tar:
            members = sorted((m for m in tar if m.isfile() and m.size > 2000),
                             key=lambda m: m.name)[:6]
            text = "\n".join(tar.extractfile(m).read().decode("utf-8", "ignore")
                             for m in members)
            parts.append(text[:TRAIN_CHARS // 3])
    return "\n".join(parts + [ODD] * 3)


def train_bpe(words, n_merges):
    """Words (tuples of symbols) with counts; returns the merges, best first, ties by spelling."""
    words = dict(words)
    merges = []
    for _ in range(n_merges):
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = dict(merge_words(words, best))
    return merges


def merge_words(words, pair):
    for word, count in words.items():
        out, i = [], 0
        while i < len(word):
            if word[i:i + 2] == pair:
                out.append(word[i] + word[i + 1])
                i += 2
            else:
                out.append(word[i])
                i += 1
        yield tuple(out), count


def byte_chars():
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    out, n = {b: chr(b) for b in plain}, 0
    for b in range(256):
        if b not in out:
            out[b] = chr(0x100 + n)
            n += 1
    return out


BYTES = byte_chars()


def to_bytes(text):
    return "".join(BYTES[b] for b in text.encode())


def added(token, id_, **more):
    return {"id": id_, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **more}


def numbered(tokens):
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def document(model, specials=(), **parts):
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": list(specials), "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None, **parts, "model": model}


def template(begin, end, vocab, pair=None):
    def item(token):
        if token in "AB":
            return {"Sequence": {"id": token, "type_id": int(token == "B")}}
        return {"SpecialToken": {"id": token.rstrip("1"), "type_id": int(token.endswith("1"))}}
    pair = pair or [begin, "A", end, "B", end + "1"]
    return {"type": "TemplateProcessing", "single": [item(t) for t in (begin, "A", end)],
            "pair": [item(t) for t in pair],
            "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]}
                               for t in (begin, end)}}


def wordpiece(text, lower):
    if lower:
        text = "".join(c for c in unicodedata.normalize("NFD", text.lower())
                       if unicodedata.category(c) != "Mn")
    words = collections.Counter(tuple(w) for w in re.findall(r"\w+|[^\w\s]", text))
    merges = train_bpe(words, MERGES)
    chars = [c for c, _ in collections.Counter(c for w in words for c in w).most_common(700)]
    pieces = ["".join(m) for m in merges]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += sorted(chars) + ["##" + c for c in sorted(chars)] + pieces
    tokens += ["##" + p for p in pieces if p.isascii()]
    return numbered(tokens)


def bert(text):
    vocab = wordpiece(text, True)
    specials = [added(t, vocab[t]) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    return document(
        {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
         "max_input_chars_per_word": 100, "vocab": vocab},
        specials,
        normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                    "strip_accents": None, "lowercase": True},
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=template("[CLS]", "[SEP]", vocab),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True})


def bert_cased(text):
    vocab = wordpiece(text, False)
    specials = [added(t, vocab[t]) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")]
    specials.append(added("[MASK]", vocab["[MASK]"], lstrip=True, rstrip=True))
    specials.append(added("Café", len(vocab), normalized=True, special=False, single_word=True))
    return document(
        {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
         "max_input_chars_per_word": 12, "vocab": vocab},
        specials,
        normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": False,
                    "strip_accents": False, "lowercase": False},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Contiguous"},
            {"type": "Digits", "individual_digits": True}]},
        post_processor={"type": "BertProcessing", "sep": ["[SEP]", vocab["[SEP]"]],
                        "cls": ["[CLS]", vocab["[CLS]"]]},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": False})


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\w+| ?[^\s\w]+|\s+"


def byte_bpe(text, first):
    words = collections.Counter(tuple(to_bytes(w)) for w in re.findall(GPT2, text))
    merges = train_bpe(words, MERGES)
    vocab = numbered(first + sorted(BYTES.values()) + ["".join(m) for m in merges])
    return vocab, merges


def roberta(text):
    vocab, merges = byte_bpe(text, ["<s>", "<pad>", "</s>", "<unk>"])
    specials = [added(t, vocab[t], normalized=True) for t in ("<s>", "<pad>", "</s>", "<unk>")]
    specials.append(added("<mask>", len(vocab), lstrip=True))
    return document(
        {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
         "end_of_word_suffix": "", "fuse_unk": False, "vocab": vocab,
         "merges": [" ".join(m) for m in merges]},
        specials,
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        post_processor={"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
                        "trim_offsets": True, "add_prefix_space": False},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True})


def modernbert(text):
    vocab, merges = byte_bpe(text, ["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
    specials = [added(t, vocab[t]) for t in ("[UNK]", "[CLS]", "[SEP]", "[PAD]")]
    specials += [added(" " * n, len(vocab) + 4 - n, special=False, normalized=True)
                 for n in (4, 3, 2)]
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
               r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    return document(
        {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
         "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
         "ignore_merges": True, "vocab": vocab, "merges": [list(m) for m in merges]},
        specials,
        normalizer={"type": "NFC"},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
             "use_regex": False}]},
        post_processor={"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
             "use_regex": True}, template("[CLS]", "[SEP]", vocab)]},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                 "use_regex": True})


def clip(text):
    words = collections.Counter()
    for word in re.findall(r"[a-z]+|[0-9]|[^\s\w]+", unicodedata.normalize("NFC", text).lower()):
        symbols = list(to_bytes(word))
        words[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    merges = train_bpe(words, MERGES)
    chars = sorted(BYTES.values())
    vocab = numbered(chars + [c + "</w>" for c in chars] + ["".join(m) for m in merges] +
                     ["<|startoftext|>", "<|endoftext|>"])
    start, end = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    return document(
        {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>",
         "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": False,
         "vocab": vocab, "merges": [" ".join(m) for m in merges]},
        [added("<|startoftext|>", start, normalized=True), added("<|endoftext|>", end)],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {
                "Regex": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"},
             "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}]},
        post_processor={"type": "RobertaProcessing", "sep": ["<|endoftext|>", end],
                        "cls": ["<|startoftext|>", start], "trim_offsets": False,
                        "add_prefix_space": False},
        decoder={"type": "BPEDecoder", "suffix": "</w>"})


def subword_bpe(text):
    """BPE whose later pieces have a prefix, with an unknown token that is fused."""
    words = collections.Counter(tuple(w) for w in re.findall(r"[a-z]+", text.lower()))
    merges, pieces = [], set("abcdefghijklmnopqrstuvwxyz")
    pieces |= {"@" + c for c in pieces}
    marked = {(w[0], *("@" + c for c in w[1:])): n for w, n in words.items()}
    for left, right in train_marked(marked, MERGES):
        merges.append(f"{left} {right}")
        pieces.add(left + right[1:])
    vocab = numbered(["<unk>", *sorted(pieces)])
    return document(
        {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": "@",
         "end_of_word_suffix": None, "fuse_unk": True, "vocab": vocab, "merges": merges},
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]},
        pre_tokenizer={"type": "Whitespace"})


def train_marked(words, n_merges):
    merges = []
    for _ in range(n_merges):
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined = {}
        for word, count in words.items():
            out = []
            for symbol in word:
                if out and (out[-1], symbol) == best:
                    out[-1] += symbol[1:]
                else:
                    out.append(symbol)
            joined[tuple(out)] = joined.get(tuple(out), 0) + count
        words = joined
    return merges


def gemma(text):
    text = text.replace(" ", "▁")
    words = collections.Counter(tuple(w) for w in re.findall(r"▁?\w+|[^\w\s]", text))
    merges = train_bpe(words, MERGES)
    chars = [c for c, _ in collections.Counter(c for w in words for c in w).most_common(500)]
    vocab = numbered(["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{b:02X}>" for b in range(256)] +
                     sorted(chars) + ["".join(m) for m in merges])
    merges = [m for m in merges if m[0] in vocab and m[1] in vocab]
    specials = [added(t, vocab[t]) for t in ("<pad>", "<eos>", "<bos>", "<unk>")]
    return document(
        {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
         "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
         "ignore_merges": False, "vocab": vocab, "merges": [list(m) for m in merges]},
        specials,
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        post_processor=template("<bos>", "<eos>", vocab, ["<bos>", "A", "<bos>1", "B"]),
        decoder={"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})


def unigram_pieces(text, n):
    """The substrings of words that save most, with the logarithms of their shares."""
    counts = collections.Counter()
    words = collections.Counter("▁" + w for w in text.split())
    for word, count in words.items():
        for i in range(len(word)):
            for j in range(i + 1, min(len(word), i + 8) + 1):
                counts[word[i:j]] += count
    chars = sorted((p for p in counts if len(p) == 1), key=lambda p: (-counts[p], p))[:600]
    best = sorted((p for p in counts if len(p) > 1), key=lambda p: (-counts[p] * (len(p) - 1), p))
    chosen = sorted(chars + best[:n], key=lambda p: (-counts[p], p))
    # Scores of few digits: no library rounds them differently.
    return [[p, -round(2 + 11 * i / len(chosen), 4)] for i, p in enumerate(chosen)]


class DoubleArray:
    """A trie as darts-clone lays it out: a unit is an offset, a flag and a label."""

    def __init__(self, entries):
        self.units, self.used = [0], [True]
        self.build(0, sorted(entries), 0)

    def fit(self, n):
        while len(self.units) <= n:
            self.units.append(0)
            self.used.append(False)

    def build(self, node, entries, depth):
        labels = sorted({key[depth] if depth < len(key) else 0 for key, _ in entries})
        base = self.find_base(node, labels)
        offset = base ^ node
        self.units[node] |= offset << 10
        for label in labels:
            self.fit(base ^ label)
            self.used[base ^ label] = True
        for label in labels:
            below = [e for e in entries if (e[0][depth] if depth < len(e[0]) else 0) == label]
            if label == 0:
                self.units[node] |= 1 << 8
                self.units[base] = 1 << 31 | below[0][1]
            else:
                self.units[base ^ label] |= label
                self.build(base ^ label, below, depth + 1)

    def find_base(self, node, labels):
        base = 1
        while True:
            taken = any((base ^ label) < len(self.used) and self.used[base ^ label]
                        for label in labels)
            if not taken and base ^ node < 1 << 21 and base not in (0, node):
                self.fit(base)
                return base
            base += 1


def charsmap():
    """NFKC of some blocks, white space, and controls that go: the rules of nmt_nfkc in small."""
    rules = {}
    for c in [*range(0xa0, 0x180), *range(0x2000, 0x2070), *range(0x2150, 0x2180),
              *range(0x2460, 0x2490), *range(0x3000, 0x3002), *range(0xff01, 0xffa0), 0xfb01,
              0xfb02, 0x2122]:
        text = unicodedata.normalize("NFKC", chr(c))
        if text != chr(c):
            rules[chr(c)] = text
    rules |= {c: " " for c in "\t\n\r\u00a0\u200b\u2028\u3000"}
    rules |= {chr(c): "" for c in (*range(1, 9), 0x0b, 0x1f, 0x7f, 0xad)}
    for base in "aeiouAEIOU":
        for mark in "\u0300\u0301\u0308":
            rules[base + mark] = unicodedata.normalize("NFC", base + mark)
    pool, entries, places = b"", [], {}
    for key, text in sorted(rules.items()):
        if text not in places:
            places[text] = len(pool)
            pool += text.encode() + b"\0"
        entries.append((key.encode(), places[text]))
    units = DoubleArray(entries).units
    units += [0] * (-len(units) % 256)
    trie = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + pool).decode()


def xlm_roberta(text):
    pieces = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    pieces += unigram_pieces(unicodedata.normalize("NFKC", text), 1200)
    pieces.append(["<mask>", 0.0])
    vocab = numbered(p for p, _ in pieces)
    specials = [added(t, vocab[t]) for t in ("<s>", "<pad>", "</s>", "<unk>")]
    specials.append(added("<mask>", vocab["<mask>"], lstrip=True))
    return document(
        {"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": False}, specials,
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": charsmap()},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always",
             "split": True}]},
        post_processor=template("<s>", "</s>", vocab, ["<s>", "A", "</s>", "</s>", "B", "</s>"]),
        decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always",
                 "split": True})


def deberta(text):
    pieces = [["[PAD]", 0.0], ["[CLS]", 0.0], ["[SEP]", 0.0], ["[UNK]", 0.0]]
    pieces += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    pieces += unigram_pieces(text, 800)
    vocab = numbered(p for p, _ in pieces)
    specials = [added(t, vocab[t]) for t in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    specials.append(added("[MASK]", len(vocab), normalized=True))
    return document(
        {"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": True}, specials,
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Nmt"},
            {"type": "NFKC"}]},
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                       "split": False},
        post_processor=template("[CLS]", "[SEP]", vocab),
        decoder={"type": "Sequence", "decoders": [
            {"type": "ByteFallback"},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
             "split": False}]})


def splits(behavior, invert):
    """WordLevel: every piece is unknown but for some, so that the cuts show in the count."""
    words = ["[UNK]", "a", "b", "-", "a-", "-a", "--", "b-", "-b", "a-b", "1", "2", "12", " ", "x",
             "the", "and", "of", "."]
    return document(
        {"type": "WordLevel", "unk_token": "[UNK]", "vocab": numbered(words)},
        normalizer={"type": "NFD"},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "CharDelimiterSplit", "delimiter": " "},
            {"type": "Split", "pattern": {"String": "-"}, "behavior": behavior, "invert": invert},
            {"type": "Split", "pattern": {"Regex": r"\d\d?|\s"}, "behavior": behavior,
             "invert": invert}]})


BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")

TEXTS = [
    "", " ", "a", "\n", "Hello, world! How's it going?", "  two  spaces  and tabs\t\there \r\n",
    "naïve café résumé Ångström ÀÉÎÕÜ", "e\u0301a\u0308 a\u0323\u0302 \u1e69 s\u0323\u0307 s\u0307\u0323",
    "你好,世界。我爱自然语言处理!", "日本語のテキスト、カタカナ", "한국어 텍스트 \u1100\u1161\u11a8", "ภาษาไทยไม่มีช่องว่าง",
    "हिन्दी में पाठ", "עִבְרִית שָׁלוֹם", "العَرَبِيَّة", "Ελληνικά ΣΊΣΥΦΟΣ ς", "Русский ЁЖИК", "İstanbul ıI",
    "ﬁ ﬂ ½ ① ㎏ ℌ Ａｂｃ１２３ ﷺ", "😀😃👨‍👩‍👧‍👦🏳️‍🌈🇩🇪👍🏽", "a\u200bb\u200dd\ufeffe\u00adf", "\u0001\u001f\u007f\u0085\u00a0\u2028\u3000x",
    "\u180e\u2003\u202fy", "x\u0000y", "[CLS] [SEP] text [MASK]text[MASK] . [PAD]",
    "<s>hello</s> <mask> a  <mask>b <pad><unk>", "Café Cafés café", "3.14159 1,000,000 ١٢٣ Ⅷ ²³",
    "foo_bar-baz/qux.py {x: [1,2]}", "https://example.com/a?q=1#frag",
    "antidisestablishmentarianism", "a" * 101, "." * 40, "\u0301\u0301 x\u0301\u0301",
    "it's IT'S we'LL don't \u017fs", "\u2581marked ▁x", "\U00020000\U0002f800 㐀", "\ufffd\ue000", "\r\n\r\na\r\nb",
    "a-b--a-1 12a123 -", "-a- --b", "x the and of . 1-2", "12", "to be, or not to be: that is the question",
    "    four spaces   three  two", "<|startoftext|>A photo of a cat<|endoftext|> dog", "ｶﾞﾊﾟ ẞß ǅ",
    "The quick brown fox jumps over the lazy dog. And then it slept."]


def cases():
    rng = random.Random(4)
    alphabet = [chr(c) for c in (*range(0x20, 0x7f), *range(0x20, 0x7f), *range(0xa0, 0x180),
                                 *range(0x300, 0x310), *range(0x391, 0x3c9), *range(0x410, 0x44f),
                                 *range(0x4e00, 0x4e20), *range(0x1f600, 0x1f610))]
    out = [{"text": text, "special": True} for text in TEXTS]
    for n in (3, 10, 30):
        out += [{"text": "".join(rng.choice(alphabet) for _ in range(n)), "special": True}
                for _ in range(5)]
    for i in range(0, len(TEXTS), 4):
        pair = TEXTS[(i * 7 + 5) % len(TEXTS)]
        out.append({"text": TEXTS[i], "special": False})
        out.append({"text": TEXTS[i], "pair": pair, "special": True})
        out.append({"text": TEXTS[i], "pair": pair, "special": False})
    for n in (5, 8, 9, 12):
        out.append({"text": TEXTS[4], "max": n, "special": True})
        out.append({"text": TEXTS[43], "pair": TEXTS[47], "max": n, "special": True})
        out.append({"text": TEXTS[47], "pair": TEXTS[4], "max": n, "special": True})
        out.append({"text": TEXTS[2], "pair": TEXTS[47], "max": n, "special": True})
    return out


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (HERE / name).write_text(text + "\n", encoding="utf-8")


def main():
    text = corpus(sys.argv[1])
    for make in (bert, bert_cased, roberta, modernbert, clip, subword_bpe, gemma, xlm_roberta,
                 deberta):
        write(f"{make.__name__}.tokenizer.json", make(text))
    for behavior in BEHAVIORS:
        for invert in (False, True):
            name = "split_" + re.sub("(?<!^)(?=[A-Z])", "_", behavior).lower()
            write(f"{name}{'_inverted' if invert else ''}.tokenizer.json",
                  splits(behavior, invert))
    write("texts.json", cases())


if __name__ == "__main__":
    main()
