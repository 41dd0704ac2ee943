/* The table of outcomes. */
#include "err.h"

#include <assert.h>

static const struct {
    enum err_class class;
    unsigned status;
    unsigned retry_after;
    const char *code;
    const char *title;
} rows[ERR_COUNT] = {
    [ERR_OK] = {ERR_CLASS_NONE, 200, 0, "ok", "The call succeeded"},
#define ERROR(id, class, status, code, retry_after, title) \
    [ERR_##id] = {ERR_CLASS_##class, (status), (retry_after), (code), (title)},
#include "tbl/errors.h"
#undef ERROR
};

enum err_class err_class(enum err err)
{
    assert(err < ERR_COUNT);
    return rows[err].class;
}

bool err_is_outage(enum err err)
{
    enum err_class class = err_class(err);
    return class == ERR_CLASS_OUTAGE || class == ERR_CLASS_USELESS;
}

bool err_is_undecided(enum err err)
{
    enum err_class class = err_class(err);
    return err_is_outage(err) || class == ERR_CLASS_CONFLICT || class == ERR_CLASS_FOREIGN;
}

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
