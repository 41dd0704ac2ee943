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

/* entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE. Cuts one off the list, with its quotes. */
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

/* Counts the tags, and keeps them unless `tags` is NULL; 0 if one is malformed. */
static size_t take_tags(struct text rest, struct etag *tags)
{
    size_t count = 0;
    for (skip_separators(&rest); rest.length > 0; skip_separators(&rest), count++) {
        struct etag tag;
        if (!take_tag(&rest, &tag.text, &tag.weak) ||
            (rest.length > 0 && !is_separator(rest.data[0])))
            return 0;
        if (tags)
            tags[count] = tag;
    }
    return count;
}

bool etag_read(struct text header, struct arena *arena, struct etag_list *ret)
{
    *ret = (struct etag_list){.given = header.data, .any = text_equal(header, TEXT("*"))};
    if (!ret->given || ret->any)
        return true;
    ret->count = take_tags(header, NULL);
    if (ret->count == 0)
        return false;
    struct etag *tags = arena_alloc(arena, ret->count * sizeof(*tags));
    take_tags(header, tags);
    ret->tags = tags;
    return true;
}

/* True for "*", and if the tag is one of the list. */
static bool is_among(const struct etag_list *list, const char *etag, bool weak_ones_too)
{
    bool found = list->any;
    for (size_t i = 0; i < list->count && !found; i++)
        found = (!list->tags[i].weak || weak_ones_too) &&
                text_equal(list->tags[i].text, (struct text){etag, ETAG_LENGTH});
    return found;
}

bool etag_holds(const struct etag_list *if_match, const char etag[ETAG_LENGTH])
{
    return !if_match->given || is_among(if_match, etag, false);
}

bool etag_is_known(const struct etag_list *if_none_match, const char etag[ETAG_LENGTH])
{
    return if_none_match->given && is_among(if_none_match, etag, true);
}

bool etag_has_weak(const struct etag_list *list)
{
    bool weak = false;
    for (size_t i = 0; i < list->count && !weak; i++)
        weak = list->tags[i].weak;
    return weak;
}
