/* member_test.c: a member's entry: which of two is later, what may stand in it, its JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "grid/member.h"
#include "net/pki.h"
#include "support/members.h"

/* Merging them either way gives `later`. */
static void assert_later(const struct member *later, const struct member *earlier)
{
    struct member up = *earlier, same = *later;
    member_merge(&up, later);
    member_merge(&same, earlier);
    assert_true(member_equal(&up, later));
    assert_true(member_equal(&same, later));
    assert_false(member_equal(later, earlier));
    assert_true(member_hash(later) != member_hash(earlier));
}

static void later_versions_win_and_removal_wins_over_them(void **state)
{
    (void)state;
    struct member a = member_made(1), b = a;
    assert_true(member_equal(&a, &b));
    assert_true(member_hash(&a) == member_hash(&b));
    b.version = 2;
    assert_later(&b, &a);
    a.removed = true;
    assert_later(&a, &b);
    b.joins = 2; /* admitted anew */
    assert_later(&b, &a);
}

static void words_and_place_are_joined_apart(void **state)
{
    (void)state;
    struct member a = member_made(1), b = a;
    strcpy(a.labels, "site=bonn"); /* a person, at one gateway */
    a.version = 2;
    strcpy(b.addresses, "10.0.0.1:4230"); /* the machine, at another, several times */
    b.place_version = 7;
    memcpy(b.place_origin, b.id, sizeof b.place_origin);
    struct member ab = a, ba = b;
    member_merge(&ab, &b);
    member_merge(&ba, &a);
    assert_true(member_equal(&ab, &ba));
    assert_true(member_hash(&ab) == member_hash(&ba));
    assert_string_equal(ab.labels, "site=bonn");
    assert_string_equal(ab.addresses, "10.0.0.1:4230");
    assert_int_equal(member_check(&ab, NULL), SL_OK);
}

static void two_different_entries_are_never_equal(void **state)
{
    (void)state;
    struct member base = member_made(1), v[8];
    for (int i = 0; i < 8; i++) v[i] = base;
    strcpy(v[0].name, "other");
    strcpy(v[1].labels, "a=b");
    strcpy(v[2].addresses, "127.0.0.1:1");
    strcpy(v[3].bus, "tls://a:1");
    strcpy(v[4].routes, "a:1");
    v[5].duty = NODE_CORDONED;
    v[6].is_gateway = true;
    v[7].joined_ms++;
    for (int i = 0; i < 8; i++) {
        struct member up = base, down = v[i];
        member_merge(&up, &v[i]);
        member_merge(&down, &base);
        assert_true(member_equal(&up, &down));
        assert_false(member_equal(&base, &v[i]));
        assert_true(member_hash(&base) != member_hash(&v[i]));
    }
}

static void ids_are_those_of_certificates(void **state)
{
    (void)state;
    struct pki_key *key = NULL;
    char id[PKI_ID_SIZE];
    struct member member = member_made(3);
    assert_int_equal(sizeof id, GRID_ID_SIZE);
    assert_int_equal(pki_key_create(&key, NULL), SL_OK);
    pki_key_id(key, id);
    assert_true(pki_id_valid(id));
    assert_true(pki_id_valid(member.id));
    pki_key_destroy(key);
    assert_false(pki_id_valid("n0123456789abc"));
    assert_false(pki_id_valid("nabc"));
    assert_false(pki_id_valid(""));
}

static void an_id_that_is_not_its_keys_is_refused(void **state)
{
    (void)state;
    struct member member = member_made(1), other = member_made(2);
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(member_check(&member, &err), SL_OK);
    memcpy(member.id, other.id, sizeof member.id);
    assert_int_equal(member_check(&member, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "the key"));
}

static void names_are_text_of_some_length(void **state)
{
    (void)state;
    struct member member = member_made(1);
    char text[GRID_NAME_SIZE + 1];
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(member_set_name(&member, "  berlin-7 \n", &err), SL_OK);
    assert_string_equal(member.name, "berlin-7");
    assert_int_equal(member_set_name(&member, " ", &err), SL_INVALID);
    assert_int_equal(member_set_name(&member, "a\033[2Jb", &err), SL_INVALID);
    assert_int_equal(member_set_name(&member, "a\xff", &err), SL_INVALID);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(member_set_name(&member, text, &err), SL_INVALID);
    text[sizeof text - 2] = '\0';
    assert_int_equal(member_set_name(&member, text, &err), SL_OK);
}

static void labels_are_words(void **state)
{
    (void)state;
    const char *const good[] = {"site=berlin", "tier=", "k8s.io/os=linux"};
    const char *const bad[] = {"site", "=berlin", "site=a b", "site=a,b", "site=\033"};
    const char *many[GRID_LABELS_MAX + 1];
    struct member member = member_made(1);
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(member_set_labels(&member, good, 3, &err), SL_OK);
    assert_string_equal(member.labels, "site=berlin,tier=,k8s.io/os=linux");
    assert_int_equal(member_check(&member, &err), SL_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(member_set_labels(&member, &bad[i], 1, &err), SL_INVALID);
    assert_string_equal(member.labels, "site=berlin,tier=,k8s.io/os=linux");
    for (int i = 0; i <= GRID_LABELS_MAX; i++) many[i] = "a=b";
    assert_int_equal(member_set_labels(&member, many, GRID_LABELS_MAX + 1, &err), SL_LIMIT);
}

static void lists_are_read_and_grown_within_bounds(void **state)
{
    (void)state;
    char list[8] = "", item[4];
    assert_false(member_list_item(list, 0, item, sizeof item));
    assert_true(member_list_add(list, sizeof list, "ab"));
    assert_true(member_list_add(list, sizeof list, "cde"));
    assert_false(member_list_add(list, sizeof list, "f"));
    assert_string_equal(list, "ab,cde");
    assert_true(member_list_item(list, 1, item, sizeof item));
    assert_string_equal(item, "cde");
    assert_false(member_list_item(list, 1, item, 3));
    assert_false(member_list_item(list, 2, item, sizeof item));
}

/* NULL: it cannot be read. */
static const struct member *read_text(const char *text, struct sl_err *err)
{
    static struct member member;
    struct sl_json_value *value = NULL;
    assert_int_equal(sl_json_parse(text, strlen(text), &value, NULL), SL_OK);
    sl_status status = member_read(value, &member, err);
    sl_json_free(value);
    if (status != SL_OK) assert_int_equal(status, SL_CORRUPT);
    return status == SL_OK ? &member : NULL;
}

static void json_keeps_everything(void **state)
{
    (void)state;
    struct member member = member_made(5);
    struct sl_json json;
    struct sl_buf text;
    struct sl_err err = SL_ERR_INIT;
    member.is_gateway = true;
    member.duty = NODE_DRAINING;
    member.removed = true;
    strcpy(member.name, "\"gate\\way\" \xc3\xa9");
    strcpy(member.labels, "a=b");
    strcpy(member.addresses, "10.0.0.1:4230,[fd00::1]:4230");
    strcpy(member.bus, "tls://10.0.0.1:4222");
    strcpy(member.routes, "10.0.0.1:6222");
    sl_buf_init(&text, MEMBER_JSON_BYTES_MAX);
    sl_json_begin(&json, &text, false);
    member_put(&json, &member);
    assert_int_equal(sl_json_end(&json), SL_OK);
    const struct member *back = read_text(text.data, &err);
    assert_non_null(back);
    assert_true(member_equal(back, &member));
    assert_string_equal(back->id, member.id);
    assert_true(member_hash(back) == member_hash(&member));
    sl_buf_done(&text);
}

static void what_is_no_member_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[]",
        "{}",
        "{\"id\":7}",
        "{\"id\":\"naaaaaaaaaaaaa\",\"key\":\"00\",\"name\":\"x\"}",
        "{\"id\":\"nykaxtyoojbqlq\",\"name\":\"a\\u0000b\"}",
        "{\"id\":\"a text that is far longer than an id may be\"}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sl_err err = SL_ERR_INIT;
        assert_null(read_text(texts[i], &err));
        assert_true(err.text[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_versions_win_and_removal_wins_over_them),
        cmocka_unit_test(words_and_place_are_joined_apart),
        cmocka_unit_test(two_different_entries_are_never_equal),
        cmocka_unit_test(ids_are_those_of_certificates),
        cmocka_unit_test(an_id_that_is_not_its_keys_is_refused),
        cmocka_unit_test(names_are_text_of_some_length),
        cmocka_unit_test(labels_are_words),
        cmocka_unit_test(lists_are_read_and_grown_within_bounds),
        cmocka_unit_test(json_keeps_everything),
        cmocka_unit_test(what_is_no_member_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
