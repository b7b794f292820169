/* disk_shim.c: SQLite's own layer (https://www.sqlite.org/vfs.html) with two methods changed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <time.h>

#include "support/disk_shim.h"

#define N_TABLES 4 /* SQLite has one table of methods for each kind of locking */

/* The methods of a file, and what takes their place. */
struct method_table {
    _Atomic(const sqlite3_io_methods *) real;
    sqlite3_io_methods changed;
};

static struct method_table tables[N_TABLES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sqlite3_vfs *real_vfs, shim;
static pthread_t watched;
static _Atomic int64_t write_ns;
static _Atomic int n_syncs;

/* A file shows only the changed table; all of them call the same functions but for locks. */
static int slow_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 offset)
{
    int64_t ns = pthread_equal(pthread_self(), watched) ? write_ns : 0;
    const struct timespec pause = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    if (ns > 0) nanosleep(&pause, NULL);
    return tables[0].real->xWrite(file, bytes, n, offset);
}

static int counted_sync(sqlite3_file *file, int flags)
{
    if (pthread_equal(pthread_self(), watched)) n_syncs++;
    return tables[0].real->xSync(file, flags);
}

static const sqlite3_io_methods *changed(const sqlite3_io_methods *real)
{
    struct method_table *table = tables;
    pthread_mutex_lock(&lock);
    while (table->real && table->real != real) table++;
    assert_true(table < tables + N_TABLES);
    if (!table->real) {
        table->changed = *real;
        table->changed.xWrite = slow_write;
        table->changed.xSync = counted_sync;
        table->real = real;
    }
    pthread_mutex_unlock(&lock);
    return &table->changed;
}

static int open_changed(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                        int *flags_out)
{
    (void)vfs;
    int rc = real_vfs->xOpen(real_vfs, name, file, flags, flags_out);
    if (rc == SQLITE_OK && file->pMethods) file->pMethods = changed(file->pMethods);
    return rc;
}

void disk_shim_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    assert_non_null(real_vfs);
    shim = *real_vfs;
    shim.zName = "disk_shim";
    shim.xOpen = open_changed;
    watched = pthread_self();
    write_ns = 0;
    n_syncs = 0;
    assert_int_equal(sqlite3_vfs_register(&shim, 1), SQLITE_OK);
}

void disk_shim_remove(void)
{
    assert_int_equal(sqlite3_vfs_unregister(&shim), SQLITE_OK);
}

void disk_shim_slow_writes(int64_t ns)
{
    write_ns = ns;
}

int disk_shim_n_syncs(void)
{
    return n_syncs;
}
