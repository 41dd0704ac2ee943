/* Reads and prints whole texts with jansson: its memory is wiped, its depth bounded, its messages
 * translated. */
#include "json_parse.h"

#include <assert.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "container_of.h"
#include "log.h"

enum { DEEPEST = 32 };

/* --- memory for jansson --- */

struct sized_block {
    size_t size;
    alignas(max_align_t) char data[];
};

static void *allocate(size_t size)
{
    struct sized_block *block = xmalloc(sizeof(*block) + size);
    block->size = size;
    return block->data;
}

static void wipe_and_release(void *memory)
{
    if (memory) {
        struct sized_block *block = container_of(memory, struct sized_block, data);
        explicit_bzero(block->data, block->size);
        free(block);
    }
}

static void install_allocator(void)
{
    json_set_alloc_funcs(allocate, wipe_and_release);
}

json_t *json_iterable(const json_t *object)
{
    return (json_t *)object;
}

/* --- printing --- */

/* The shortest form that reads back as the same number: 0.1 stays 0.1, while jansson would print
 * 0.10000000000000001. */
static void print_real(struct json_writer *writer, const json_t *value)
{
    char digits[40];
    size_t length = 0;
    for (size_t precision = 15; precision <= 17; precision++) {
        length = json_dumpb(value, digits, sizeof(digits) - 1,
                            JSON_ENCODE_ANY | JSON_REAL_PRECISION(precision));
        assert(length > 0 && length < sizeof(digits));
        digits[length] = '\0';
        if (strtod(digits, NULL) == json_real_value(value))
            break;
    }
    json_raw(writer, (struct text){digits, length});
}

static void print_object(struct json_writer *writer, const json_t *object)
{
    json_t *iterated = json_iterable(object);
    json_open_object(writer);
    for (void *at = json_object_iter(iterated); at; at = json_object_iter_next(iterated, at)) {
        json_text(writer, text_of(json_object_iter_key(at)));
        buffer_add_char(writer->out, ':');
        writer->comma = false;
        json_print_value(writer, json_object_iter_value(at));
    }
    json_close_object(writer);
}

static void print_array(struct json_writer *writer, const json_t *array)
{
    json_open_array(writer);
    for (size_t i = 0; i < json_array_size(array); i++)
        json_print_value(writer, json_array_get(array, i));
    json_close_array(writer);
}

/* Recursion ends at DEEPEST. */
void json_print_value(struct json_writer *writer, const json_t *value)
{
    if (json_is_object(value))
        print_object(writer, value);
    else if (json_is_array(value))
        print_array(writer, value);
    else if (json_is_string(value))
        json_text(writer, (struct text){json_string_value(value), json_string_length(value)});
    else if (json_is_integer(value))
        json_int(writer, json_integer_value(value));
    else if (json_is_real(value))
        print_real(writer, value);
    else if (json_is_boolean(value))
        json_bool(writer, json_is_true(value));
    else
        json_none(writer);
}

/* --- messages --- */

const char *json_quote_name(char out[static JSON_NAME_SHOWN + 4], const char *name)
{
    log_quote(out, JSON_NAME_SHOWN + 1, text_of(name));
    if (strlen(name) > JSON_NAME_SHOWN)
        memcpy(out + JSON_NAME_SHOWN, "...", 4);
    return out;
}

/* Duplicate keys are the one fault that jansson knows a member for: its message ends in the key,
 * in quotes, if it is short. Every other message may end in a piece of a value. */
static void complain_duplicate(const json_error_t *error, struct buffer *out)
{
    const char *open = strchr(error->text, '"');
    const char *close = strrchr(error->text, '"');
    if (!open || open == close) {
        buffer_add_literal(out, "The body holds a member twice");
        return;
    }
    char key[JSON_ERROR_TEXT_LENGTH];
    char quoted[JSON_NAME_SHOWN + 4];
    size_t length = (size_t)(close - open - 1);
    memcpy(key, open + 1, length);
    key[length] = '\0';
    buffer_addf(out, "\"%s\" is there twice", json_quote_name(quoted, key));
}

/* The position of an error in a text: the names of the members that are open there. */
struct error_path {
    struct text names[DEEPEST + 1]; /* as they are spelled; absent in arrays */
    unsigned depth;
};

/* The string that begins at the quote at `from`, without its quotes; ends with the text. */
static struct text string_from_quote(struct text text, size_t from)
{
    size_t end = from + 1;
    while (end < text.length && text.data[end] != '"')
        end += text.data[end] == '\\' ? 2 : 1;
    if (end > text.length)
        end = text.length;
    return (struct text){text.data + from + 1, end - from - 1};
}

/* A string is a name if it follows an opening brace, or a comma in an object. The text is known to
 * nest no deeper than DEEPEST. */
static void find_error_path(struct text text, struct error_path *ret)
{
    bool in_object[DEEPEST + 1] = {false};
    bool name_due = false;
    *ret = (struct error_path){.depth = 0};
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == '{' || c == '[') {
            in_object[++ret->depth] = name_due = c == '{';
            ret->names[ret->depth] = (struct text){0};
        } else if ((c == '}' || c == ']') && ret->depth > 0) {
            ret->depth--;
        } else if (c == ',') {
            name_due = in_object[ret->depth];
        } else if (c == '"') {
            struct text string = string_from_quote(text, i);
            if (name_due)
                ret->names[ret->depth] = string;
            name_due = false;
            i += string.length + 1;
        }
    }
}

/* Appends `"device.name"`, or nothing if the error is in no member. */
static void print_error_path(const struct error_path *error_path, struct buffer *out)
{
    SCOPED(buffer_free) struct buffer path = {0};
    char quoted[JSON_NAME_SHOWN + 4];
    for (unsigned depth = 1; depth <= error_path->depth; depth++) {
        if (!error_path->names[depth].data)
            continue;
        if (path.length > 0)
            buffer_add_char(&path, '.');
        buffer_add_text(&path, error_path->names[depth]);
    }
    buffer_add_char(&path, '\0');
    if (path.length > 1)
        buffer_addf(out, "\"%s\"", json_quote_name(quoted, path.data));
}

/* Faults in a string, which belongs to a member; other faults may be anywhere. */
static void complain_string(struct text body, const json_error_t *error, const char *what,
                            struct buffer *out)
{
    struct error_path error_path;
    size_t before = error->position > 0 ? (size_t)error->position : 0;
    find_error_path((struct text){body.data, before < body.length ? before : body.length},
                    &error_path);
    size_t length = out->length;
    print_error_path(&error_path, out);
    if (out->length == length)
        buffer_add_literal(out, "The body");
    buffer_addf(out, " %s (line %d, column %d)", what, error->line, error->column);
}

static void complain_nul(struct text body, struct buffer *out)
{
    json_error_t fault = {.line = 1};
    for (; body.data[fault.position] != '\0'; fault.position++) {
        bool ends_line = body.data[fault.position] == '\n';
        fault.line += ends_line;
        fault.column = ends_line ? 0 : fault.column + 1;
    }
    fault.column++;
    complain_string(body, &fault, "holds a NUL character", out);
}

static void complain_syntax(struct text body, const json_error_t *error, struct buffer *out)
{
    static const struct {
        const char *text; /* start of jansson's message, if its code is not specific enough */
        const char *what;
        enum json_error_code code;
        bool in_string;
    } causes[] = {
        {"", "is not valid UTF-8", json_error_invalid_utf8, true},
        {"", "is JSON that ends too early", json_error_premature_end_of_input, false},
        {"", "has something behind its JSON object", json_error_end_of_input_expected, false},
        {"", "holds a NUL character", json_error_null_character, true},
        {"", "holds a NUL character in a member's name", json_error_null_byte_in_key, false},
        {"", "holds a number that is too large", json_error_numeric_overflow, false},
        {"invalid Unicode", "holds half of a surrogate pair", json_error_invalid_syntax, true},
        {"control character", "holds a control character as it is", json_error_invalid_syntax,
         true},
    };
    const char *what = "is not valid JSON";
    bool in_string = false;
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        if (causes[i].code == json_error_code(error) &&
            strncmp(error->text, causes[i].text, strlen(causes[i].text)) == 0) {
            what = causes[i].what;
            in_string = causes[i].in_string;
        }
    }
    if (in_string)
        complain_string(body, error, what, out);
    else
        buffer_addf(out, "The body %s (line %d, column %d)", what, error->line, error->column);
}

/* --- parsing --- */

/* jansson stops at 2,048 levels; a tenth of that is plenty, and values are later walked by
 * recursion, here and by callers. */
static bool nests_too_deep(struct text body)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < body.length; i++) {
        char c = body.data[i];
        if (in_string) {
            i += c == '\\' ? 1 : 0;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > DEEPEST)
                return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return false;
}

json_t *json_parse_object(struct text body, struct buffer *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_allocator);
    if (nests_too_deep(body)) {
        buffer_addf(error, "The body nests deeper than %d levels", DEEPEST);
        return NULL;
    }
    /* jansson reads numbers and literals as strings of C, and takes a NUL after them for an end. */
    if (body.length > 0 && memchr(body.data, '\0', body.length)) {
        complain_nul(body, error);
        return NULL;
    }
    json_error_t fault;
    json_t *root = json_loadb(body.length > 0 ? body.data : "", body.length,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
    if (json_is_object(root))
        return root;
    if (root != NULL)
        buffer_add_literal(error, "The body must be a JSON object");
    else if (json_error_code(&fault) == json_error_duplicate_key)
        complain_duplicate(&fault, error);
    else
        complain_syntax(body, &fault, error);
    json_decref(root);
    return NULL;
}
