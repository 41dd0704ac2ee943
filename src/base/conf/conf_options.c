/* The rows of tbl/options.h as a table, and the way from a row to its field. */
#include "conf_options.h"

#include <assert.h>

/* Words of the rows' column `reload`. */
enum { RESTART = false, RELOAD = true };

#define ROW(sect, nam, kind, ...)                                                \
    [OPTION_ID_##sect##_##nam] = {.section = #sect,                              \
                                  .name = #nam,                                  \
                                  .type = &option_type_##kind,                   \
                                  .offset = offsetof(struct conf, sect##_##nam), \
                                  __VA_ARGS__},
#define NUMBER(sect, nam, kind, first, min, max, again, about)                     \
    ROW(sect, nam, number, .initial = (first), .minimum = (min), .maximum = (max), \
        .units = &option_units_##kind, .reload = (again), .help = (about))

#define OPTION_TEXT(section, name, first, again, about) \
    ROW(section, name, text, .initial_text = (first), .reload = (again), .help = (about))
#define OPTION_LIST(section, name, first, again, about) \
    ROW(section, name, list, .initial_text = (first), .reload = (again), .help = (about))
#define OPTION_INT(section, name, first, min, max, again, about) \
    NUMBER(section, name, int, first, min, max, again, about)
#define OPTION_BYTES(section, name, first, min, max, again, about) \
    NUMBER(section, name, bytes, first, min, max, again, about)
#define OPTION_SECONDS(section, name, first, min, max, again, about) \
    NUMBER(section, name, seconds, first, min, max, again, about)
#define OPTION_MILLIS(section, name, first, min, max, again, about) \
    NUMBER(section, name, millis, first, min, max, again, about)
#define OPTION_BOOL(section, name, first, again, about)                                \
    ROW(section, name, bool, .initial = (first), .words = "no|yes", .reload = (again), \
        .help = (about))
#define OPTION_ENUM(section, name, kind, list, first, again, about)                  \
    ROW(section, name, enum, .initial = (first), .words = (list), .reload = (again), \
        .help = (about))
#define OPTION_FLAGS(section, name, list, first, again, about)                        \
    ROW(section, name, flags, .initial = (first), .words = (list), .reload = (again), \
        .help = (about))

const struct option_row option_rows[OPTION_COUNT] = {
#include "tbl/options.h"
};

const struct option_row *conf_option_find(struct text section, struct text name)
{
    for (const struct option_row *row = option_rows; row < option_rows + OPTION_COUNT; row++)
        if (text_equal(text_of(row->section), section) && text_equal(text_of(row->name), name))
            return row;
    return NULL;
}

bool conf_option_section_exists(struct text section)
{
    for (const struct option_row *row = option_rows; row < option_rows + OPTION_COUNT; row++)
        if (text_equal(text_of(row->section), section))
            return true;
    return false;
}

void *conf_option_field(const struct option_row *row, struct conf *conf)
{
    return (char *)conf + row->offset;
}

const void *conf_option_value(const struct option_row *row, const struct conf *conf)
{
    return (const char *)conf + row->offset;
}

bool conf_option_is_same(const struct option_row *row, const struct conf *a, const struct conf *b)
{
    SCOPED(buffer_free) struct buffer left = {0}, right = {0};
    row->type->print(row, conf_option_value(row, a), &left);
    row->type->print(row, conf_option_value(row, b), &right);
    return text_equal(buffer_text(&left), buffer_text(&right));
}

struct conf_bounds conf_bounds(size_t offset)
{
    const struct option_row *row = option_rows;
    while (row < option_rows + OPTION_COUNT && row->offset != offset)
        row++;
    assert(row < option_rows + OPTION_COUNT);
    bool has_words = row->type != &option_type_bool;
    return (struct conf_bounds){row->minimum, row->maximum, has_words ? row->words : NULL};
}
