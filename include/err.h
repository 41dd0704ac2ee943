/* Every outcome that is not success: one row each in tbl/errors.h. */
#pragma once

#include "text.h"

enum err {
    ERR_OK = 0,
#define ERROR(id, class, status, code, retry_after, title) ERR_##id,
#include "tbl/errors.h"
#undef ERROR
    ERR_COUNT
};

/* The class of an error: its origin, and so the remedy. */
enum err_class {
    ERR_CLASS_NONE,     /* ERR_OK */
    ERR_CLASS_CALLER,   /* the call is refused as it stands */
    ERR_CLASS_OUTAGE,   /* the store could not be asked, or not in time */
    ERR_CLASS_USELESS,  /* the store replied, but with nothing usable */
    ERR_CLASS_CONFLICT, /* other changes were always faster */
    ERR_CLASS_FOREIGN,  /* the answer is sealed under a key that this node lacks */
    ERR_CLASS_NODE,     /* this node cannot, whatever the store says */
};
enum err_class err_class(enum err err);
/* True if the store did not decide, so that memory and the journal must. False for a foreign record
 * or a write that always lost a conflict: there the store knows more than memory. */
bool err_is_outage(enum err err);
/* True for these two as well: the change is not in the store. */
bool err_is_undecided(enum err err);

/* HTTP status of the answer. */
unsigned err_status(enum err err);
/* The public word in the problem's `code` and the last part of its `type`. */
const char *err_code(enum err err);
/* One sentence for people. */
const char *err_title(enum err err);
/* Seconds for Retry-After, 0 for none. */
unsigned err_retry_after(enum err err);

#define MUST_CHECK __attribute__((warn_unused_result))
