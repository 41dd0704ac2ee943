/* Tenant and user id, read back out of the session JSON.
 *
 * This program wrote the members, tenant and user id first. So it is enough to read two JSON
 * strings at fixed positions, without a parser. Text of any other shape gives nothing. */
#include "record.h"

#include <string.h>

struct scan {
    const char *next;
    const char *end;
};

static bool skip(struct scan *scan, struct text literal)
{
    if ((size_t)(scan->end - scan->next) < literal.length ||
        memcmp(scan->next, literal.data, literal.length) != 0)
        return false;
    scan->next += literal.length;
    return true;
}

static bool scan_unit(struct scan *scan, uint32_t *ret)
{
    uint8_t unit[2];
    if (scan->end - scan->next < 4 || !text_from_hex(unit, 2, (struct text){scan->next, 4}))
        return false;
    scan->next += 4;
    *ret = (uint32_t)unit[0] << 8 | unit[1];
    return true;
}

static bool is_surrogate(uint32_t unit, uint32_t first)
{
    return (unit & 0xFC00) == first;
}

/* Reads after \u: one unit, or a pair of surrogates. */
static bool scan_code_point(struct scan *scan, uint32_t *ret)
{
    uint32_t high = 0, low = 0;
    if (!scan_unit(scan, &high) || is_surrogate(high, 0xDC00))
        return false;
    *ret = high;
    if (!is_surrogate(high, 0xD800))
        return true;
    if (!skip(scan, TEXT("\\u")) || !scan_unit(scan, &low) || !is_surrogate(low, 0xDC00))
        return false;
    *ret = 0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF);
    return true;
}

/* Never longer than the escape it stands for. */
static char *put_utf8(char *out, uint32_t point)
{
    static const struct {
        uint32_t limit;
        uint8_t first;
        unsigned more;
    } forms[] = {{0x80, 0x00, 0}, {0x800, 0xC0, 1}, {0x10000, 0xE0, 2}, {0x110000, 0xF0, 3}};
    size_t form = 0;
    while (point >= forms[form].limit)
        form++;
    unsigned more = forms[form].more;
    *out++ = (char)(forms[form].first | point >> (6 * more));
    while (more-- > 0)
        *out++ = (char)(0x80 | (point >> (6 * more) & 0x3F));
    return out;
}

static bool scan_escape(struct scan *scan, char **out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    if (scan->next == scan->end)
        return false;
    char name = *scan->next++;
    if (name == 'u') {
        uint32_t point = 0;
        if (!scan_code_point(scan, &point))
            return false;
        *out = put_utf8(*out, point);
        return true;
    }
    const char *found = memchr(names, name, sizeof(names) - 1);
    if (!found)
        return false;
    *(*out)++ = values[found - names];
    return true;
}

/* Reads the rest of a string, after its opening quote. */
static bool scan_string(struct scan *scan, struct arena *arena, struct text *ret)
{
    char *start = arena_alloc(arena, (size_t)(scan->end - scan->next) + 1);
    char *out = start;
    while (scan->next < scan->end) {
        char c = *scan->next++;
        if (c == '"') {
            *ret = (struct text){start, (size_t)(out - start)};
            return true;
        }
        if (c != '\\')
            *out++ = c;
        else if (!scan_escape(scan, &out))
            return false;
    }
    return false;
}

struct names record_identity(struct text session_json, struct arena *arena)
{
    struct names names;
    struct scan scan = {session_json.data, session_json.data + session_json.length};
    bool found = session_json.length > 0 && skip(&scan, TEXT("\"tenant\":\"")) &&
                 scan_string(&scan, arena, &names.tenant) && skip(&scan, TEXT(",\"user_id\":\"")) &&
                 scan_string(&scan, arena, &names.user_id);
    return found ? names : (struct names){0};
}
