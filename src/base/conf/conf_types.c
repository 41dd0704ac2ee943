/* The types of options: how each is read, printed, described, released. */
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

const struct option_type option_type_text = {text_parse, text_print, text_describe,
                                             text_set_initial, text_release};

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

static void list_set_initial(const struct option_row *row, void *field)
{
    bool set = list_parse(row, text_of(row->initial_text), field);
    assert(set);
    (void)set;
}

const struct option_type option_type_list = {list_parse, list_print, list_describe,
                                             list_set_initial, list_release};

/* Numbers, with or without units. */

/* Largest first; the one with factor 1 is meant when none is given. */
const struct option_units option_units_int = {"a number", {{"", 1}}};
const struct option_units option_units_bytes = {
    "a size", {{"G", INT64_C(1) << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}}};
const struct option_units option_units_seconds = {"a time",
                                                  {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}};
const struct option_units option_units_millis = {"a time", {{"m", 60000}, {"s", 1000}, {"ms", 1}}};

/* Splits "15m" into digits and unit and multiplies; false if it is no number with such a unit. */
static bool number_read(struct text value, const struct option_units *units, int64_t *ret)
{
    size_t digits = 0;
    while (digits < value.length && value.data[digits] >= '0' && value.data[digits] <= '9')
        digits++;
    int64_t number;
    if (!text_to_int((struct text){value.data, digits}, 0, INT64_MAX, &number))
        return false;
    struct text suffix = {value.data + digits, value.length - digits};
    for (const struct option_unit *unit = units->list; unit->suffix != NULL; unit++) {
        bool plain = suffix.length == 0 && unit->factor == 1;
        if (plain || text_equal(suffix, text_of(unit->suffix)))
            return !__builtin_mul_overflow(number, unit->factor, ret);
    }
    return false;
}

static bool number_parse(const struct option_row *row, struct text value, void *field)
{
    int64_t number;
    if (!number_read(value, row->units, &number) || number < row->minimum || number > row->maximum)
        return false;
    *(int64_t *)field = number;
    return true;
}

/* In the largest unit that divides the number; 0 needs none. */
static void add_number(int64_t number, const struct option_units *units, struct buffer *out)
{
    const struct option_unit *unit = units->list;
    while (unit->factor > 1 && number % unit->factor != 0)
        unit++;
    buffer_addf(out, "%" PRId64 "%s", number / unit->factor, number == 0 ? "" : unit->suffix);
}

static void number_print(const struct option_row *row, const void *field, struct buffer *out)
{
    add_number(*(const int64_t *)field, row->units, out);
}

static void number_describe(const struct option_row *row, struct buffer *out)
{
    const char *before = " (units: ";
    buffer_addf(out, "%s from ", row->units->what);
    add_number(row->minimum, row->units, out);
    buffer_add_literal(out, " to ");
    add_number(row->maximum, row->units, out);
    if (row->units == &option_units_int)
        return;
    for (const struct option_unit *unit = row->units->list; unit->suffix != NULL; unit++) {
        if (unit->suffix[0] != '\0') {
            buffer_addf(out, "%s%s", before, unit->suffix);
            before = ", ";
        }
    }
    buffer_add_char(out, ')');
}

static void number_set_initial(const struct option_row *row, void *field)
{
    *(int64_t *)field = row->initial;
}

static void nothing_to_release(void *field)
{
    (void)field;
}

const struct option_type option_type_number = {number_parse, number_print, number_describe,
                                               number_set_initial, nothing_to_release};

/* One word of several; the second of "no|yes" is true. */

static void words_describe(const char *what, const char *words, struct buffer *out)
{
    const char *before = what;
    struct text word;
    for (unsigned i = 0; (word = text_word_at(words, i)).data != NULL; i++) {
        buffer_addf(out, "%s %.*s", before, (int)word.length, word.data);
        before = ",";
    }
}

/* All these enums are stored as an unsigned int, as GCC does without negative constants. */
_Static_assert(sizeof(enum redis_mode) == sizeof(unsigned), "enums are as large as unsigned");

static void word_store(const struct option_row *row, unsigned index, void *field)
{
    if (row->type == &option_type_bool)
        *(bool *)field = index == 1;
    else
        *(unsigned *)field = index;
}

static bool word_parse(const struct option_row *row, struct text value, void *field)
{
    int index = text_word_find(row->words, value);
    if (index < 0)
        return false;
    word_store(row, (unsigned)index, field);
    return true;
}

static void word_print(const struct option_row *row, const void *field, struct buffer *out)
{
    bool is_bool = row->type == &option_type_bool;
    unsigned index = is_bool ? *(const bool *)field : *(const unsigned *)field;
    buffer_add_text(out, text_word_at(row->words, index));
}

static void word_describe(const struct option_row *row, struct buffer *out)
{
    words_describe("one of", row->words, out);
}

static void word_set_initial(const struct option_row *row, void *field)
{
    word_store(row, (unsigned)row->initial, field);
}

const struct option_type option_type_enum = {word_parse, word_print, word_describe,
                                             word_set_initial, nothing_to_release};
const struct option_type option_type_bool = {word_parse, word_print, word_describe,
                                             word_set_initial, nothing_to_release};

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

const struct option_type option_type_flags = {flags_parse, flags_print, flags_describe,
                                              word_set_initial, nothing_to_release};
