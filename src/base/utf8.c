/* utf8.c: decoding by the table of RFC 3629, section 4: the first byte fixes the length and the
 * range of the second. */
#include "base/utf8.h"
#include <string.h>

struct lead {
    size_t len; /* 0: no sequence starts with this byte */
    unsigned char second_min, second_max;
};

static struct lead lead_of(unsigned char c)
{
    if (c < 0x80) return (struct lead){1, 0, 0};
    if (c < 0xc2) return (struct lead){0, 0, 0};
    if (c < 0xe0) return (struct lead){2, 0x80, 0xbf};
    if (c == 0xe0) return (struct lead){3, 0xa0, 0xbf}; /* less would be overlong */
    if (c == 0xed) return (struct lead){3, 0x80, 0x9f}; /* more would be a surrogate */
    if (c < 0xf0) return (struct lead){3, 0x80, 0xbf};
    if (c == 0xf0) return (struct lead){4, 0x90, 0xbf}; /* less would be overlong */
    if (c < 0xf4) return (struct lead){4, 0x80, 0xbf};
    if (c == 0xf4) return (struct lead){4, 0x80, 0x8f}; /* more would be past U+10FFFF */
    return (struct lead){0, 0, 0};
}

/* How many of the first n bytes fit the sequence that s[0] starts: lead.len when it is whole. */
static size_t n_fitting(const unsigned char *s, size_t n, struct lead lead)
{
    size_t i = 1;
    for (; i < n && i < lead.len; i++) {
        unsigned char min = i == 1 ? lead.second_min : 0x80;
        unsigned char max = i == 1 ? lead.second_max : 0xbf;
        if (s[i] < min || s[i] > max) break;
    }
    return i;
}

size_t sl_utf8_decode(const char *s, size_t n, uint32_t *out_codepoint)
{
    const unsigned char *u = (const unsigned char *)s;
    struct lead lead = lead_of(u[0]);
    if (lead.len == 1) {
        *out_codepoint = u[0];
        return 1;
    }
    if (lead.len == 0 || n_fitting(u, n, lead) != lead.len) return 0;
    uint32_t codepoint = u[0] & (0x7fu >> lead.len);
    for (size_t i = 1; i < lead.len; i++) codepoint = codepoint << 6 | (u[i] & 0x3fu);
    *out_codepoint = codepoint;
    return lead.len;
}

size_t sl_utf8_encode(uint32_t codepoint, char out[4])
{
    if (codepoint < 0x80) {
        out[0] = (char)codepoint;
        return 1;
    }
    if (codepoint > 0x10ffff || (codepoint >= 0xd800 && codepoint <= 0xdfff)) return 0;
    size_t len = codepoint < 0x800 ? 2 : codepoint < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (codepoint & 0x3f));
        codepoint >>= 6;
    }
    out[0] = (char)((0xf00u >> len & 0xff) | codepoint);
    return len;
}

bool sl_utf8_valid(const char *s, size_t n)
{
    uint32_t codepoint;
    for (size_t i = 0; i < n;) {
        size_t len = sl_utf8_decode(s + i, n - i, &codepoint);
        if (len == 0) return false;
        i += len;
    }
    return true;
}

void sl_utf8_make_printable(char *s, size_t n, char replacement)
{
    uint32_t codepoint = 0;
    for (size_t i = 0, len; i < n; i += len) {
        len = sl_utf8_decode(s + i, n - i, &codepoint);
        bool printable = len > 0 && codepoint >= 0x20 && (codepoint < 0x7f || codepoint > 0x9f);
        if (len == 0) len = 1;
        if (!printable) memset(s + i, replacement, len);
    }
}

size_t sl_utf8_complete(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char *start = u + n - back;
        if ((*start & 0xc0) == 0x80) continue; /* inside a sequence: look for its first byte */
        struct lead lead = lead_of(*start);
        bool open = lead.len > back && n_fitting(start, back, lead) == back;
        return open ? n - back : n;
    }
    return n;
}
