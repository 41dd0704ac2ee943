/* Whether a server is one that this node can work with, by its own INFO. */
#pragma once

#include "redis/state/settings.h"

enum { FITNESS_WHY_MAX = PROBLEM_WHY_MAX };

/* `info` is INFO's answer, of all sections. Writes what is wrong, one clause behind the other with
 * "; " between them, or "" if nothing is. True if the server is of a kind or version that cannot
 * work; the rest (evictions, no replica) works until something happens. */
bool fitness_check(struct text info, const struct settings *settings, char why[FITNESS_WHY_MAX]);
