/* Cleaning of decorating texts. */
#include "clean.h"
#include "credential.h"

#include <string.h>

#define REDACTED "[redacted]"

static struct text without_credentials(struct text text, struct arena *arena)
{
    struct text found;
    if (!credential_find(text, &found))
        return text;
    SCOPED(buffer_free) struct buffer kept = {0};
    do {
        buffer_add(&kept, text.data, (size_t)(found.data - text.data) + CREDENTIAL_PREFIX);
        buffer_add_literal(&kept, REDACTED);
        const char *behind = found.data + found.length;
        text = (struct text){behind, text.length - (size_t)(behind - text.data)};
    } while (credential_find(text, &found));
    buffer_add_text(&kept, text);
    return arena_copy(arena, buffer_text(&kept));
}

/* --- characters --- */

static bool is_control_byte(unsigned char byte)
{
    return byte < 0x20 || (byte >= 0x7f && byte < 0xa0);
}

/* Appends one character, and the blank that controls before it became. */
static char *put_character(char *out, const char *begin, bool *blank, const char *character,
                           size_t length)
{
    if (*blank && out > begin)
        *out++ = ' ';
    *blank = false;
    memcpy(out, character, length);
    return out + length;
}

/* Writes at most two bytes for each one that is read. */
static struct text without_controls(struct text text, struct arena *arena)
{
    char *begin = arena_alloc(arena, 2 * text.length), *out = begin;
    bool blank = false;
    for (size_t at = 0; at < text.length;) {
        const char *character = text.data + at;
        size_t length = text_utf8_length(character, text.length - at);
        unsigned char byte = (unsigned char)*character;
        if (length > 0 ? text_is_control(character) : is_control_byte(byte)) {
            blank = true;
        } else if (length > 0) {
            out = put_character(out, begin, &blank, character, length);
        } else {
            const char latin[2] = {(char)(0xc0 | byte >> 6), (char)(0x80 | (byte & 0x3f))};
            out = put_character(out, begin, &blank, latin, sizeof(latin));
        }
        at += length > 0 ? length : 1;
    }
    return (struct text){begin, (size_t)(out - begin)};
}

struct text clean_text(struct text given, size_t most, struct arena *arena)
{
    static const struct text absent;
    struct text clean = given;
    if (!text_is_clean_utf8(given))
        clean = without_controls(given, arena);
    clean = text_cut(without_credentials(clean, arena), most);
    return clean.length > 0 ? clean : absent;
}
