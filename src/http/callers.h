/* Who calls: credentials, the person behind a service, the address a call comes from. */
#pragma once

#include "request_private.h"

/* Fills request->caller as the route's row demands; ERR_OK, or the refusal with its *detail. */
enum err callers_establish(struct request *request, struct text *detail);
