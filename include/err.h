/* Every outcome that is not success: one row each in tbl/errors.h. */
#pragma once

#include "text.h"

enum err {
    ERR_OK = 0,
#define ERROR(id, status, code, retry_after, title) ERR_##id,
#include "tbl/errors.h"
#undef ERROR
    ERR_COUNT
};

/* HTTP status of the answer. */
unsigned err_status(enum err err);
/* The public word in the problem's `code` and the last part of its `type`. */
const char *err_code(enum err err);
/* One sentence for people. */
const char *err_title(enum err err);
/* Seconds for Retry-After, 0 for none. */
unsigned err_retry_after(enum err err);

#define MUST_CHECK __attribute__((warn_unused_result))
