/* Borrowed text and growing buffers: the two ways bytes travel through sessiond. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes; not NUL-terminated. data is NULL for "absent". */
struct text {
    const char *data;
    size_t length;
};

/* Before a variable's declaration: `release` gets its address when its scope ends, after the value
 * that is returned was computed. */
#define SCOPED(release) __attribute__((cleanup(release)))

/* A string literal as text. */
#define TEXT(literal) ((struct text){(literal), sizeof(literal) - 1})

/* Text of a NUL-terminated string; NULL gives an absent text. */
struct text text_of(const char *string);

/* True if both hold the same bytes. Not for secrets: see crypto_equal(). */
bool text_equal(struct text a, struct text b);

/* True if the text is well-formed UTF-8 (RFC 3629) without C0/C1 control characters and DEL. */
bool text_is_clean_utf8(struct text text);

/* Bytes of the well-formed UTF-8 character that starts at data; 0 if there is none. */
size_t text_utf8_length(const char *data, size_t left);
/* At most the first `most` bytes of the text; UTF-8 is cut between characters. */
struct text text_cut(struct text text, size_t most);
/* Without the blanks and tabs at both ends (OWS of RFC 9110, section 5.6.3). */
struct text text_trim(struct text text);
/* Without the byte order mark that some editors put at the start of a file. */
struct text text_unmarked(struct text text);
/* True if the well-formed character is a C0 or C1 control or DEL. */
bool text_is_control(const char *character);

/* Parses the whole text as a decimal number within [minimum, maximum]; false leaves *ret unchanged.
 */
bool text_to_int(struct text text, int64_t minimum, int64_t maximum, int64_t *ret);

/* The text before the next separator, removed from *rest together with it; all of *rest if there is
 * none. */
struct text text_take(struct text *rest, char separator);

/* Words in one string, "first|second": the number of one of them, -1 if it is missing; and the word
 * of a number, absent after the last. */
int text_word_find(const char *words, struct text wanted);
struct text text_word_at(const char *words, unsigned index);

/* A growing byte string, owned by its declarer. Start from {0}; memory never runs out (see
 * memory.h). `data` is NULL until the first byte, and is not NUL-terminated. */
struct buffer {
    char *data;
    size_t length;
    size_t capacity;
};

/* Makes room for `more` bytes after the length and returns a pointer to it. */
char *buffer_reserve(struct buffer *buffer, size_t more);
void buffer_add(struct buffer *buffer, const void *data, size_t length);
void buffer_add_text(struct buffer *buffer, struct text text);
void buffer_add_char(struct buffer *buffer, char c);
/* Decimal digits, without going through printf. */
void buffer_add_int(struct buffer *buffer, int64_t value);
void buffer_addf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends a literal. */
#define buffer_add_literal(buffer, literal) buffer_add((buffer), (literal), sizeof(literal) - 1)
/* Wipes and frees the memory and returns the buffer to {0}. Growing wipes the old memory, too. */
void buffer_free(struct buffer *buffer);

/* The content as borrowed text, valid until the next change. */
struct text buffer_text(const struct buffer *buffer);

/* Lower-case hexadecimal. `out` takes 2 * length characters, without NUL. */
void text_to_hex(char *out, const void *data, size_t length);
/* Reads exactly 2 * length hexadecimal digits; false if the text is anything else. */
bool text_from_hex(void *out, size_t length, struct text text);

/* base64url without padding (RFC 4648 section 5). `out` takes (length * 4 + 2) / 3 characters. */
size_t text_to_base64url(char *out, const void *data, size_t length);
/* base64 with padding (section 4). `out` takes (length + 2) / 3 * 4 characters. */
size_t text_to_base64(char *out, const void *data, size_t length);
/* Reads the canonical base64url of exactly `length` bytes; false for every other text, unused
 * bits that are not zero included, so that each value has one spelling only. */
bool text_from_base64url(void *out, size_t length, struct text text);
