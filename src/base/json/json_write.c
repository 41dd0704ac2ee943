/* The JSON writer appends text, never builds a tree. Runs of bytes that need no escape are found
 * eight bytes at a time and copied whole. */
#include "json.h"

#include <string.h>

#include "base/words.h"

static void begin_value(struct json_writer *writer)
{
    if (writer->comma)
        buffer_add_char(writer->out, ',');
    writer->comma = true;
}

static void open_bracket(struct json_writer *writer, char bracket)
{
    begin_value(writer);
    buffer_add_char(writer->out, bracket);
    writer->comma = false;
}

static void close_bracket(struct json_writer *writer, char bracket)
{
    buffer_add_char(writer->out, bracket);
    writer->comma = true;
}

void json_open_object(struct json_writer *writer)
{
    open_bracket(writer, '{');
}

void json_close_object(struct json_writer *writer)
{
    close_bracket(writer, '}');
}

void json_open_array(struct json_writer *writer)
{
    open_bracket(writer, '[');
}

void json_close_array(struct json_writer *writer)
{
    close_bracket(writer, ']');
}

void json_name(struct json_writer *writer, const char *name)
{
    size_t length = strlen(name);
    char *out = buffer_reserve(writer->out, length + 4);
    char *end = out;
    if (writer->comma)
        *end++ = ',';
    *end++ = '"';
    memcpy(end, name, length);
    end += length;
    *end++ = '"';
    *end++ = ':';
    writer->out->length += (size_t)(end - out);
    writer->comma = false;
}

void json_member_object(struct json_writer *writer, const char *name)
{
    json_name(writer, name);
    json_open_object(writer);
}

void json_member_array(struct json_writer *writer, const char *name)
{
    json_name(writer, name);
    json_open_array(writer);
}

/* --- strings --- */

static bool word_is_plain(uint64_t word)
{
    return word_is_printable(word) && (word_has(word, '"') | word_has(word, '\\')) == 0;
}

static bool is_plain(char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* The end of the run of plain ASCII that starts at `at`. The last bytes are checked together with
 * some before them, if there are any. */
static size_t skip_plain(struct text value, size_t at)
{
    while (value.length - at >= 8 && word_is_plain(word_load(value.data + at)))
        at += 8;
    if (value.length - at < 8 && value.length >= 8 &&
        word_is_plain(word_load(value.data + value.length - 8)))
        return value.length;
    while (at < value.length && is_plain(value.data[at]))
        at++;
    return at;
}

/* C1 controls and DEL may stand raw in JSON; they are escaped all the same, since responses and
 * audit lines end up on terminals. `length` is the character's, 0 if it is not well-formed. */
static bool must_escape(const char *character, size_t length)
{
    return length == 0 || *character == '"' || *character == '\\' || text_is_control(character);
}

static void add_escape(struct buffer *out, const char *character, size_t length)
{
    if (length == 0) {
        buffer_add_literal(out, "\xef\xbf\xbd");
    } else if (*character == '"' || *character == '\\') {
        buffer_add_char(out, '\\');
        buffer_add_char(out, *character);
    } else {
        /* The last byte of a C1 control in UTF-8 is its code point. */
        buffer_add_literal(out, "\\u00");
        text_to_hex(buffer_reserve(out, 2), character + length - 1, 1);
        out->length += 2;
    }
}

void json_escape(struct buffer *out, struct text value)
{
    size_t run = 0; /* start of the bytes not yet copied */
    size_t at = 0;
    while ((at = skip_plain(value, at)) < value.length) {
        const char *character = value.data + at;
        size_t length = text_utf8_length(character, value.length - at);
        if (must_escape(character, length)) {
            buffer_add(out, value.data + run, at - run);
            add_escape(out, character, length);
            run = at + (length ? length : 1);
        }
        at += length ? length : 1;
    }
    buffer_add(out, value.data ? value.data + run : NULL, value.length - run);
}

/* --- values --- */

void json_text(struct json_writer *writer, struct text value)
{
    if (!value.data) {
        json_none(writer);
        return;
    }
    begin_value(writer);
    buffer_add_char(writer->out, '"');
    json_escape(writer->out, value);
    buffer_add_char(writer->out, '"');
}

void json_int(struct json_writer *writer, int64_t value)
{
    begin_value(writer);
    buffer_add_int(writer->out, value);
}

void json_bool(struct json_writer *writer, bool value)
{
    begin_value(writer);
    buffer_add_text(writer->out, value ? TEXT("true") : TEXT("false"));
}

void json_none(struct json_writer *writer)
{
    begin_value(writer);
    buffer_add_literal(writer->out, "null");
}

void json_raw(struct json_writer *writer, struct text json)
{
    if (json.length > 0) {
        begin_value(writer);
        buffer_add_text(writer->out, json);
    }
}

void json_member_string(struct json_writer *writer, const char *name, struct text value)
{
    json_name(writer, name);
    json_text(writer, value);
}

void json_member_int(struct json_writer *writer, const char *name, int64_t value)
{
    json_name(writer, name);
    json_int(writer, value);
}

void json_member_bool(struct json_writer *writer, const char *name, bool value)
{
    json_name(writer, name);
    json_bool(writer, value);
}

void json_member_raw(struct json_writer *writer, const char *name, struct text json)
{
    json_name(writer, name);
    if (json.length > 0)
        json_raw(writer, json);
    else
        json_none(writer);
}
