/* Reading conditions, making tags. */
#include "etag.h"

#include <string.h>

enum { HASH = 12 };

void etag_print(const struct keyring *keyring, const struct text *parts, size_t count,
                char ret[ETAG_LENGTH])
{
    uint8_t hash[HASH];
    _Static_assert(HASH * 4 / 3 + 2 == ETAG_LENGTH, "base64url between quotes");
    crypto_keyed_hash(keyring, CRYPTO_ETAG, parts, count, hash, sizeof(hash));
    ret[0] = ret[ETAG_LENGTH - 1] = '"';
    text_to_base64url(ret + 1, hash, sizeof(hash));
}

static bool is_separator(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

static void skip_bytes(struct text *rest, size_t length)
{
    rest->data += length;
    rest->length -= length;
}

/* entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE. Takes one off the list, its quotes with it. */
static bool take_tag(struct text *rest, struct text *tag, bool *weak)
{
    *weak = rest->length >= 2 && memcmp(rest->data, "W/", 2) == 0;
    if (*weak)
        skip_bytes(rest, 2);
    if (rest->length < 2 || rest->data[0] != '"')
        return false;
    const char *close = memchr(rest->data + 1, '"', rest->length - 1);
    if (!close)
        return false;
    *tag = (struct text){rest->data, (size_t)(close - rest->data) + 1};
    for (size_t i = 1; i + 1 < tag->length; i++)
        if ((unsigned char)tag->data[i] <= 0x20 || tag->data[i] == 0x7f)
            return false;
    skip_bytes(rest, tag->length);
    return true;
}

/* Lists may hold empty elements (RFC 9110 section 5.6.1). */
static void skip_separators(struct text *rest)
{
    while (rest->length > 0 && is_separator(rest->data[0]))
        skip_bytes(rest, 1);
}

bool etag_is_condition(struct text tags)
{
    struct text tag;
    size_t count = 0;
    bool weak;
    if (text_equal(tags, TEXT("*")))
        return true;
    for (skip_separators(&tags); tags.length > 0; skip_separators(&tags), count++)
        if (!take_tag(&tags, &tag, &weak) || (tags.length > 0 && !is_separator(tags.data[0])))
            return false;
    return count > 0;
}

/* True for "*", and if the tag is one of the list. */
static bool is_among(struct text tags, const char *etag, bool weak_ones_too)
{
    const struct text present = {etag, ETAG_LENGTH};
    struct text tag;
    bool weak;
    if (text_equal(tags, TEXT("*")))
        return true;
    for (skip_separators(&tags); tags.length > 0; skip_separators(&tags)) {
        if (!take_tag(&tags, &tag, &weak))
            return false;
        if ((!weak || weak_ones_too) && text_equal(tag, present))
            return true;
    }
    return false;
}

bool etag_holds(struct text if_match, const char etag[ETAG_LENGTH])
{
    return !if_match.data || is_among(if_match, etag, false);
}

bool etag_is_known(struct text if_none_match, const char etag[ETAG_LENGTH])
{
    return if_none_match.data && is_among(if_none_match, etag, true);
}

bool etag_has_weak(struct text tags)
{
    struct text tag;
    bool weak = false;
    for (skip_separators(&tags); tags.length > 0 && !weak; skip_separators(&tags))
        if (!take_tag(&tags, &tag, &weak))
            return false;
    return weak;
}
