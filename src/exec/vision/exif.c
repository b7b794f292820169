/* exif.c: the one tag of EXIF that changes what a picture shows. */
#include "exec/vision/image_int.h"
#include <string.h>

#define MARKER_APP1 0xe1
#define MARKER_SOS 0xda
#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3
#define ENTRY_BYTES 12 /* tag, type, count, value or offset (TIFF 6.0, section 2) */

/* A TIFF block with its byte order. */
struct tiff {
    const uint8_t *bytes;
    size_t n;
    bool big_endian;
};

static uint32_t read_int(const struct tiff *t, size_t at, size_t n_bytes)
{
    uint32_t v = 0;
    for (size_t i = 0; i < n_bytes; i++)
        v |= (uint32_t)t->bytes[at + i] << 8 * (t->big_endian ? n_bytes - 1 - i : i);
    return v;
}

/* The first directory's entries, one after the other. */
static int orientation_of(const struct tiff *t)
{
    if (t->n < 8) return EXIF_UPRIGHT;
    size_t at = read_int(t, 4, 4);
    if (at > t->n - 2) return EXIF_UPRIGHT;
    size_t n_entries = read_int(t, at, 2);
    at += 2;
    for (size_t i = 0; i < n_entries && t->n - at >= ENTRY_BYTES; i++, at += ENTRY_BYTES) {
        if (read_int(t, at, 2) != TAG_ORIENTATION) continue;
        uint32_t value = read_int(t, at + 8, 2);
        bool fits = read_int(t, at + 2, 2) == TYPE_SHORT && value >= 1 && value <= 8;
        return fits ? (int)value : EXIF_UPRIGHT;
    }
    return EXIF_UPRIGHT;
}

static int orientation_in_app1(const uint8_t *body, size_t n)
{
    static const char magic[6] = "Exif\0";
    if (n < sizeof magic + 8 || memcmp(body, magic, sizeof magic) != 0) return EXIF_UPRIGHT;
    struct tiff t = {body + sizeof magic, n - sizeof magic, body[sizeof magic] == 'M'};
    bool tiff = memcmp(t.bytes, t.big_endian ? "MM\0*" : "II*\0", 4) == 0;
    return tiff ? orientation_of(&t) : EXIF_UPRIGHT;
}

int exif_orientation(const uint8_t *jpeg, size_t n)
{
    static const char magic[] = "Exif";
    /* Segments: 0xff, marker, length of what follows with these two bytes (ISO 10918-1, B.1.1.4).
     */
    for (size_t at = 2; n >= 4 && at <= n - 4 && jpeg[at] == 0xff;) {
        uint8_t marker = jpeg[at + 1];
        size_t length = (size_t)jpeg[at + 2] << 8 | jpeg[at + 3];
        if (marker == MARKER_SOS || length < 2 || length > n - at - 2) break;
        const uint8_t *body = jpeg + at + 4;
        if (marker == MARKER_APP1 && length >= 6 && memcmp(body, magic, 4) == 0)
            return orientation_in_app1(body, length - 2);
        at += 2 + length;
    }
    return EXIF_UPRIGHT;
}
