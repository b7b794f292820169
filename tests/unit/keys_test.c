/* keys_test.c: API keys: what is stored, who is let in, what a reload changes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "access/keys.h"
#include "base/mem.h"
#include "grid/db.h"
#include "net/sha256.h"
#include "support/temp_dir.h"

#define NOW_MS INT64_C(1700000000000)

static struct db *open_db(void)
{
    struct db *db = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (db_open(temp_path("state.db"), NULL, &db, &err) != SL_OK) fail_msg("%s", err.text);
    return db;
}

static struct api_key make(struct db *db, struct keys_request request, char *secret)
{
    struct api_key key;
    struct sl_err err = SL_ERR_INIT;
    if (keys_make(db, &request, NOW_MS, secret, &key, &err) != SL_OK) fail_msg("%s", err.text);
    return key;
}

static struct keys *load(struct db *db)
{
    struct keys *keys = NULL;
    assert_int_equal(keys_create(&keys), SL_OK);
    assert_int_equal(keys_load(keys, db, 0, NULL), SL_OK);
    return keys;
}

/* Needs room for the text; a credential as clients send it. */
static const char *bearer(const char *secret)
{
    static char text[256];
    snprintf(text, sizeof text, "Bearer %s", secret);
    return text;
}

static void assert_refused(struct keys *keys, const char *credential, const char *why)
{
    struct api_key *key = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(keys_check(keys, credential, NOW_MS, &key, &err), SL_UNAUTHENTICATED);
    assert_null(key);
    if (!strstr(err.text, why)) fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void a_key_is_shown_once_and_kept_as_a_hash(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1], other[KEYS_SECRET_CHARS + 1];
    unsigned char hash[SHA256_BYTES];
    struct api_key key = make(db, (struct keys_request){.name = "alice"}, secret);
    assert_int_equal(strlen(secret), KEYS_SECRET_CHARS);
    assert_memory_equal(secret, "sl-", 3);
    assert_memory_equal(secret + 3, key.id, KEYS_ID_CHARS);
    assert_int_equal(strspn(secret + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                        "abcdefghijklmnopqrstuvwxyz"),
                     KEYS_SECRET_CHARS - 3);
    assert_int_equal(sha256_of(secret, KEYS_SECRET_CHARS, hash), SL_OK);
    struct keys_list *list;
    assert_int_equal(keys_read(db, &list, NULL), SL_OK);
    assert_int_equal(list->n, 1);
    assert_string_equal(list->v[0].id, key.id);
    assert_memory_equal(list->v[0].hash, hash, sizeof hash);
    keys_list_destroy(list);
    make(db, (struct keys_request){.name = "bob"}, other);
    assert_string_not_equal(secret, other);
    db_close(db);
    /* The secret part is nowhere in the files. */
    char command[TEMP_PATH_MAX + 128];
    snprintf(command, sizeof command, "grep -q %s %s*", secret + 3 + KEYS_ID_CHARS,
             temp_path("state.db"));
    assert_int_not_equal(system(command), 0);
    snprintf(command, sizeof command, "grep -q %s %s*", key.id, temp_path("state.db"));
    assert_int_equal(system(command), 0);
}

static void fields_survive_the_database(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1];
    make(db,
         (struct keys_request){.name = "J\xc3\xbcrgen",
                               .models = "qwen*,llama?",
                               .expires_ms = NOW_MS + 5,
                               .limits = {1, 2, 3},
                               .qos_class = 2},
         secret);
    struct keys *keys = load(db);
    struct api_key *key;
    assert_int_equal(keys_check(keys, bearer(secret), NOW_MS, &key, NULL), SL_OK);
    assert_string_equal(key->name, "J\xc3\xbcrgen");
    assert_string_equal(key->models, "qwen*,llama?");
    assert_true(key->created_ms == NOW_MS && key->expires_ms == NOW_MS + 5);
    assert_true(key->revoked_ms == 0 && key->last_used_ms == NOW_MS);
    assert_int_equal(key->limits.requests_per_min, 1);
    assert_int_equal(key->limits.tokens_per_min, 2);
    assert_int_equal(key->limits.concurrency, 3);
    assert_int_equal(key->quota.concurrency, 3);
    assert_int_equal(key->qos_class, 2);
    assert_ptr_equal(keys_find(keys, key->id), key);
    assert_null(keys_find(keys, "nobody"));
    keys_destroy(keys);
    db_close(db);
}

static void assert_not_made(struct db *db, struct keys_request request, sl_status expected)
{
    char secret[KEYS_SECRET_CHARS + 1] = "x";
    struct api_key key;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(keys_make(db, &request, NOW_MS, secret, &key, &err), expected);
    assert_true(err.text[0] != '\0');
}

static void bad_requests_make_no_key(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1], longest[2000];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_not_made(db, (struct keys_request){.name = NULL}, SL_INVALID);
    assert_not_made(db, (struct keys_request){.name = ""}, SL_INVALID);
    assert_not_made(db, (struct keys_request){.name = longest}, SL_INVALID);
    assert_not_made(db, (struct keys_request){.name = "a\nb"}, SL_INVALID);
    assert_not_made(db, (struct keys_request){.name = "\xff"}, SL_INVALID);
    assert_not_made(db, (struct keys_request){.name = "a", .models = longest}, SL_INVALID);
    assert_not_made(db, (struct keys_request){.name = "a", .expires_ms = NOW_MS}, SL_INVALID);
    assert_not_made(db, (struct keys_request){.name = "a", .limits = {-1, 0, 0}}, SL_INVALID);
    struct keys *keys = load(db);
    assert_false(keys_any(keys));
    keys_destroy(keys);
    make(db, (struct keys_request){.name = "a"}, secret);
    assert_not_made(db, (struct keys_request){.name = "a"}, SL_EXISTS);
    assert_int_equal(keys_revoke(db, "a", NOW_MS, NULL, NULL), SL_OK);
    make(db, (struct keys_request){.name = "a"}, secret);
    db_close(db);
}

static void a_credential_is_read_as_clients_send_it(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1], text[256];
    make(db, (struct keys_request){.name = "a"}, secret);
    struct keys *keys = load(db);
    struct api_key *key;
    static const char *const good[] = {"Bearer %s", "bearer %s", "BEARER   %s ", "%s", " %s\t"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const char *hole = strchr(good[i], '%');
        snprintf(text, sizeof text, "%.*s%s%s", (int)(hole - good[i]), good[i], secret, hole + 2);
        assert_int_equal(keys_check(keys, text, NOW_MS, &key, NULL), SL_OK);
    }
    assert_refused(keys, NULL, "is needed");
    assert_refused(keys, "", "is needed");
    assert_refused(keys, "Bearer ", "is needed");
    assert_refused(keys, "Bearer", "no API key");
    assert_refused(keys, "Basic YWJjOmRlZg==", "no API key");
    snprintf(text, sizeof text, "Bearer %s %s", secret, secret);
    assert_refused(keys, text, "no API key");
    snprintf(text, sizeof text, "Bearer %s0", secret);
    assert_refused(keys, text, "no API key");
    snprintf(text, sizeof text, "Bearer xx%s", secret + 2);
    assert_refused(keys, text, "no API key");
    keys_destroy(keys);
    db_close(db);
}

/* A wrong secret and an unknown id get the same answer, whichever character is wrong. */
static void any_wrong_character_is_refused(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1];
    make(db, (struct keys_request){.name = "a"}, secret);
    struct keys *keys = load(db);
    for (int i = 3; i < KEYS_SECRET_CHARS; i++) {
        char before = secret[i];
        secret[i] = before == 'x' ? 'y' : 'x';
        assert_refused(keys, bearer(secret), "is wrong");
        secret[i] = before;
    }
    keys_destroy(keys);
    db_close(db);
}

static void revoked_and_expired_keys_are_refused(void **state)
{
    (void)state;
    struct db *db = open_db();
    char revoked[KEYS_SECRET_CHARS + 1], expired[KEYS_SECRET_CHARS + 1];
    struct api_key key;
    make(db, (struct keys_request){.name = "left"}, revoked);
    make(db, (struct keys_request){.name = "old", .expires_ms = NOW_MS + 1}, expired);
    assert_int_equal(keys_revoke(db, "left", NOW_MS, &key, NULL), SL_OK);
    assert_string_equal(key.name, "left");
    assert_int_equal(keys_revoke(db, "left", NOW_MS, NULL, NULL), SL_EXISTS);
    assert_int_equal(keys_revoke(db, key.id, NOW_MS, NULL, NULL), SL_EXISTS);
    assert_int_equal(keys_revoke(db, "nobody", NOW_MS, NULL, NULL), SL_NOT_FOUND);
    struct keys *keys = load(db);
    struct api_key *found = NULL;
    assert_true(keys_any(keys));
    assert_refused(keys, bearer(revoked), "was revoked");
    assert_int_equal(keys_check(keys, bearer(expired), NOW_MS, &found, NULL), SL_OK);
    assert_int_equal(keys_check(keys, bearer(expired), NOW_MS + 1, &found, NULL),
                     SL_UNAUTHENTICATED);
    keys_destroy(keys);
    db_close(db);
}

static void a_reload_keeps_addresses_and_quotas(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1], other[KEYS_SECRET_CHARS + 1], name[32];
    int64_t version, later;
    make(db, (struct keys_request){.name = "a", .limits = {10, 0, 0}}, secret);
    struct keys *keys = load(db);
    struct api_key *key, *again;
    assert_int_equal(keys_check(keys, bearer(secret), NOW_MS, &key, NULL), SL_OK);
    assert_int_equal(quota_admit(&key->quota, 0, 0, NULL), SL_OK);
    assert_int_equal(keys_version(db, &version, NULL), SL_OK);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "other %d", i);
        make(db, (struct keys_request){.name = name}, other);
    }
    assert_int_equal(db_exec(db, "UPDATE keys SET requests_per_min = 20 WHERE name = 'a'", NULL),
                     SL_OK);
    assert_int_equal(keys_load(keys, db, 0, NULL), SL_OK);
    assert_int_equal(keys_check(keys, bearer(secret), NOW_MS, &again, NULL), SL_OK);
    assert_ptr_equal(again, key);
    struct quota_view view;
    quota_view(&key->quota, 0, &view);
    assert_int_equal(view.requests.limit, 20);
    assert_int_equal(view.requests.remaining, 19);
    assert_int_equal(key->quota.n_running, 1);
    assert_int_equal(keys_check(keys, bearer(other), NOW_MS, &again, NULL), SL_OK);
    assert_int_equal(keys_version(db, &later, NULL), SL_OK);
    assert_true(later == version + 101);
    assert_int_equal(db_exec(db, "UPDATE keys SET last_used_ms = 5", NULL), SL_OK);
    assert_int_equal(keys_version(db, &version, NULL), SL_OK);
    assert_true(version == later);
    keys_destroy(keys);
    db_close(db);
}

static void a_row_deleted_by_hand_is_a_dead_key(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1];
    make(db, (struct keys_request){.name = "a"}, secret);
    struct keys *keys = load(db);
    assert_int_equal(db_exec(db, "DELETE FROM keys", NULL), SL_OK);
    assert_int_equal(keys_load(keys, db, 0, NULL), SL_OK);
    assert_true(keys_any(keys));
    assert_refused(keys, bearer(secret), "was revoked");
    keys_destroy(keys);
    db_close(db);
}

static void a_damaged_row_is_reported(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1];
    struct keys_list *list = NULL;
    struct sl_err err = SL_ERR_INIT;
    make(db, (struct keys_request){.name = "a"}, secret);
    assert_int_equal(db_exec(db, "UPDATE keys SET hash = x'00'", NULL), SL_OK);
    assert_int_equal(keys_read(db, &list, &err), SL_CORRUPT);
    assert_null(list);
    db_close(db);
}

static void patterns_choose_models(void **state)
{
    (void)state;
    static const struct {
        const char *models, *model;
        bool allowed;
    } cases[] = {
        {"", "any", true},
        {"qwen", "qwen", true},
        {"qwen", "qwen2", false},
        {"qwen", "qwe", false},
        {"qwen*", "qwen2:7b", true},
        {"*:7b", "qwen2:7b", true},
        {"*:7b", "qwen2:70b", false},
        {"q*2*b", "qwen2:7b", true},
        {"*a*a*a*", "banana", true},
        {"*a*a*a*a*", "banana", false},
        {"llama?", "llama3", true},
        {"llama?", "llama", false},
        {"a,b", "b", true},
        {" a , b* ", "bc", true},
        {"a,b", "c", false},
        {",", "", false},
        {"*", "anything", true},
        {"*", "", true},
    };
    struct api_key key = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(key.models, sizeof key.models, "%s", cases[i].models);
        if (keys_allows(&key, cases[i].model) != cases[i].allowed)
            fail_msg("\"%s\" and \"%s\"", cases[i].models, cases[i].model);
    }
}

static void classes_have_names(void **state)
{
    (void)state;
    char all[64] = "";
    for (int i = 0; keys_class_name(i); i++) {
        assert_int_equal(keys_class_of(keys_class_name(i)), i);
        if (i > 0) strcat(all, ",");
        strcat(all, keys_class_name(i));
    }
    assert_string_equal(all, KEYS_CLASSES);
    assert_null(keys_class_name(KEYS_CLASS_NONE));
    assert_int_equal(keys_class_of(NULL), KEYS_CLASS_NONE);
    assert_int_equal(keys_class_of("urgent"), KEYS_CLASS_NONE);
}

static sl_status create_and_load(struct db *db)
{
    struct keys *keys = NULL;
    sl_status status = keys_create(&keys);
    if (status == SL_OK) status = keys_load(keys, db, 0, NULL);
    keys_destroy(keys);
    return status;
}

static void loading_survives_every_lost_allocation(void **state)
{
    (void)state;
    struct db *db = open_db();
    char secret[KEYS_SECRET_CHARS + 1];
    for (int i = 0; i < 20; i++)
        make(db, (struct keys_request){.name = (char[]){(char)('a' + i), '\0'}}, secret);
    uint64_t before = sl_mem_live(), nth = 0;
    sl_status status = SL_NOMEM;
    while (status != SL_OK) {
        sl_mem_fail_at(++nth, false);
        status = create_and_load(db);
        assert_true(status == SL_OK || status == SL_NOMEM);
        assert_int_equal(sl_mem_live(), before);
    }
    sl_mem_fail_at(0, false);
    assert_true(nth > 20);
    db_close(db);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_setup, temp_dir_teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_key_is_shown_once_and_kept_as_a_hash),
        IN_FOLDER(fields_survive_the_database),
        IN_FOLDER(bad_requests_make_no_key),
        IN_FOLDER(a_credential_is_read_as_clients_send_it),
        IN_FOLDER(any_wrong_character_is_refused),
        IN_FOLDER(revoked_and_expired_keys_are_refused),
        IN_FOLDER(a_reload_keeps_addresses_and_quotas),
        IN_FOLDER(a_row_deleted_by_hand_is_a_dead_key),
        IN_FOLDER(a_damaged_row_is_reported),
        cmocka_unit_test(patterns_choose_models),
        cmocka_unit_test(classes_have_names),
        IN_FOLDER(loading_survives_every_lost_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
