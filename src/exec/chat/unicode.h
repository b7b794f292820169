/* unicode.h: what Python's str methods know about code points: classes and case.
 * Floor: exec/chat.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool unicode_is_space(uint32_t c); /* str.isspace */
bool unicode_is_alpha(uint32_t c);
bool unicode_is_decimal(uint32_t c);
bool unicode_is_digit(uint32_t c);
bool unicode_is_numeric(uint32_t c);
bool unicode_is_alnum(uint32_t c);
bool unicode_is_printable(uint32_t c);
bool unicode_is_lower(uint32_t c);
bool unicode_is_upper(uint32_t c);
bool unicode_is_title(uint32_t c);
bool unicode_is_case_ignorable(uint32_t c);

enum unicode_case { UNICODE_UPPER, UNICODE_LOWER, UNICODE_TITLE };
#define UNICODE_CASE_MAX 3
/* The full mapping: 1 to UNICODE_CASE_MAX code points; returns how many. The Greek final sigma is
 * the caller's, who knows what stands around it. */
size_t unicode_to_case(uint32_t c, enum unicode_case to, uint32_t out[UNICODE_CASE_MAX]);
