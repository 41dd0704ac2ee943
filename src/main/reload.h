/* A reload whose verdict is awaited, so that `systemctl reload` fails when it is refused: SIGHUP is
 * queued with a number of its own (sigqueue(3)), and the daemon queues SIGUSR1 back with the
 * verdict. Both run as the same user; anybody else's SIGHUP is taken and answered by nothing. */
#pragma once

#include <signal.h>
#include <stdbool.h>

struct arguments;

/* Asks the process whose id is the operand; EXIT_RUNTIME if it refuses, or says nothing. */
int command_reload(const struct arguments *arguments);
/* Tells whoever sent this SIGHUP, if that was command_reload(). */
void reload_answer(const siginfo_t *asked, bool taken);
