/* Whether this node can work with a server, by the server's own INFO. */
#pragma once

#include "redis/state/settings.h"

enum { FITNESS_WHY_MAX = PROBLEM_WHY_MAX };

/* `info` is INFO's answer, of all sections. Writes the faults as clauses with "; " between them, ""
 * if there is none. True if kind or version of the server cannot work; the rest (evictions, no
 * replica) works until something happens. */
bool fitness_check(struct text info, const struct settings *settings, char why[FITNESS_WHY_MAX]);
