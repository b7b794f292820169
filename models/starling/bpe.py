"""Byte-level byte-pair encoding in the manner of GPT-2: training, encoding, decoding.

Token 0 is the control token that begins and ends every document, tokens 1..256 are the bytes, and
each later token is the merge of two earlier ones. Tokens are spelled in GPT-2's byte-to-unicode
alphabet, as GGUF stores them.
"""
from collections import Counter, defaultdict

import regex

EOT = "<|endoftext|>"
EOT_ID = 0
SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def byte_alphabet():
    """Return GPT-2's list of 256 printable characters, indexed by byte value."""
    printable_ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    alphabet = {byte: chr(byte) for first, last in printable_ranges
                for byte in range(ord(first), ord(last) + 1)}
    for n, byte in enumerate(b for b in range(256) if b not in alphabet):
        alphabet[byte] = chr(256 + n)
    return [alphabet[byte] for byte in range(256)]


ALPHABET = byte_alphabet()
BYTE_OF = {char: byte for byte, char in enumerate(ALPHABET)}


def spell(text):
    """Spell the UTF-8 bytes of `text` in the byte alphabet."""
    return "".join(ALPHABET[byte] for byte in text.encode("utf-8"))


def merge_pair(symbols, pair):
    """Return `symbols` (list of str) with every occurrence of `pair` joined, left to right."""
    merged, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            merged.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


class _PairCounts:
    """How often each adjacent pair of symbols occurs, kept up to date while words are merged."""

    def __init__(self, word_counts):
        self.words = [(list(word), count) for word, count in sorted(word_counts.items())]
        self.counts = Counter()
        self.where = defaultdict(set)  # pair -> indices into self.words
        for index in range(len(self.words)):
            self._add(index, +1)

    def best(self):
        """The most frequent pair; ties go to the greatest spelling, so the result is determined."""
        return max(self.counts, key=lambda pair: (self.counts[pair], pair))

    def merge(self, pair):
        """Join `pair` in every word that holds it."""
        for index in list(self.where[pair]):
            self._add(index, -1)
            symbols, count = self.words[index]
            self.words[index] = (merge_pair(symbols, pair), count)
            self._add(index, +1)

    def _add(self, index, sign):
        symbols, count = self.words[index]
        for pair in zip(symbols, symbols[1:]):
            self.counts[pair] += sign * count
            if self.counts[pair] == 0:
                del self.counts[pair]
            if sign > 0:
                self.where[pair].add(index)
            else:
                self.where[pair].discard(index)


def train_merges(documents, n_vocab):
    """Learn from `documents` the merges (list of (str, str)) that fill `n_vocab` tokens."""
    word_counts = Counter()
    for document in documents:
        word_counts.update(spell(word) for word in SPLIT.findall(document))
    pairs, merges = _PairCounts(word_counts), []
    while 1 + len(ALPHABET) + len(merges) < n_vocab:
        merges.append(pairs.best())
        pairs.merge(merges[-1])
    return merges


class Tokenizer:
    """Encodes text to token ids and back. `tokens[i]` is the spelling of token i."""

    def __init__(self, merges):
        self.merges = [tuple(merge) for merge in merges]
        self.tokens = [EOT, *ALPHABET, *(left + right for left, right in self.merges)]
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.cache = {}

    def encode(self, text):
        """Token ids of `text`, without the control token."""
        return [token for word in SPLIT.findall(text) for token in self._encode_word(word)]

    def encode_documents(self, documents):
        """Ids of all documents in a row, each begun by EOT_ID, and one EOT_ID after the last."""
        ids = []
        for document in documents:
            ids.append(EOT_ID)
            ids.extend(self.encode(document))
        return ids + [EOT_ID]

    def decode(self, ids):
        """The text of `ids` without control tokens; a character cut in two becomes U+FFFD."""
        spelled = "".join(self.tokens[index] for index in ids if index != EOT_ID)
        return bytes(BYTE_OF[char] for char in spelled).decode("utf-8", errors="replace")

    def _encode_word(self, word):
        if word not in self.cache:
            symbols = list(spell(word))
            while len(symbols) > 1:
                pair = min(zip(symbols, symbols[1:]),
                           key=lambda p: self.ranks.get(p, len(self.ranks)))
                if pair not in self.ranks:
                    break
                symbols = merge_pair(symbols, pair)
            self.cache[word] = [self.ids[symbol] for symbol in symbols]
        return self.cache[word]
