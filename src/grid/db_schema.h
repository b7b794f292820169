/* db_schema.h: the tables of state.db, as the steps that led to them.
 * Floor: grid.  Thread: any.
 * Invariant: a released step never changes; step n takes a database from user_version n to n +
 * 1. */
#pragma once

extern const char *const db_schema_steps[];
extern const int db_schema_n_steps;
