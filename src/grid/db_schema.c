/* db_schema.c: SQL only. Times are Unix milliseconds, durations microseconds. */
#include "grid/db_schema.h"

/* API keys (access/keys.h). The triggers leave out last_used_ms: it changes every second, and
 * nobody has to reload anything for it. */
#define KEYS_TABLE \
    "CREATE TABLE keys(" \
    " id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL," \
    " created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL DEFAULT 0," \
    " revoked_ms INTEGER NOT NULL DEFAULT 0, last_used_ms INTEGER NOT NULL DEFAULT 0," \
    " requests_per_min INTEGER NOT NULL DEFAULT 0, tokens_per_min INTEGER NOT NULL DEFAULT 0," \
    " concurrency INTEGER NOT NULL DEFAULT 0, models TEXT NOT NULL DEFAULT ''," \
    " qos_class TEXT) STRICT;" \
    "CREATE UNIQUE INDEX keys_name ON keys(name) WHERE revoked_ms = 0;" \
    "CREATE TABLE keys_version(version INTEGER NOT NULL) STRICT;" \
    "INSERT INTO keys_version VALUES(0);" \
    "CREATE TRIGGER keys_inserted AFTER INSERT ON keys" \
    " BEGIN UPDATE keys_version SET version = version + 1; END;" \
    "CREATE TRIGGER keys_deleted AFTER DELETE ON keys" \
    " BEGIN UPDATE keys_version SET version = version + 1; END;" \
    "CREATE TRIGGER keys_updated AFTER UPDATE OF id, name, hash, expires_ms, revoked_ms," \
    " requests_per_min, tokens_per_min, concurrency, models, qos_class ON keys" \
    " BEGIN UPDATE keys_version SET version = version + 1; END;"

/* One row a finished request (access/usage.h), and what old rows became. energy: 0 not known,
 * 1 measured, 2 modelled. An id is at least finished_ms * 2^20 and larger than all before, so that
 * a range of times is a range of ids: there is no index, and a commit of few rows writes one
 * page. */
#define USAGE_TABLES \
    "CREATE TABLE usage(" \
    " id INTEGER PRIMARY KEY, finished_ms INTEGER NOT NULL, request_id TEXT NOT NULL," \
    " key_id TEXT NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL, qos_class TEXT," \
    " http_status INTEGER NOT NULL, finish TEXT NOT NULL," \
    " prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL," \
    " completion_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL," \
    " queue_us INTEGER, first_token_us INTEGER, total_us INTEGER NOT NULL," \
    " joules REAL, energy INTEGER NOT NULL) STRICT;" \
    "CREATE TABLE usage_daily(" \
    " day INTEGER NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL," \
    " n_requests INTEGER NOT NULL, n_failed INTEGER NOT NULL," \
    " prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL," \
    " completion_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL," \
    " queue_us INTEGER NOT NULL, n_queue INTEGER NOT NULL," \
    " first_token_us INTEGER NOT NULL, n_first_token INTEGER NOT NULL," \
    " total_us INTEGER NOT NULL," \
    " joules_measured REAL NOT NULL, n_measured INTEGER NOT NULL," \
    " joules_modelled REAL NOT NULL, n_modelled INTEGER NOT NULL," \
    " PRIMARY KEY(day, key_id, model, endpoint)) STRICT, WITHOUT ROWID;"

/* How far each file of access/usage_journal.h is stored. */
#define JOURNALS_TABLE \
    "CREATE TABLE usage_journals(" \
    " name TEXT PRIMARY KEY NOT NULL, identity INTEGER NOT NULL, applied INTEGER NOT NULL)" \
    " STRICT, WITHOUT ROWID;"

/* The grid (grid/registry.h, grid/token.h). A member's entry is what the grid port says of it. */
#define GRID_TABLES \
    "CREATE TABLE members(id TEXT PRIMARY KEY NOT NULL, entry TEXT NOT NULL) STRICT, WITHOUT " \
    "ROWID;" \
    "CREATE TABLE tokens(" \
    " id TEXT PRIMARY KEY NOT NULL, hash BLOB NOT NULL, created_ms INTEGER NOT NULL," \
    " expires_ms INTEGER NOT NULL, revoked_ms INTEGER NOT NULL DEFAULT 0," \
    " n_uses INTEGER NOT NULL, n_used INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;"

/* Tokens from before let everybody in whom their owners were told they would. */
#define TOKEN_GATEWAYS \
    "ALTER TABLE tokens ADD COLUMN gateways INTEGER NOT NULL DEFAULT 0;" \
    "UPDATE tokens SET gateways = 1;"

const char *const db_schema_steps[] = {
    KEYS_TABLE USAGE_TABLES,
    JOURNALS_TABLE,
    GRID_TABLES,
    TOKEN_GATEWAYS,
};
const int db_schema_n_steps = sizeof db_schema_steps / sizeof *db_schema_steps;
