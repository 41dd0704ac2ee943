/* A reload that waits for its verdict, so that `systemctl reload` fails when the configuration
 * is refused. It queues SIGHUP with a number of its own (sigqueue(3)); the daemon queues SIGUSR1
 * back with the verdict. Both run as the same user. Any other SIGHUP also reloads, but gets no
 * answer. */
#pragma once

#include <signal.h>
#include <stdbool.h>

struct arguments;

/* Asks the process whose id is the operand to reload. EXIT_RUNTIME if it refuses or does not
 * answer. */
int reload_command(const struct arguments *arguments);
/* Sends the verdict to the sender of this SIGHUP, if that was reload_command(). */
void reload_answer(const siginfo_t *asked, bool taken);
