#include "cli/interrupt.h"
#include <stddef.h>

volatile sig_atomic_t interrupt_asked;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupt_asked = 1;
}

void interrupt_catch(int flags)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void interrupt_block(sigset_t *before)
{
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, before);
}

void interrupt_unblock(const sigset_t *before)
{
    sigprocmask(SIG_SETMASK, before, NULL);
}
