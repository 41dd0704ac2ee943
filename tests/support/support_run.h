/* Running a suite as a program. */
#pragma once

#include <check.h>

/* Runs the suite and frees it; returns what main() returns. */
int support_run(Suite *suite);
