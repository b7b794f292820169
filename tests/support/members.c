#include "net/pki.h"
#include "support/members.h"
#include "net/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

struct member member_made(int n)
{
    struct member member = {.joins = 1, .version = 1, .joined_ms = 1000 + n};
    unsigned char hash[SHA256_BYTES];
    assert_int_equal(sha256_of(&n, sizeof n, hash), SL_OK);
    sha256_hex(hash, member.key);
    pki_id_of_hash(hash, member.id);
    memcpy(member.origin, member.id, sizeof member.origin);
    snprintf(member.name, sizeof member.name, "member-%d", n);
    return member;
}
