/* usage_journal_test.c: rows as bytes and back, the two files, and what is left of them when a
 * process dies at any moment. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/usage_int.h"
#include "access/usage_record.h"
#include "access/usage_recover.h"
#include "base/mem.h"
#include "support/prop.h"
#include "support/temp_dir.h"
#include "support/usage_fixture.h"

#define N_ROWS 20
#define IDENTITY UINT64_C(0xfedcba9876543210)

/* --- records --- */

static void draw_text(char *out, size_t max)
{
    size_t n = prop_draw(max + 1);
    for (size_t i = 0; i < n; i++) out[i] = (char)(1 + prop_draw(255));
    out[n] = '\0';
}

static int64_t draw_int(void)
{
    return (int64_t)(prop_draw(UINT64_MAX) >> prop_draw(64));
}

static struct usage_row draw_row(void)
{
    struct usage_row row;
    memset(&row, 0, sizeof row); /* rows are compared as bytes */
    draw_text(row.request_id, USAGE_ID_MAX);
    draw_text(row.key_id, KEYS_ID_CHARS);
    draw_text(row.model, USAGE_MODEL_MAX);
    draw_text(row.endpoint, USAGE_WORD_MAX);
    draw_text(row.finish, USAGE_WORD_MAX);
    row.qos_class = (int)prop_draw(4) - 1;
    row.http_status = (int)prop_draw(600);
    int64_t *numbers[] = {&row.finished_ms,       &row.prompt_tokens,    &row.cached_tokens,
                          &row.completion_tokens, &row.reasoning_tokens, &row.queue_us,
                          &row.first_token_us,    &row.total_us};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) *numbers[i] = draw_int();
    row.energy = (enum usage_energy)prop_draw(3);
    row.energy_joules = (double)draw_int() / 3;
    return row;
}

/* Strings may have anything behind their end. */
static void assert_same(const struct usage_row *a, struct usage_row *b)
{
    assert_string_equal(a->request_id, b->request_id);
    assert_string_equal(a->key_id, b->key_id);
    assert_string_equal(a->model, b->model);
    assert_string_equal(a->endpoint, b->endpoint);
    assert_string_equal(a->finish, b->finish);
    size_t numbers = offsetof(struct usage_row, qos_class);
    assert_memory_equal((const char *)a + numbers, (char *)b + numbers, sizeof *a - numbers);
}

static void rows_come_back_as_they_were(void **state)
{
    (void)state;
    uint8_t bytes[USAGE_RECORD_HEADER_BYTES + USAGE_RECORD_MAX];
    for (int i = 0; i < 2000; i++) {
        struct usage_record_reader reader;
        struct usage_row row = draw_row(), read;
        usage_record_header(bytes, IDENTITY + (uint64_t)i);
        uint8_t *record = bytes + USAGE_RECORD_HEADER_BYTES;
        size_t n = usage_record_write(record, IDENTITY + (uint64_t)i, 1, &row);
        assert_in_range(n, USAGE_RECORD_HEAD_BYTES, USAGE_RECORD_MAX);
        assert_int_equal(usage_record_length(record), n);
        assert_true(usage_record_reader_init(&reader, bytes, USAGE_RECORD_HEADER_BYTES + n));
        assert_true(usage_record_next(&reader, &read));
        assert_same(&row, &read);
        assert_false(usage_record_next(&reader, &read));
        assert_int_equal(reader.at, USAGE_RECORD_HEADER_BYTES + n);
    }
}

static void what_no_reader_takes_is_not_written(void **state)
{
    (void)state;
    uint8_t bytes[USAGE_RECORD_HEADER_BYTES + USAGE_RECORD_MAX];
    struct usage_record_reader reader;
    struct usage_row row = usage_fixture_row("", 1);
    row.qos_class = 77;
    row.energy = (enum usage_energy)9;
    usage_record_header(bytes, IDENTITY);
    size_t n = usage_record_write(bytes + USAGE_RECORD_HEADER_BYTES, IDENTITY, 1, &row);
    assert_true(usage_record_reader_init(&reader, bytes, USAGE_RECORD_HEADER_BYTES + n));
    assert_true(usage_record_next(&reader, &row));
    assert_int_equal(row.qos_class, KEYS_CLASS_NONE);
    assert_int_equal(row.energy, USAGE_ENERGY_NONE);
}

/* --- a file of N_ROWS rows, numbered from 0 --- */

struct image {
    uint8_t bytes[USAGE_RECORD_HEADER_BYTES + N_ROWS * USAGE_RECORD_MAX];
    size_t n, ends[N_ROWS + 1]; /* ends[i]: before row i */
};

static void make_image(struct image *image)
{
    usage_record_header(image->bytes, IDENTITY);
    image->n = image->ends[0] = USAGE_RECORD_HEADER_BYTES;
    for (int i = 0; i < N_ROWS; i++) {
        struct usage_row row = usage_fixture_row("", i);
        image->n += usage_record_write(image->bytes + image->n, IDENTITY, (uint64_t)i + 1, &row);
        image->ends[i + 1] = image->n;
    }
}

static int n_readable(const uint8_t *bytes, size_t n)
{
    struct usage_record_reader reader;
    struct usage_row row;
    int n_rows = 0;
    if (!usage_record_reader_init(&reader, bytes, n)) return -1;
    while (usage_record_next(&reader, &row)) assert_int_equal(row.prompt_tokens, n_rows++);
    assert_true(reader.at <= n);
    return n_rows;
}

static void a_torn_file_has_its_whole_rows(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    int n_whole = 0;
    for (size_t n = 0; n <= image.n; n++) {
        uint8_t *bytes = malloc(n ? n : 1); /* no byte more: a sanitizer sees a read past it */
        assert_non_null(bytes);
        memcpy(bytes, image.bytes, n);
        if (n_whole < N_ROWS && n == image.ends[n_whole + 1]) n_whole++;
        assert_int_equal(n_readable(bytes, n), n < USAGE_RECORD_HEADER_BYTES ? -1 : n_whole);
        free(bytes);
    }
    assert_int_equal(n_whole, N_ROWS);
}

static void a_damaged_byte_ends_the_file_before_its_row(void **state)
{
    (void)state;
    struct image image;
    make_image(&image);
    int row = 0;
    for (size_t at = USAGE_RECORD_HEADER_BYTES; at < image.n; at++) {
        if (at == image.ends[row + 1]) row++;
        image.bytes[at] ^= (uint8_t)(1 + prop_draw(255));
        assert_int_equal(n_readable(image.bytes, image.n), row);
        make_image(&image);
    }
    image.bytes[16] ^= 1; /* another file's rows */
    assert_int_equal(n_readable(image.bytes, image.n), 0);
    image.bytes[8] ^= 1;
    assert_int_equal(n_readable(image.bytes, image.n), -1);
}

/* --- recovery --- */

static struct db *open_db(void)
{
    struct db *db = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (db_open(temp_path("state.db"), NULL, &db, &err) != SL_OK) fail_msg("%s", err.text);
    return db;
}

static void put_file(const char *name, const void *bytes, size_t n)
{
    int fd = open(temp_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

static int64_t query(struct db *db, const char *sql)
{
    int64_t v = -1;
    assert_int_equal(db_query_int(db, sql, &v, NULL), SL_OK);
    return v;
}

static struct usage_recovery recover(struct db *db)
{
    struct usage_recovery recovery;
    struct sl_err err = SL_ERR_INIT;
    if (usage_recover(db, temp_path("state.db"), NULL, &recovery, &err) != SL_OK)
        fail_msg("%s", err.text);
    return recovery;
}

/* The same bytes again are a process that died after the commit and before the files were empty. */
static void rows_are_recovered_once(void **state)
{
    (void)state;
    struct image image;
    struct db *db = open_db();
    make_image(&image);
    for (int i = 0; i < 3; i++) {
        int n_rows = i == 0 ? 7 : i == 1 ? 0 : N_ROWS - 7;
        size_t n = i == 2 ? image.n : image.ends[7] + 5;
        put_file("usage-1a.journal", image.bytes, n);
        struct usage_recovery recovery = recover(db);
        assert_int_equal(recovery.n_rows, n_rows);
        assert_int_equal(recovery.n_bytes_left, i == 2 ? 0 : 5);
        assert_int_equal(recover(db).n_rows, 0);
    }
    assert_int_equal(query(db, "SELECT count(*) FROM usage"), N_ROWS);
    assert_int_equal(query(db, "SELECT count(DISTINCT prompt_tokens) FROM usage"), N_ROWS);
    put_file("usage-8b.journal", image.bytes, image.n); /* by its name it is another file */
    assert_int_equal(recover(db).n_rows, 0);            /* without its first it is none */
    put_file("usage-8a.journal", image.bytes, 3);
    assert_int_equal(recover(db).n_rows, N_ROWS);
    db_close(db);
}

static void strange_files_are_left_alone(void **state)
{
    (void)state;
    struct db *db = open_db();
    assert_int_equal(mkfifo(temp_path("usage-1a.journal"), 0600), 0);
    assert_int_equal(mkdir(temp_path("usage-2a.journal"), 0700), 0);
    assert_int_equal(symlink("/etc/passwd", temp_path("usage-3a.journal")), 0);
    put_file("usage-4a.journal", "what is this?", 13);
    struct usage_recovery recovery = recover(db);
    assert_int_equal(recovery.n_rows, 0);
    assert_int_equal(recovery.n_bytes_left, 13);
    assert_int_equal(usage_await(db, temp_path("state.db"), 0, NULL), SL_OK);
    struct usage_journal_pair pair;
    assert_int_equal(usage_recover(db, temp_path("state.db"), &pair, &recovery, NULL), SL_OK);
    assert_string_equal(pair.files[0].name, "usage-4a.journal");
    assert_int_equal(recover(db).n_in_use, 1);
    usage_journal_unlock(&pair);
    assert_int_equal(rmdir(temp_path("usage-2a.journal")), 0);
    db_close(db);
}

static void recovery_survives_every_lost_allocation(void **state)
{
    (void)state;
    struct image image;
    struct usage_recovery recovery;
    struct usage_journal_pair pair;
    struct db *db = open_db();
    uint64_t before = sl_mem_live(), nth = 0;
    sl_status status = SL_NOMEM;
    make_image(&image);
    while (status != SL_OK) {
        put_file("usage-1a.journal", image.bytes, image.n);
        sl_mem_fail_at(++nth, false);
        status = usage_recover(db, temp_path("state.db"), &pair, &recovery, NULL);
        sl_mem_fail_at(0, false);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), before);
        assert_true(pair.files[0].fd < 0);
    }
    assert_true(nth > 2);
    const struct usage_journal_cfg cfg = {0};
    struct usage_journal *journal = NULL;
    sl_mem_fail_at(1, false);
    assert_int_equal(usage_journal_create(&pair, &cfg, &journal, NULL), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_int_equal(sl_mem_live(), before);
    assert_int_equal(query(db, "SELECT count(*) FROM usage"), N_ROWS);
    db_close(db);
}

/* --- the two files --- */

struct writer {
    struct usage_ring ring;
    struct usage_journal *journal;
    uint64_t head;
};

static void open_writer(struct writer *w, const struct usage_journal_cfg *cfg)
{
    struct usage_journal_pair pair;
    *w = (struct writer){.ring.n_slots = 1000};
    w->ring.slots = calloc(w->ring.n_slots, sizeof *w->ring.slots);
    assert_non_null(w->ring.slots);
    assert_int_equal(usage_journal_lock(temp_path("state.db"), 1, true, &pair, NULL), SL_OK);
    assert_int_equal(usage_journal_create(&pair, cfg, &w->journal, NULL), SL_OK);
}

static void close_writer(struct writer *w)
{
    usage_journal_destroy(w->journal);
    free(w->ring.slots);
}

/* Returns how many of n more rows are written. */
static int append(struct writer *w, int n)
{
    for (int i = 0; i < n; i++) {
        struct usage_slot *slot = usage_slot_at(&w->ring, w->head + (uint64_t)i);
        *slot = (struct usage_slot){.row = usage_fixture_row("", (int)w->head + i)};
    }
    uint64_t end = usage_journal_append(w->journal, &w->ring, w->head, w->head + (uint64_t)n);
    int n_written = (int)(end - w->head);
    w->head = end;
    return n_written;
}

static void files_take_turns_when_the_other_is_stored(void **state)
{
    (void)state;
    struct writer w;
    open_writer(&w, &(struct usage_journal_cfg){.bytes_step = 2000, .bytes_max = 4000});
    int n_changes = 0;
    for (int i = 0, file = 1; i < 400; i++) {
        assert_int_equal(append(&w, 1), 1);
        int now = usage_slot_at(&w.ring, w.head - 1)->file;
        n_changes += now != file;
        file = now;
        assert_int_equal(usage_journal_clean(w.journal, w.head - 1, NULL), SL_OK);
        assert_in_range(usage_journal_bytes(w.journal), 48, 4500);
    }
    assert_true(n_changes > 10);
    while (append(&w, 1) == 1) assert_in_range(usage_journal_bytes(w.journal), 48, 7000);
    assert_int_equal(append(&w, 1), 0); /* both are full, and nothing is stored */
    assert_int_equal(usage_journal_clean(w.journal, w.head, NULL), SL_OK);
    assert_int_equal(append(&w, 1), 1);
    usage_journal_finish(w.journal);
    close_writer(&w);
    struct db *db = open_db();
    assert_int_equal(recover(db).n_rows, 0);
    db_close(db);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The disk ends within a row: those before it count, and no trace of it is left. */
static void a_short_write_leaves_whole_rows(void **state)
{
    (void)state;
    struct writer w;
    struct stat st;
    signal(SIGXFSZ, SIG_IGN);
    open_writer(&w, &(struct usage_journal_cfg){0});
    limit_file_size(1000);
    int n_written = append(&w, 50);
    limit_file_size(RLIM_INFINITY);
    assert_in_range(n_written, 2, 8);
    assert_int_equal(stat(temp_path("usage-1a.journal"), &st), 0);
    assert_int_equal(st.st_size + USAGE_RECORD_HEADER_BYTES, usage_journal_bytes(w.journal));
    assert_int_equal(append(&w, 1), 0); /* it rests */
    close_writer(&w);
    struct db *db = open_db();
    struct usage_recovery recovery = recover(db);
    assert_int_equal(recovery.n_rows, n_written);
    assert_int_equal(recovery.n_bytes_left, 0);
    db_close(db);
}

static void a_pair_has_one_owner(void **state)
{
    (void)state;
    struct writer w;
    struct usage_journal_pair pair;
    assert_int_equal(usage_journal_lock(temp_path("state.db"), 1, false, &pair, NULL),
                     SL_NOT_FOUND);
    open_writer(&w, &(struct usage_journal_cfg){0});
    assert_int_equal(usage_journal_lock(temp_path("state.db"), 1, true, &pair, NULL), SL_BUSY);
    close_writer(&w);
    assert_int_equal(usage_journal_lock(temp_path("state.db"), 1, false, &pair, NULL), SL_OK);
    usage_journal_unlock(&pair);
}

int main(void)
{
    prop_begin();
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_setup, temp_dir_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back_as_they_were),
        cmocka_unit_test(what_no_reader_takes_is_not_written),
        cmocka_unit_test(a_torn_file_has_its_whole_rows),
        cmocka_unit_test(a_damaged_byte_ends_the_file_before_its_row),
        IN_FOLDER(rows_are_recovered_once),
        IN_FOLDER(strange_files_are_left_alone),
        IN_FOLDER(recovery_survives_every_lost_allocation),
        IN_FOLDER(files_take_turns_when_the_other_is_stored),
        IN_FOLDER(a_short_write_leaves_whole_rows),
        IN_FOLDER(a_pair_has_one_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
