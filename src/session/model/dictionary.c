/* The entries, and packing and unpacking by them. */
#include "dictionary.h"

#include <string.h>

#include "session_json_marks.h"

#define AS_IT_IS 31

#define ENTRY(code, literal) [code] = {literal, sizeof(literal) - 1}

static const struct text entries[AS_IT_IS + 1] = {
    ENTRY(1, MARK_TENANT "\""),
    ENTRY(2, MARK_TENANT "\"default\"" MARK_USER_ID "\""),
    ENTRY(3, "\"" MARK_USER_ID "\""),
    ENTRY(4, "\"" MARK_ROLES "[]" MARK_DEVICE "{"),
    ENTRY(5, "\"" MARK_ROLES "[\""),
    ENTRY(6, "\"]" MARK_DEVICE "{" MARK_DEVICE_ID "\""),
    ENTRY(7, "\"]" MARK_DEVICE "{"),
    ENTRY(8, MARK_DEVICE_ID "\""),
    ENTRY(9, "\"," MARK_DEVICE_TYPE "\""),
    ENTRY(10, "\"," MARK_DEVICE_NAME "\""),
    ENTRY(11, "\"}" MARK_ATTRIBUTES "{\""),
    ENTRY(12, "\",\""),
    ENTRY(13, "\":\""),
    ENTRY(14, "\"}"),
    ENTRY(15, "Mozilla/5.0 ("),
    ENTRY(16, "Windows NT 10.0; Win64; x64"),
    ENTRY(17, "Macintosh; Intel Mac OS X 10"),
    ENTRY(18, "X11; Linux x86_64"),
    ENTRY(19, "Linux; Android "),
    ENTRY(20, "iPhone; CPU iPhone OS "),
    ENTRY(21, "iPad; CPU OS "),
    ENTRY(22, " like Mac OS X"),
    ENTRY(23, ") AppleWebKit/605.1.15 (KHTML, like Gecko) Version/"),
    ENTRY(24, ") AppleWebKit/605.1.15 (KHTML, like Gecko)"),
    ENTRY(25, ") AppleWebKit/537.36 (KHTML, like Gecko) Chrome/"),
    ENTRY(26, " Mobile/15E148"),
    ENTRY(27, " Safari/60"),
    ENTRY(28, ".0.0.0 Safari/537.36"),
    ENTRY(29, ".0.0.0 Mobile Safari/537.36"),
    ENTRY(30, ".0) Gecko/20100101 Firefox/"),
};

/* The longest entry that the text begins with, 0 if there is none. */
static uint8_t find_entry(struct text text)
{
    uint8_t found = 0;
    for (uint8_t code = 1; code < AS_IT_IS; code++) {
        const struct text *entry = &entries[code];
        if (entry->length <= text.length && entry->length > entries[found].length &&
            memcmp(entry->data, text.data, entry->length) == 0)
            found = code;
    }
    return found;
}

void dictionary_pack(struct buffer *out, struct text text)
{
    while (text.length > 0) {
        uint8_t code = find_entry(text);
        size_t taken = code > 0 ? entries[code].length : 1;
        bool is_code = (uint8_t)text.data[0] <= AS_IT_IS;
        if (code == 0 && is_code)
            buffer_add_char(out, AS_IT_IS);
        buffer_add_char(out, code > 0 ? (char)code : text.data[0]);
        text = (struct text){text.data + taken, text.length - taken};
    }
}

/* Length after unpacking; SIZE_MAX if the bytes are no spelling. */
static size_t unpacked_length(struct text packed)
{
    size_t length = 0;
    for (size_t i = 0; i < packed.length; i++) {
        uint8_t byte = (uint8_t)packed.data[i];
        if (byte == AS_IT_IS)
            i++;
        if (byte == 0 || i == packed.length)
            return SIZE_MAX;
        length += byte < AS_IT_IS ? entries[byte].length : 1;
    }
    return length;
}

bool dictionary_unpack(struct arena *arena, struct text packed, size_t most, struct text *ret)
{
    size_t length = unpacked_length(packed);
    *ret = (struct text){0};
    if (length > most)
        return false;
    if (length == 0)
        return true;
    char *text = arena_alloc(arena, length);
    char *end = text;
    for (size_t i = 0; i < packed.length; i++) {
        uint8_t byte = (uint8_t)packed.data[i];
        if (byte < AS_IT_IS)
            end = mempcpy(end, entries[byte].data, entries[byte].length);
        else
            *end++ = byte == AS_IT_IS ? packed.data[++i] : packed.data[i];
    }
    *ret = (struct text){text, length};
    return true;
}
