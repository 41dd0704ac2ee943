/* The types of options: how each is read, printed, described, compared, released. */
#include "conf_options.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

struct text conf_next_word(struct text *rest, bool commas)
{
    const char *separators = commas ? " \t," : " \t";
    size_t begin = 0;
    while (begin < rest->length && strchr(separators, rest->data[begin]) != NULL)
        begin++;
    size_t end = begin;
    while (end < rest->length && strchr(separators, rest->data[end]) == NULL)
        end++;
    struct text word = {0};
    if (end > begin)
        word = (struct text){rest->data + begin, end - begin};
    *rest = (struct text){rest->data + end, rest->length - end};
    return word;
}

/* Text: anything without control characters. */

static bool text_parse(const struct option_row *row, struct text value, void *field)
{
    (void)row;
    if (!text_is_clean_utf8(value))
        return false;
    char **text = field;
    free(*text);
    *text = xstrndup(value.data, value.length);
    return true;
}

static void text_print(const struct option_row *row, const void *field, struct buffer *out)
{
    (void)row;
    char *const *text = field;
    buffer_add_text(out, text_of(*text));
}

static void text_describe(const struct option_row *row, struct buffer *out)
{
    (void)row;
    buffer_add_literal(out, "text in UTF-8");
}

static bool text_same(const void *a, const void *b)
{
    char *const *left = a, *const *right = b;
    return strcmp(*left, *right) == 0;
}

static void text_set_initial(const struct option_row *row, void *field)
{
    char **text = field;
    *text = xstrdup(row->initial_text);
}

static void text_release(void *field)
{
    char **text = field;
    free(*text);
    *text = NULL;
}

const struct option_type option_type_text = {text_parse, text_print,       text_describe,
                                             text_same,  text_set_initial, text_release};

/* Lists: words separated by blanks. */

static void list_release(void *field)
{
    struct conf_list *list = field;
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct conf_list){0};
}

static bool list_parse(const struct option_row *row, struct text value, void *field)
{
    (void)row;
    struct conf_list parsed = {0};
    bool clean = true;
    struct text word = conf_next_word(&value, false);
    for (; word.data != NULL; word = conf_next_word(&value, false)) {
        clean = clean && text_is_clean_utf8(word);
        parsed.items = xrealloc(parsed.items, (parsed.count + 1) * sizeof(parsed.items[0]));
        parsed.items[parsed.count++] = xstrndup(word.data, word.length);
    }
    if (!clean) {
        list_release(&parsed);
        return false;
    }
    list_release(field);
    *(struct conf_list *)field = parsed;
    return true;
}

static void list_print(const struct option_row *row, const void *field, struct buffer *out)
{
    (void)row;
    const struct conf_list *list = field;
    for (size_t i = 0; i < list->count; i++)
        buffer_addf(out, "%s%s", i > 0 ? " " : "", list->items[i]);
}

static void list_describe(const struct option_row *row, struct buffer *out)
{
    (void)row;
    buffer_add_literal(out, "words separated by blanks");
}

static bool list_same(const void *a, const void *b)
{
    const struct conf_list *left = a, *right = b;
    bool same = left->count == right->count;
    for (size_t i = 0; same && i < left->count; i++)
        same = strcmp(left->items[i], right->items[i]) == 0;
    return same;
}

static void list_set_initial(const struct option_row *row, void *field)
{
    bool set = list_parse(row, text_of(row->initial_text), field);
    assert(set);
    (void)set;
}

const struct option_type option_type_list = {list_parse, list_print,       list_describe,
                                             list_same,  list_set_initial, list_release};

/* Numbers, with or without units. */

struct unit {
    const char *suffix;
    int64_t factor;
};

/* Largest first; the one with factor 1 is meant when none is given. */
static const struct unit units_none[] = {{"", 1}, {NULL, 0}};
static const struct unit units_bytes[] = {
    {"G", INT64_C(1) << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}, {NULL, 0}};
static const struct unit units_seconds[] = {
    {"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}, {NULL, 0}};
static const struct unit units_millis[] = {{"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};

/* Splits "15m" into digits and unit and multiplies; false for what is not a number of the unit. */
static bool number_read(struct text value, const struct unit *units, int64_t *ret)
{
    size_t digits = 0;
    while (digits < value.length && value.data[digits] >= '0' && value.data[digits] <= '9')
        digits++;
    int64_t number;
    if (!text_to_int((struct text){value.data, digits}, 0, INT64_MAX, &number))
        return false;
    struct text suffix = {value.data + digits, value.length - digits};
    for (const struct unit *unit = units; unit->suffix != NULL; unit++) {
        bool plain = suffix.length == 0 && unit->factor == 1;
        if (plain || text_equal(suffix, text_of(unit->suffix)))
            return !__builtin_mul_overflow(number, unit->factor, ret);
    }
    return false;
}

static bool number_parse(const struct option_row *row, struct text value, const struct unit *units,
                         void *field)
{
    int64_t number;
    if (!number_read(value, units, &number) || number < row->minimum || number > row->maximum)
        return false;
    *(int64_t *)field = number;
    return true;
}

/* In the largest unit that divides the number; 0 needs none. */
static void number_print(int64_t number, const struct unit *units, struct buffer *out)
{
    const struct unit *unit = units;
    while (unit->factor > 1 && number % unit->factor != 0)
        unit++;
    buffer_addf(out, "%" PRId64 "%s", number / unit->factor, number == 0 ? "" : unit->suffix);
}

static void number_describe(const struct option_row *row, const char *what,
                            const struct unit *units, struct buffer *out)
{
    buffer_addf(out, "%s from ", what);
    number_print(row->minimum, units, out);
    buffer_add_literal(out, " to ");
    number_print(row->maximum, units, out);
    if (units == units_none)
        return;
    const char *before = " (units: ";
    for (const struct unit *unit = units; unit->suffix != NULL; unit++) {
        if (unit->suffix[0] != '\0') {
            buffer_addf(out, "%s%s", before, unit->suffix);
            before = ", ";
        }
    }
    buffer_add_char(out, ')');
}

static bool number_same(const void *a, const void *b)
{
    return *(const int64_t *)a == *(const int64_t *)b;
}

static void number_set_initial(const struct option_row *row, void *field)
{
    *(int64_t *)field = row->initial;
}

static void nothing_to_release(void *field)
{
    (void)field;
}

/* The four differ in their units and in what they are called. */
#define NUMBER_TYPE(kind, units, what)                                                            \
    static bool kind##_parse(const struct option_row *row, struct text value, void *field)        \
    {                                                                                             \
        return number_parse(row, value, units, field);                                            \
    }                                                                                             \
    static void kind##_print(const struct option_row *row, const void *field, struct buffer *out) \
    {                                                                                             \
        (void)row;                                                                                \
        number_print(*(const int64_t *)field, units, out);                                        \
    }                                                                                             \
    static void kind##_describe(const struct option_row *row, struct buffer *out)                 \
    {                                                                                             \
        number_describe(row, what, units, out);                                                   \
    }                                                                                             \
    const struct option_type option_type_##kind = {kind##_parse,       kind##_print,              \
                                                   kind##_describe,    number_same,               \
                                                   number_set_initial, nothing_to_release};

NUMBER_TYPE(int, units_none, "a number")
NUMBER_TYPE(bytes, units_bytes, "a size")
NUMBER_TYPE(seconds, units_seconds, "a time")
NUMBER_TYPE(millis, units_millis, "a time")

/* One word of several. */

static void words_describe(const char *what, const char *words, struct buffer *out)
{
    const char *before = what;
    struct text word;
    for (unsigned i = 0; (word = text_word_at(words, i)).data != NULL; i++) {
        buffer_addf(out, "%s %.*s", before, (int)word.length, word.data);
        before = ",";
    }
}

/* All our enums are stored as an unsigned int, as GCC does for those without negative constants. */
_Static_assert(sizeof(enum redis_mode) == sizeof(unsigned), "enums are as large as unsigned");

static bool enum_parse(const struct option_row *row, struct text value, void *field)
{
    int index = text_word_find(row->words, value);
    if (index < 0)
        return false;
    *(unsigned *)field = (unsigned)index;
    return true;
}

static void enum_print(const struct option_row *row, const void *field, struct buffer *out)
{
    buffer_add_text(out, text_word_at(row->words, *(const unsigned *)field));
}

static void enum_describe(const struct option_row *row, struct buffer *out)
{
    words_describe("one of", row->words, out);
}

static bool enum_same(const void *a, const void *b)
{
    return *(const unsigned *)a == *(const unsigned *)b;
}

static void enum_set_initial(const struct option_row *row, void *field)
{
    *(unsigned *)field = (unsigned)row->initial;
}

const struct option_type option_type_enum = {enum_parse, enum_print,       enum_describe,
                                             enum_same,  enum_set_initial, nothing_to_release};

/* yes or no. */

static const char bool_words[] = "no|yes";

static bool bool_parse(const struct option_row *row, struct text value, void *field)
{
    (void)row;
    int index = text_word_find(bool_words, value);
    if (index < 0)
        return false;
    *(bool *)field = index == 1;
    return true;
}

static void bool_print(const struct option_row *row, const void *field, struct buffer *out)
{
    (void)row;
    buffer_add_text(out, text_word_at(bool_words, *(const bool *)field));
}

static void bool_describe(const struct option_row *row, struct buffer *out)
{
    (void)row;
    words_describe("one of", bool_words, out);
}

static bool bool_same(const void *a, const void *b)
{
    return *(const bool *)a == *(const bool *)b;
}

static void bool_set_initial(const struct option_row *row, void *field)
{
    *(bool *)field = row->initial != 0;
}

const struct option_type option_type_bool = {bool_parse, bool_print,       bool_describe,
                                             bool_same,  bool_set_initial, nothing_to_release};

/* Any words of several, each once; the first is bit 0. */

static bool flags_parse(const struct option_row *row, struct text value, void *field)
{
    unsigned bits = 0;
    struct text word = conf_next_word(&value, false);
    for (; word.data != NULL; word = conf_next_word(&value, false)) {
        int index = text_word_find(row->words, word);
        if (index < 0 || (bits & (1u << index)) != 0)
            return false;
        bits |= 1u << index;
    }
    *(unsigned *)field = bits;
    return true;
}

static void flags_print(const struct option_row *row, const void *field, struct buffer *out)
{
    const char *before = "";
    unsigned index = 0;
    for (unsigned bits = *(const unsigned *)field; bits != 0; bits >>= 1, index++) {
        if ((bits & 1) != 0) {
            buffer_add_text(out, text_of(before));
            buffer_add_text(out, text_word_at(row->words, index));
            before = " ";
        }
    }
}

static void flags_describe(const struct option_row *row, struct buffer *out)
{
    words_describe("words, each once, out of", row->words, out);
}

const struct option_type option_type_flags = {flags_parse, flags_print,      flags_describe,
                                              enum_same,   enum_set_initial, nothing_to_release};
