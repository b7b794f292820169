/* post_box.h: stands in for the loop: takes posts from any thread, and one thread runs them.
 * Thread: as said; post_box_run by one thread only. */
#pragma once
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

struct post_box;

struct post_box *post_box_create(void); /* fails the test on an error */
void post_box_destroy(struct post_box *box);

/* Has the type of usage_post_fn. BUSY while refused posts are left (post_box_refuse). */
SL_CHECK sl_status post_box_post(void *box, void (*fn)(void *arg), void *arg);

void post_box_refuse(struct post_box *box, int n_posts);

/* Runs posts until done(arg), which is asked before each; false after 30 s without that. */
bool post_box_run(struct post_box *box, bool (*done)(void *arg), void *arg);
