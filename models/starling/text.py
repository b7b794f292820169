"""Read the archive of Markdown books and turn each book into plain-text documents.

A document is one chapter, tale or fable: paragraphs separated by a blank line, straight quotes,
`--` for dashes, dialogue in double quotes, no headings and no markup.
"""
import re
import tarfile

HELD_OUT = ("Ozma of Oz", "The Christmas Angel")
"""Never trained on, nor used for the vocabulary. The first is in a series the model knows (four
other Oz books are trained on); the second is by an author it has never seen."""

LEFT_OUT = ("A Lady Of Quality", "Phantastes", "Hospital Sketches",
            "The Abbot's Ghost: A Christmas Story")
"""Not children's books; left out so that the little compute goes to the ones that are."""

N_CHARS_MIN = 200
"""Shorter sections are epigraphs, dedications and translators' notes."""

_HEADING = re.compile(r"^#{1,6}.*$", re.MULTILINE)
_RULE = re.compile(r"^[\s*_\-.]*$")
_THE_END = re.compile(r"^the end\W*$", re.IGNORECASE)
_CONTRACTIONS = (r"(?!(?:tis|twas|twere|twill|twould|em|im|un|cause|bout|Frisco|til|till|way|most"
                 r"|rithmetic)\b)")
_OPENING = re.compile(r"(?<![^\s(\-\"])'" + _CONTRACTIONS + r"(?=[\w\"(\-])")
_PLAIN = (("[\u2018\u2019`]", "'"), ("[\u201c\u201d]|''", '"'), ("\u2014|---+", "--"),
          ("[\u00a0\t]", " "), (r"\u2026|\.( \.){2,}", "..."), (r"[*_>]|^ +", ""))
_LOOSE_NOT = re.compile(r"\b(is|was|are|were|has|had|have|do|does|did|would|could|should|ca|wo|must"
                        r"|need) n't\b")
_CLOSING = re.compile(r"(?<=[.,!?;:\-)\"])'(?![A-Za-z])")


def read_books(path):
    """Return {title: raw Markdown} for every book in the tar.gz at `path`, in title order."""
    books = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive.getmembers():
            if member.isfile() and member.name.endswith(".md"):
                title = member.name.rsplit("/", 1)[-1][:-len(".md")]
                books[title] = archive.extractfile(member).read().decode("utf-8")
    return dict(sorted(books.items()))


def book_documents(markdown):
    """Split one book at its headings; return its cleaned documents (list of str) in their order."""
    body = markdown.split("\n-------\n", 1)[-1]
    body = _normalise_characters(body)
    if _speaks_in_single_quotes(body):
        body = _double_the_quotes(body)
    sections = (_clean_section(section) for section in _HEADING.split(body))
    return [section for section in sections if len(section) >= N_CHARS_MIN]


def split_books(books):
    """Return (train, held_out): dicts {title: list of documents} without the books in LEFT_OUT."""
    documents = {title: book_documents(raw) for title, raw in books.items()
                 if title not in LEFT_OUT}
    held_out = {title: documents.pop(title) for title in HELD_OUT}
    return documents, held_out


def _normalise_characters(text):
    """Undo UTF-8 read as Latin-1; map typographic quotes, dashes, spaces and dots to ASCII."""
    text = re.sub(r"[\u00c2-\u00c3][\u0080-\u00bf]",
                  lambda m: m.group().encode("latin-1").decode("utf-8"), text)
    for pattern, plain in _PLAIN:
        text = re.sub(pattern, plain, text, flags=re.MULTILINE)
    return _LOOSE_NOT.sub(r"\1n't", text)


def _speaks_in_single_quotes(text):
    """True for British-style books, whose dialogue opens with ' rather than "."""
    return len(re.findall(r"(?:^|\s)'[A-Z]", text)) > text.count('"') / 2


def _double_the_quotes(text):
    """Outer single quotes become double, inner double quotes single; apostrophes stay."""
    text = _CLOSING.sub("\0", _OPENING.sub("\0", text))
    return text.replace('"', "'").replace("\0", '"')


def _clean_section(section):
    """Drop rules and `The End`, squeeze spaces; return paragraphs joined by one blank line."""
    lines = (re.sub(r" {2,}", " ", line).strip() for line in section.split("\n"))
    lines = ["" if _RULE.match(line) or _THE_END.match(line) else line for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
