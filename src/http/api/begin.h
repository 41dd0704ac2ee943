/* How a handler begins an operation of the domain, and what answers it. */
#pragma once

#include "http/exchange/request.h"

/* Fills in what operations have from their caller: context, arena, conf, times, actor, permission.
 * At its end `finish` answers, or api_fail_operation() if it failed. `operation` is the first
 * member of an object that the handler allocated in the arena. The handler then begins it and
 * returns PENDING. */
void api_begin(struct request *request, struct operation *operation, finish_fn *finish);
/* The same, but `finish` answers failures, too. */
void api_begin_any(struct request *request, struct operation *operation, finish_fn *finish);
