/* interrupt.h: Ctrl-C as a flag that whoever works looks at.
 * Floor: cli.  Thread: main; the flag may be read anywhere.  Allocates: nothing. */
#pragma once
#include <signal.h>

/* Set by SIGINT, cleared by who has seen it; the one thing the signal handler touches. */
extern volatile sig_atomic_t interrupt_asked;

/* From now on SIGINT sets the flag. flags: of sigaction; SA_RESETHAND makes a second one end the
 * process. */
void interrupt_catch(int flags);

/* Threads born in between have SIGINT blocked: it always reaches the one that reads lines. */
void interrupt_block(sigset_t *before);
void interrupt_unblock(const sigset_t *before);
