/* Compares paths with the templates of the rows. */
#include "router.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

/* Properties of a row's path, computed once: most rows are excluded by comparing two numbers. */
static struct pattern {
    size_t length;  /* of the template */
    size_t literal; /* bytes before the first brace */
    struct text method;
} patterns[MOST_ROUTES];

void router_prepare(void)
{
    assert(route_count < MOST_ROUTES);
    for (size_t i = 0; i < route_count; i++) {
        patterns[i].length = strlen(routes[i].path);
        patterns[i].literal = strcspn(routes[i].path, "{");
        patterns[i].method = text_of(routes[i].method);
    }
}

/* Matches template and path from the first brace on, segment by segment. */
static bool match_rest(const char *rest, struct text path, struct route_match *ret)
{
    size_t found = 0;
    size_t at = 0;
    while (*rest != '\0') {
        if (*rest == '*') {
            ret->below = (struct text){path.data + at, path.length - at};
            return true;
        }
        if (*rest != '{') {
            if (at >= path.length || path.data[at] != *rest)
                return false;
            at++;
            rest++;
            continue;
        }
        size_t end = at;
        while (end < path.length && path.data[end] != '/')
            end++;
        if (end == at)
            return false;
        assert(found < 2);
        ret->segments[found++] = (struct text){path.data + at, end - at};
        at = end;
        rest = strchr(rest, '}') + 1;
    }
    return at == path.length;
}

static bool path_matches(size_t row, struct text path, struct route_match *ret)
{
    const struct pattern *pattern = &patterns[row];
    if (pattern->literal == pattern->length) {
        return path.length == pattern->length &&
               memcmp(path.data, routes[row].path, path.length) == 0;
    }
    if (path.length < pattern->literal ||
        memcmp(path.data, routes[row].path, pattern->literal) != 0)
        return false;
    struct text rest = {path.data + pattern->literal, path.length - pattern->literal};
    return match_rest(routes[row].path + pattern->literal, rest, ret);
}

struct text router_path(struct text target, struct text *authority)
{
    static const struct text schemes[] = {{"http://", 7}, {"https://", 8}};
    *authority = (struct text){0};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t begin = schemes[i].length, end = begin;
        if (target.length < begin || strncasecmp(target.data, schemes[i].data, begin) != 0)
            continue;
        while (end < target.length && target.data[end] != '/')
            end++;
        if (end == begin)
            break;
        *authority = (struct text){target.data + begin, end - begin};
        return end == target.length ? TEXT("/")
                                    : (struct text){target.data + end, target.length - end};
    }
    return target;
}

static bool takes_method(size_t row, struct text method)
{
    return text_equal(patterns[row].method, method) ||
           text_equal(patterns[row].method, TEXT("*")) ||
           (text_equal(method, TEXT("HEAD")) && text_equal(patterns[row].method, TEXT("GET")));
}

static void allow(struct route_match *match, const char *method)
{
    assert(match->allowed_count < sizeof(match->allowed) / sizeof(match->allowed[0]));
    match->allowed[match->allowed_count++] = method;
    if (strcmp(method, "GET") == 0)
        allow(match, "HEAD");
}

enum route_match_result router_route(enum plane plane, struct text method, struct text path,
                                     struct route_match *ret)
{
    ret->allowed_count = 0;
    ret->segments[0] = ret->segments[1] = ret->below = (struct text){0};
    for (size_t i = 0; i < route_count; i++) {
        if (routes[i].plane != plane || !path_matches(i, path, ret))
            continue;
        if (takes_method(i, method)) {
            ret->route = &routes[i];
            return MATCH_FOUND;
        }
        allow(ret, routes[i].method);
    }
    ret->route = NULL;
    return ret->allowed_count > 0 ? MATCH_OTHER_METHOD : MATCH_NO_PATH;
}

enum error_format router_errors(enum plane plane, struct text path)
{
    struct route_match match;
    for (size_t i = 0; i < route_count; i++)
        if (routes[i].plane == plane && path_matches(i, path, &match))
            return routes[i].errors;
    return ERRORS_PROBLEM;
}

struct text router_decode(char *out, struct text encoded, bool form)
{
    size_t length = 0;
    for (size_t i = 0; i < encoded.length; i++) {
        char c = encoded.data[i];
        if (c == '%') {
            if (encoded.length - i < 3 ||
                !text_from_hex(&c, 1, (struct text){encoded.data + i + 1, 2}))
                return (struct text){0};
            i += 2;
        } else if (c == '+' && form) {
            c = ' ';
        }
        out[length++] = c;
    }
    return (struct text){out, length};
}

static bool is_word_of(const char *words, struct text word)
{
    for (const char *at = words; *at != '\0';) {
        size_t length = strcspn(at, " ");
        if (text_equal((struct text){at, length}, word))
            return true;
        at += length + strspn(at + length, " ");
    }
    return false;
}

static struct text parameter_name(struct text rest, size_t *step)
{
    const char *end = memchr(rest.data, '&', rest.length);
    size_t length = end == NULL ? rest.length : (size_t)(end - rest.data);
    const char *equals = memchr(rest.data, '=', length);
    *step = end == NULL ? length : length + 1;
    return (struct text){rest.data, equals == NULL ? length : (size_t)(equals - rest.data)};
}

static bool came_before(struct text query, struct text name)
{
    for (size_t at = 0, step; query.data + at < name.data; at += step) {
        struct text earlier =
            parameter_name((struct text){query.data + at, query.length - at}, &step);
        if (earlier.data != name.data && text_equal(earlier, name))
            return true;
    }
    return false;
}

enum query_fault router_query(struct text query, const char *allowed, struct text *ret)
{
    for (size_t at = 0, step; at < query.length; at += step) {
        struct text name = parameter_name((struct text){query.data + at, query.length - at}, &step);
        *ret = name;
        if (!is_word_of(allowed, name))
            return QUERY_UNKNOWN;
        if (at + name.length >= query.length || name.data[name.length] != '=')
            return QUERY_NO_VALUE;
        if (came_before(query, name))
            return QUERY_TWICE;
    }
    *ret = (struct text){0};
    return QUERY_GOOD;
}
