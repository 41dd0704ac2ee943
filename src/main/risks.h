/* Risks that a valid configuration may take. Private to main.c and its neighbours. */
#pragma once

#include "conf.h"

/* Logs a warning for each risk that the configuration takes. */
void risks_warn(const struct conf *conf);
/* Logs settings that are no risk but may surprise. For check-config only. */
void risks_hint(const struct conf *conf);
