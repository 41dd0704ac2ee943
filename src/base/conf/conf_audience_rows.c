/* The options of a section [audience:NAME] as rows of the types that other options have. */
#include "conf_options.h"

#include <stdlib.h>

enum { TTL_MAX = 60, TTL_DEFAULT = 30, MAX_AGE_MAX = 315360000 };

const struct option_row conf_audience_rows[] = {
    {.name = "tenant",
     .type = &option_type_text,
     .offset = offsetof(struct audience, tenant),
     .initial_text = "*"},
    {.name = "role",
     .type = &option_type_list,
     .offset = offsetof(struct audience, roles),
     .initial_text = ""},
    {.name = "max_age",
     .type = &option_type_number,
     .offset = offsetof(struct audience, max_age_s),
     .initial = -1,
     .minimum = 0,
     .maximum = MAX_AGE_MAX,
     .units = &option_units_seconds},
    {.name = "acr",
     .type = &option_type_text,
     .offset = offsetof(struct audience, acr),
     .initial_text = ""},
    {.name = "ttl",
     .type = &option_type_number,
     .offset = offsetof(struct audience, ttl_s),
     .initial = TTL_DEFAULT,
     .minimum = 1,
     .maximum = TTL_MAX,
     .units = &option_units_seconds},
};
_Static_assert(sizeof(conf_audience_rows) / sizeof(conf_audience_rows[0]) == AUDIENCE_ROWS,
               "as the header says");

void *conf_audience_field(const struct option_row *row, const struct audience *audience)
{
    return (char *)audience + row->offset;
}

const struct audience *conf_find_audience(const struct conf *conf, struct text name)
{
    for (size_t i = 0; i < conf->audience_count; i++)
        if (text_equal(text_of(conf->audiences[i].name), name))
            return &conf->audiences[i];
    return NULL;
}

/* True for an option that demands nothing: written down, it would be refused. */
static bool is_no_condition(const struct option_row *row, const struct audience *audience)
{
    SCOPED(buffer_free) struct buffer value = {0};
    row->type->print(row, conf_audience_field(row, audience), &value);
    return value.length == 0 ||
           (row->type == &option_type_number && *(int64_t *)conf_audience_field(row, audience) < 0);
}

void conf_dump_audience(const struct audience *audience, struct buffer *out)
{
    buffer_addf(out, "[audience:%s]\n", audience->name);
    for (const struct option_row *row = conf_audience_rows;
         row < conf_audience_rows + AUDIENCE_ROWS; row++) {
        if (is_no_condition(row, audience))
            continue;
        buffer_addf(out, "%s = ", row->name);
        row->type->print(row, conf_audience_field(row, audience), out);
        buffer_add_char(out, '\n');
    }
}

bool conf_audience_is_same(const struct audience *a, const struct audience *b)
{
    SCOPED(buffer_free) struct buffer one = {0}, other = {0};
    conf_dump_audience(a, &one);
    conf_dump_audience(b, &other);
    return text_equal(buffer_text(&one), buffer_text(&other));
}

void conf_audience_release(struct audience *audience)
{
    for (const struct option_row *row = conf_audience_rows;
         row < conf_audience_rows + AUDIENCE_ROWS; row++)
        row->type->release(conf_audience_field(row, audience));
    free(audience->name);
}
