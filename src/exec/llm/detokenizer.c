/* detokenizer.c: bytes of tokens to whole UTF-8 characters. */
#include "base/utf8.h"
#include "exec/llm/tokenizer_int.h"
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

void detokenizer_init(struct detokenizer *d, const struct tokenizer *tok, unsigned flags,
                      bool at_start)
{
    *d = (struct detokenizer){.tok = tok, .flags = flags, .at_start = at_start};
}

/* One U+FFFD for each longest beginning of a character that is not continued (Unicode 15,
 * section 3.9, U+FFFD substitution of maximal subparts). */
static sl_status push_byte(struct detokenizer *d, char byte, struct sl_buf *out)
{
    for (;;) {
        uint32_t codepoint;
        d->held[d->n_held++] = byte;
        if (sl_utf8_decode(d->held, d->n_held, &codepoint) > 0) {
            size_t n = d->n_held;
            d->n_held = 0;
            return sl_buf_add(out, d->held, n);
        }
        /* more bytes may complete it */
        if (sl_utf8_complete(d->held, d->n_held) == 0) return SL_OK;
        bool is_alone = d->n_held == 1;
        d->n_held = 0;
        sl_status status = sl_buf_adds(out, REPLACEMENT);
        if (status != SL_OK || is_alone) return status;
    }
}

sl_status detokenizer_push(struct detokenizer *d, int32_t id, struct sl_buf *out)
{
    const char *piece;
    size_t n = tokenizer_piece(d->tok, id, d->flags, &piece);
    if (n == 0) return SL_OK;
    struct detokenizer before = *d;
    size_t len_before = out->len;
    if (d->at_start && d->tok->adds_space && piece[0] == ' ') {
        piece++;
        n--;
    }
    d->at_start = false;
    sl_status status = SL_OK;
    if (d->n_held == 0 && sl_utf8_valid(piece, n))
        status = sl_buf_add(out, piece, n);
    else
        for (size_t i = 0; i < n && status == SL_OK; i++) status = push_byte(d, piece[i], out);
    if (status != SL_OK) {
        sl_buf_truncate(out, len_before);
        *d = before;
    }
    return status;
}

sl_status detokenizer_finish(struct detokenizer *d, struct sl_buf *out)
{
    sl_status status = d->n_held > 0 ? sl_buf_adds(out, REPLACEMENT) : SL_OK;
    if (status == SL_OK) d->n_held = 0;
    return status;
}
