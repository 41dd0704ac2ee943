/* What a configuration may say and is yet worth a word. Private to main.c and its neighbours. */
#pragma once

#include "conf.h"

/* Logs a warning for each risk that the configuration takes. */
void risks_warn(const struct conf *conf);
/* Logs what is no risk but may surprise: for check-config alone. */
void risks_hint(const struct conf *conf);
