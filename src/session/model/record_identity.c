/* The names of a session's owner, read back out of its session_json and unescaped. */
#include "record.h"

#include <string.h>

#include "session_json.h"

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

static bool unescape(struct text string, struct arena *arena, struct text *ret)
{
    struct scan scan = {string.data, string.data + string.length};
    char *start = arena_alloc(arena, string.length + 1);
    char *out = start;
    while (scan.next < scan.end) {
        char c = *scan.next++;
        if (c != '\\')
            *out++ = c;
        else if (!scan_escape(&scan, &out))
            return false;
    }
    *ret = (struct text){start, (size_t)(out - start)};
    return true;
}

struct names record_identity(struct text session_json, struct arena *arena)
{
    struct names escaped, names;
    bool found = session_json_find_names(session_json, &escaped) &&
                 unescape(escaped.tenant, arena, &names.tenant) &&
                 unescape(escaped.user_id, arena, &names.user_id);
    return found ? names : (struct names){0};
}
