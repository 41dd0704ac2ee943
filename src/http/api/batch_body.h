/* The body of POST /v1/validate/batch. */
#pragma once

#include "http/exchange/request.h"

enum { BATCH_MAX = 1000 };

/* One element of "tokens". */
struct batch_element {
    struct text token; /* absent: malformed, whatever it is */
    struct text ip, device_fingerprint;
};

struct batch_body {
    struct batch_element *elements;
    size_t count; /* 1 to BATCH_MAX */
    bool touch;
};

/* Reads the body: GO_ON, or ANSWERED with 400 that names the member and what is allowed, or 415. An
 * element of wrong form is malformed, unless it is neither a string nor an object. */
MUST_CHECK enum handled batch_body_read(struct request *request, struct batch_body *ret);
