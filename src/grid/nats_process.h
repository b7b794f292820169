/* nats_process.h: a nats-server as a process: where it is found, which ports it can have, how it is
 * started and ended, and what one left behind is recognised by.
 * Floor: grid.  Thread: the loop's.  Allocates: nothing that lasts.
 * Invariant: a process that was started is reaped by nats_process_end at the latest. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

struct nats_process {
    int pid;       /* -1: none, and all that follows is closed */
    int pidfd;     /* readable when it is dead */
    int stderr_fd; /* what it says; does not block */
};

/* The path of the executable, among the folders of PATH and those where distributions and people
 * put it. NOT_FOUND says how to get it. */
SL_CHECK sl_status nats_process_find(char *out, size_t n_out, struct sl_err *err);

/* `wanted`, or where that is 0, `usual` or else any that is free on the host's address (NULL: all).
 * BUSY: the one wanted is taken; IO. */
SL_CHECK sl_status nats_process_port(const char *host, int wanted, int usual, int *out,
                                     struct sl_err *err);

/* Runs `exe -c config_path` so that it is ended when this thread is. IO. */
SL_CHECK sl_status nats_process_start(struct nats_process *process, const char *exe,
                                      const char *config_path, struct sl_err *err);
void nats_process_signal(const struct nats_process *process, int signo); /* unless there is none */

/* Waits for it, if need be after SIGTERM and, a second later, SIGKILL; closes what was open. Safe
 * when there is none. */
void nats_process_end(struct nats_process *process);

/* Ends the server that a process before us has left running: the pid in the file, if that is a
 * server of this very configuration. */
void nats_process_end_leftover(const char *pid_path, const char *config_path);
