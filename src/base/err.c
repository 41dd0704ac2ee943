/* The table of outcomes. */
#include "err.h"

#include <assert.h>

static const struct {
    unsigned status;
    unsigned retry_after;
    const char *code;
    const char *title;
} rows[ERR_COUNT] = {
    [ERR_OK] = {200, 0, "ok", "The call succeeded"},
#define ERROR(id, status, code, retry_after, title) \
    [ERR_##id] = {(status), (retry_after), (code), (title)},
#include "tbl/errors.h"
#undef ERROR
};

unsigned err_status(enum err err)
{
    assert(err < ERR_COUNT);
    return rows[err].status;
}

const char *err_code(enum err err)
{
    assert(err < ERR_COUNT);
    return rows[err].code;
}

const char *err_title(enum err err)
{
    assert(err < ERR_COUNT);
    return rows[err].title;
}

unsigned err_retry_after(enum err err)
{
    assert(err < ERR_COUNT);
    return rows[err].retry_after;
}
