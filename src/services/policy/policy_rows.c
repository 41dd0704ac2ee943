/* The rows of tbl/policy.h as a table, and their values as JSON. */
#include "policy_private.h"

#include <string.h>

const struct policy_row policy_rows[POLICY_MEMBERS] = {
#define POLICY_MEMBER(its_kind, its_path, field, its_option, bit, its_say) \
    [POLICY_ID_##field] = {.path = (its_path),                             \
                           .kind = POLICY_##its_kind,                      \
                           .offset = offsetof(struct policy, field),       \
                           .option = offsetof(struct conf, its_option),    \
                           .say = POLICY_SAY_##its_say},
#include "tbl/policy.h"
};

static void print_flags(struct json_writer *writer, const char *words, int64_t bits)
{
    struct text word;
    json_open_array(writer);
    for (unsigned i = 0; (word = text_word_at(words, i)).data != NULL; i++)
        if ((bits & (INT64_C(1) << i)) != 0)
            json_text(writer, word);
    json_close_array(writer);
}

void policy_print_value(struct json_writer *writer, enum policy_member member, int64_t value)
{
    const struct policy_row *row = &policy_rows[member];
    const char *words = conf_bounds(row->option).words;
    switch (row->kind) {
    case POLICY_ENUM:
        json_text(writer, text_word_at(words, (unsigned)value));
        break;
    case POLICY_FLAGS:
        print_flags(writer, words, value);
        break;
    case POLICY_BOOL:
    case POLICY_FLAG:
        json_bool(writer, value != 0);
        break;
    default:
        json_int(writer, value);
    }
}

int policy_compare_names(struct text a, struct text b)
{
    if (a.length != b.length)
        return a.length < b.length ? -1 : 1;
    return memcmp(a.data, b.data, a.length);
}
