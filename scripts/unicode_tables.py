#!/usr/bin/env python3
"""Writes what Python knows of every code point as C tables: classes and case for src/base/unicode.c,
decomposition and composition for src/base/unicode_norm.c.

    python3 scripts/unicode_tables.py classes > src/base/unicode_tables.h
    python3 scripts/unicode_tables.py norm > src/base/unicode_norm_tables.h

The tables follow the Unicode version of the Python that runs this (3.11: Unicode 14).
"""
import sys
import unicodedata

LAST = 0x110000


def runs(points):
    """Points as (first, last, step): neighbours, or every second one where cases alternate."""
    points, out, i = sorted(points), [], 0
    while i < len(points):
        step = points[i + 1] - points[i] if i + 1 < len(points) else 1
        step = step if step in (1, 2) else 1
        j = i
        while j + 1 < len(points) and points[j + 1] - points[j] == step:
            j += 1
        if step == 2 and j - i < 2:
            j = i
            step = 1
        out.append((points[i], points[j], step))
        i = j + 1
    return out


def print_rows(kind, name, rows):
    print(f"static const struct {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        values = [f"{v:#x}" if v > 9 else str(v) for v in row]
        if kind == "unicode_special":
            values = [values[0], "{" + ", ".join(values[1:]) + "}"]
        text = " {" + ", ".join(values) + "},"
        if len(line) + len(text) > 100:
            print(line)
            line = "   "
        line += text
    print(line)
    print("};\n")


def scalars():
    return (chr(c) for c in range(LAST) if not 0xd800 <= c <= 0xdfff)


def print_set(name, test):
    print_rows("unicode_run", name, runs(ord(c) for c in scalars() if test(c)))


def print_case(name, convert):
    by_delta, special = {}, []
    for c in scalars():
        to = convert(c)
        if to == c:
            continue
        if len(to) == 1:
            by_delta.setdefault(ord(to) - ord(c), []).append(ord(c))
        else:
            special.append([ord(c)] + [ord(x) for x in to] + [0] * (3 - len(to)))
    rows = [(*r, delta) for delta, points in by_delta.items() for r in runs(points)]
    print_rows("unicode_shift", f"{name}_shift", sorted(rows))
    print_rows("unicode_special", f"{name}_special", special)


def print_classes():
    print(f"""/* unicode_tables.h: character classes and case mappings of Unicode {unicodedata.unidata_version}, as Python's str has
 * them. Written by scripts/unicode_tables.py; included by unicode.c only. Sorted by code point. */
#pragma once
#include <stdint.h>

struct unicode_run {{
    uint32_t first, last, step;
}};
struct unicode_shift {{
    uint32_t first, last, step;
    int32_t delta;
}};
struct unicode_special {{
    uint32_t from, to[3]; /* ends at a 0 */
}};

/* clang-format off */""")
    print_set("alpha", str.isalpha)
    print_set("decimal", str.isdecimal)
    print_set("digit", str.isdigit)
    print_set("numeric", str.isnumeric)
    print_set("unprintable", lambda c: not c.isprintable())
    print_set("is_lower", str.islower)
    print_set("is_upper", str.isupper)
    print_set("is_title", lambda c: unicodedata.category(c) == "Lt")
    category = unicodedata.category
    print_set("punctuation", lambda c: category(c)[0] == "P")
    print_set("mark", lambda c: category(c)[0] == "M")
    print_set("mark_nonspacing", lambda c: category(c) == "Mn")
    print_set("number", lambda c: category(c)[0] == "N")
    print_set("format", lambda c: category(c) in ("Cf", "Co"))
    print_set("letter_number", lambda c: category(c) == "Nl")
    print_set("connector", lambda c: category(c) == "Pc")
    print_set("case_ignorable", lambda c: ("a" + c + "\u03a3").lower()[-1] == "\u03c2"
              and ("a\u03a3" + c + "a").lower()[1] == "\u03c3"
              and not (c.islower() or c.isupper() or unicodedata.category(c) == "Lt"))
    print_case("upper", str.upper)
    print_case("lower", str.lower)
    print_case("title", str.title)
    print("/* clang-format on */")


HANGUL = range(0xac00, 0xd7a4)
"""Syllables are taken apart and put together by arithmetic (The Unicode Standard, 3.12)."""


def print_decompositions(name, form, rows):
    """Appends to the pool and prints (code point, where its mapping starts, its length)."""
    pool = []
    table = []
    for c, text in rows:
        table.append((ord(c), len(pool), len(text)))
        pool += map(ord, text)
    print(f"/* {form}" + (", where it differs from NFD */" if form == "NFKD" else " */"))
    print_rows("unicode_mapping", name, table)
    print_numbers("uint32_t", f"{name}_text", pool)


def print_numbers(kind, name, values):
    print(f"static const {kind} {name}[] = {{")
    line = "   "
    for value in values:
        text = f" {value:#x},"
        if len(line) + len(text) > 100:
            print(line)
            line = "   "
        line += text
    print(line)
    print("};\n")


def print_norm():
    print(f"""/* unicode_norm_tables.h: normalization data of Unicode {unicodedata.unidata_version}. Written by
 * scripts/unicode_tables.py; included by unicode_norm.c only. Sorted by code point. */
#pragma once
#include <stdint.h>

struct unicode_mapping {{
    uint32_t from;
    uint16_t at, len; /* in the table's text */
}};
struct unicode_pair {{
    uint32_t first, second, composed;
}};
struct unicode_class {{
    uint32_t first, last, ccc; /* canonical combining class; absent: 0 */
}};

/* clang-format off */""")
    normalize = unicodedata.normalize
    chars = [c for c in scalars() if ord(c) not in HANGUL]
    print_decompositions("canonical", "NFD", [
        (c, normalize("NFD", c)) for c in chars if normalize("NFD", c) != c])
    print_decompositions("compatible", "NFKD", [
        (c, normalize("NFKD", c)) for c in chars if normalize("NFKD", c) != normalize("NFD", c)])
    pairs = []
    for c in chars:
        parts = unicodedata.decomposition(c).split()
        if len(parts) == 2 and parts[0][0] != "<" and normalize("NFC", c) == c:
            pairs.append((int(parts[0], 16), int(parts[1], 16), ord(c)))
    print_rows("unicode_pair", "pairs", sorted(pairs))
    classes = []
    for c in scalars():
        ccc = unicodedata.combining(c)
        if ccc and classes and classes[-1][1] == ord(c) - 1 and classes[-1][2] == ccc:
            classes[-1][1] += 1
        elif ccc:
            classes.append([ord(c), ord(c), ccc])
    print_rows("unicode_class", "classes", classes)
    print("/* clang-format on */")


def main():
    kinds = {"classes": print_classes, "norm": print_norm}
    if len(sys.argv) != 2 or sys.argv[1] not in kinds:
        sys.exit("usage: unicode_tables.py classes | norm")
    kinds[sys.argv[1]]()


if __name__ == "__main__":
    sys.exit(main())
