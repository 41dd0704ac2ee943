/* Finding secrets where none should be. */
#include "credential.h"

#include <string.h>

/* Prefixes are three characters. After them keys have 43 digits of base64url, tokens 60; fewer than
 * these are no secret any more, or a caller's word. */
enum { LEAST_DIGITS = 40 };

static bool is_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static size_t count_digits(const char *data, const char *end)
{
    size_t count = 0;
    while (data + count < end && is_digit(data[count]))
        count++;
    return count;
}

/* The length of the credential at the beginning of the text; 0 if there is none. */
static size_t measure(struct text text)
{
    const char *data = text.data;
    if (text.length < CREDENTIAL_PREFIX || data[0] != 's' || !memchr("kacr", data[1], 4) ||
        data[2] != '_')
        return 0;
    size_t digits = count_digits(data + CREDENTIAL_PREFIX, data + text.length);
    return digits >= LEAST_DIGITS ? CREDENTIAL_PREFIX + digits : 0;
}

bool credential_find(struct text text, struct text *ret)
{
    const char *end = text.data + text.length;
    const char *at = text.length < CREDENTIAL_PREFIX ? end : text.data + CREDENTIAL_PREFIX - 1;
    while (at < end && (at = memchr(at, '_', (size_t)(end - at))) != NULL) {
        const char *begin = at - (CREDENTIAL_PREFIX - 1);
        size_t length = measure((struct text){begin, (size_t)(end - begin)});
        if (length > 0) {
            *ret = (struct text){begin, length};
            return true;
        }
        at++;
    }
    return false;
}

bool credential_begins(struct text text)
{
    return measure(text) > 0;
}
