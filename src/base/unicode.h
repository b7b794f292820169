/* unicode.h: classes and case of code points, as Python's str methods and the Unicode Character
 * Database (https://www.unicode.org/reports/tr44) have them; normal forms are unicode_norm.h's.
 * Floor: base.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool sl_unicode_is_space(uint32_t c); /* str.isspace */
bool sl_unicode_is_alpha(uint32_t c);
bool sl_unicode_is_decimal(uint32_t c);
bool sl_unicode_is_digit(uint32_t c);
bool sl_unicode_is_numeric(uint32_t c);
bool sl_unicode_is_alnum(uint32_t c);
bool sl_unicode_is_printable(uint32_t c);
bool sl_unicode_is_lower(uint32_t c);
bool sl_unicode_is_upper(uint32_t c);
bool sl_unicode_is_title(uint32_t c);
bool sl_unicode_is_case_ignorable(uint32_t c);

/* The property White_Space, which leaves out four controls (U+001C to U+001F) that str.isspace
 * counts. */
bool sl_unicode_is_white_space(uint32_t c);
bool sl_unicode_is_punctuation(uint32_t c);     /* general categories P* */
bool sl_unicode_is_mark(uint32_t c);            /* M* */
bool sl_unicode_is_mark_nonspacing(uint32_t c); /* Mn */
bool sl_unicode_is_number(uint32_t c);          /* N*: Nd, Nl, No */
bool sl_unicode_is_format(uint32_t c);          /* Cf and Co: format controls, private use */
/* What \w means in regular expressions (UTS 18, annex C): Alphabetic, M*, Nd, Pc, and the two
 * joiners. */
bool sl_unicode_is_word(uint32_t c);

enum sl_unicode_case { SL_UNICODE_UPPER, SL_UNICODE_LOWER, SL_UNICODE_TITLE };
#define SL_UNICODE_CASE_MAX 3
/* The full mapping: 1 to SL_UNICODE_CASE_MAX code points; returns how many. The Greek final sigma
 * is the caller's, who knows what stands around it. */
size_t sl_unicode_to_case(uint32_t c, enum sl_unicode_case to, uint32_t out[SL_UNICODE_CASE_MAX]);
