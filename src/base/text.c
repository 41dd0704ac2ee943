/* Borrowed text, growing buffers, and the encodings that tokens and bodies travel in. */
#include "text.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "words.h"

struct text text_of(const char *string)
{
    return (struct text){string, string ? strlen(string) : 0};
}

bool text_equal(struct text a, struct text b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The second byte carries all the restrictions of RFC 3629: no overlong forms, no surrogates,
 * nothing above U+10FFFF. */
static bool second_byte_fits(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xe0:
        return second >= 0xa0 && second <= 0xbf;
    case 0xed:
        return second >= 0x80 && second <= 0x9f;
    case 0xf0:
        return second >= 0x90 && second <= 0xbf;
    case 0xf4:
        return second >= 0x80 && second <= 0x8f;
    default:
        return is_continuation(second);
    }
}

size_t text_utf8_length(const char *data, size_t left)
{
    const unsigned char *bytes = (const unsigned char *)data;
    if (left == 0)
        return 0;
    unsigned char first = bytes[0];
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (left < length || !second_byte_fits(first, bytes[1]))
        return 0;
    for (size_t i = 2; i < length; i++)
        if (!is_continuation(bytes[i]))
            return 0;
    return length;
}

struct text text_cut(struct text text, size_t most)
{
    enum { LONGEST_CHARACTER = 4 };
    if (text.length <= most)
        return text;
    size_t length = most;
    while (length > 0 && most - length < LONGEST_CHARACTER &&
           is_continuation((unsigned char)text.data[length]))
        length--;
    return (struct text){text.data, length};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct text text_unmarked(struct text text)
{
    static const char mark[] = "\xEF\xBB\xBF";
    const size_t size = sizeof(mark) - 1;
    bool marked = text.length >= size && memcmp(text.data, mark, size) == 0;
    return marked ? (struct text){text.data + size, text.length - size} : text;
}

struct text text_trim(struct text text)
{
    while (text.length > 0 && is_blank(text.data[0])) {
        text.data++;
        text.length--;
    }
    while (text.length > 0 && is_blank(text.data[text.length - 1]))
        text.length--;
    return text;
}

bool text_is_control(const char *character)
{
    const unsigned char *bytes = (const unsigned char *)character;
    return bytes[0] < 0x20 || bytes[0] == 0x7f || (bytes[0] == 0xc2 && bytes[1] < 0xa0);
}

bool text_is_clean_utf8(struct text text)
{
    size_t length;
    for (size_t at = 0; at < text.length; at += length) {
        const char *character = text.data + at;
        size_t left = text.length - at;
        if (left >= 8 && word_is_printable(word_load(character)))
            length = 8;
        else if (*character >= 0x20 && *character < 0x7f)
            length = 1;
        else if ((length = text_utf8_length(character, left)) == 0 || text_is_control(character))
            return false;
    }
    return true;
}

bool text_to_int(struct text text, int64_t minimum, int64_t maximum, int64_t *ret)
{
    bool negative = text.length > 0 && text.data[0] == '-';
    size_t at = negative ? 1 : 0;
    if (at == text.length)
        return false;
    /* Counted downwards, since INT64_MIN has no positive twin. */
    int64_t value = 0;
    for (; at < text.length; at++) {
        char c = text.data[at];
        if (c < '0' || c > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, c - '0', &value))
            return false;
    }
    if (!negative && __builtin_sub_overflow((int64_t)0, value, &value))
        return false;
    if (value < minimum || value > maximum)
        return false;
    *ret = value;
    return true;
}

struct text text_take(struct text *rest, char separator)
{
    const char *end = rest->length ? memchr(rest->data, separator, rest->length) : NULL;
    if (!end) {
        struct text all = *rest;
        rest->length = 0;
        return all;
    }
    struct text taken = {rest->data, (size_t)(end - rest->data)};
    *rest = (struct text){end + 1, rest->length - taken.length - 1};
    return taken;
}

int text_word_find(const char *words, struct text wanted)
{
    int index = 0;
    for (const char *word = words;; index++) {
        size_t length = strcspn(word, "|");
        if (text_equal((struct text){word, length}, wanted))
            return index;
        if (word[length] == '\0')
            return -1;
        word += length + 1;
    }
}

struct text text_word_at(const char *words, unsigned index)
{
    for (; index > 0; index--) {
        words = strchr(words, '|');
        if (words == NULL)
            return (struct text){0};
        words++;
    }
    return (struct text){words, strcspn(words, "|")};
}

/* --- hexadecimal --- */

void text_to_hex(char *out, const void *data, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = data;
    for (size_t i = 0; i < length; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool text_from_hex(void *out, size_t length, struct text text)
{
    unsigned char *bytes = out;
    if (text.length % 2 != 0 || text.length / 2 != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        int high = hex_value(text.data[2 * i]);
        int low = hex_value(text.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* --- base64 --- */

#define BASE64_SHARED_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static char *write_digits(char *end, const void *data, size_t length, const char *digits)
{
    const unsigned char *bytes = data;
    uint32_t bits = 0;
    unsigned held = 0; /* bits not yet written */
    for (size_t i = 0; i < length; i++) {
        bits = bits << 8 | bytes[i];
        held += 8;
        while (held >= 6) {
            held -= 6;
            *end++ = digits[bits >> held & 63];
        }
    }
    if (held > 0)
        *end++ = digits[bits << (6 - held) & 63];
    return end;
}

size_t text_to_base64url(char *out, const void *data, size_t length)
{
    return (size_t)(write_digits(out, data, length, BASE64_SHARED_DIGITS "-_") - out);
}

size_t text_to_base64(char *out, const void *data, size_t length)
{
    char *end = write_digits(out, data, length, BASE64_SHARED_DIGITS "+/");
    while ((end - out) % 4 != 0)
        *end++ = '=';
    return (size_t)(end - out);
}

enum { LISTED = 64 };

/* LISTED plus the value; zero for characters that are not listed. */
static const unsigned char base64url_values[256] = {
    ['A'] = 64,  ['B'] = 65,  ['C'] = 66,  ['D'] = 67,  ['E'] = 68,  ['F'] = 69,  ['G'] = 70,
    ['H'] = 71,  ['I'] = 72,  ['J'] = 73,  ['K'] = 74,  ['L'] = 75,  ['M'] = 76,  ['N'] = 77,
    ['O'] = 78,  ['P'] = 79,  ['Q'] = 80,  ['R'] = 81,  ['S'] = 82,  ['T'] = 83,  ['U'] = 84,
    ['V'] = 85,  ['W'] = 86,  ['X'] = 87,  ['Y'] = 88,  ['Z'] = 89,  ['a'] = 90,  ['b'] = 91,
    ['c'] = 92,  ['d'] = 93,  ['e'] = 94,  ['f'] = 95,  ['g'] = 96,  ['h'] = 97,  ['i'] = 98,
    ['j'] = 99,  ['k'] = 100, ['l'] = 101, ['m'] = 102, ['n'] = 103, ['o'] = 104, ['p'] = 105,
    ['q'] = 106, ['r'] = 107, ['s'] = 108, ['t'] = 109, ['u'] = 110, ['v'] = 111, ['w'] = 112,
    ['x'] = 113, ['y'] = 114, ['z'] = 115, ['0'] = 116, ['1'] = 117, ['2'] = 118, ['3'] = 119,
    ['4'] = 120, ['5'] = 121, ['6'] = 122, ['7'] = 123, ['8'] = 124, ['9'] = 125, ['-'] = 126,
    ['_'] = 127,
};

/* The bits that the digits stand for, in `*ret`; false if one is not listed. */
static bool decode_digits(const char *digits, size_t count, uint32_t *ret)
{
    uint32_t bits = 0, listed = LISTED;
    for (size_t i = 0; i < count; i++) {
        uint32_t value = base64url_values[(unsigned char)digits[i]];
        listed &= value;
        bits = (bits << 6) + value - LISTED;
    }
    *ret = bits;
    return listed != 0;
}

bool text_from_base64url(void *out, size_t length, struct text text)
{
    unsigned char *bytes = out;
    uint32_t bits = 0;
    assert(length < SIZE_MAX / 8);
    if (text.length != (length * 4 + 2) / 3)
        return false;
    for (size_t i = 0; i < length / 3; i++) {
        if (!decode_digits(text.data + 4 * i, 4, &bits))
            return false;
        bytes[3 * i] = (unsigned char)(bits >> 16);
        bytes[3 * i + 1] = (unsigned char)(bits >> 8);
        bytes[3 * i + 2] = (unsigned char)bits;
    }
    /* One or two bytes are left, in two or three digits whose last bits must be zero. */
    size_t left = length % 3;
    if (left == 0)
        return true;
    unsigned spare = left == 1 ? 4 : 2;
    if (!decode_digits(text.data + text.length - left - 1, left + 1, &bits))
        return false;
    for (size_t i = 0; i < left; i++)
        bytes[length - left + i] = (unsigned char)(bits >> spare >> 8 * (left - 1 - i));
    return (bits & ((1U << spare) - 1)) == 0;
}
