/* A table of names, each with the function that reads its value. */
#include "gateway_settings.h"

#include <string.h>

#include "clean.h"
#include "conf.h"
#include "http/exchange/router.h"
#include "session.h"

enum { LONGEST_ROLE = 128, MOST_NAMED = 64 };

/* Sets the value; NULL, or what it must be. */
typedef const char *set_fn(struct authz_settings *settings, struct text value);

static const char *use_tenant(struct authz_settings *settings, struct text value)
{
    settings->tenant = value;
    return conf_is_name(value) ? NULL : "must match [a-z0-9][a-z0-9._-]{0,62}";
}

static const char *use_role(struct authz_settings *settings, struct text value)
{
    if (settings->role_count == AUTHZ_MOST_ROLES)
        return "may be there at most 32 times";
    settings->roles[settings->role_count++] = value;
    return value.length <= LONGEST_ROLE && text_is_clean_utf8(value)
               ? NULL
               : "must be 1 to 128 bytes of clean UTF-8";
}

static const char *use_max_age(struct authz_settings *settings, struct text value)
{
    bool digits = value.length > 0 && value.data[0] >= '0' && value.data[0] <= '9';
    return digits && text_to_int(value, 0, STRENGTH_MAX_AGE, &settings->max_age_s)
               ? NULL
               : "must be a number of seconds from 0 to 2147483647";
}

static const char *use_acr(struct authz_settings *settings, struct text value)
{
    settings->acr = value;
    return conf_is_acr(value) ? NULL
                              : "must be 1 to 128 printable ASCII characters without \" and \\";
}

static const char *use_touch(struct authz_settings *settings, struct text value)
{
    settings->untouched = text_equal(value, TEXT("no"));
    return settings->untouched ? NULL : "must be no, or absent";
}

static const char *use_optional(struct authz_settings *settings, struct text value)
{
    settings->optional = text_equal(value, TEXT("yes"));
    return settings->optional ? NULL : "must be yes, or absent";
}

static const char *use_audience(struct authz_settings *settings, struct text value)
{
    settings->audience = value;
    return conf_is_name(value) ? NULL : "must be the name of an audience";
}

static const struct setting {
    struct text name;
    set_fn *set;
    bool repeatable;
} known[] = {
    {{"tenant", 6}, use_tenant, false},   {{"role", 4}, use_role, true},
    {{"max_age", 7}, use_max_age, false}, {{"acr", 3}, use_acr, false},
    {{"touch", 5}, use_touch, false},     {{"optional", 8}, use_optional, false},
    {{"jwt", 3}, use_audience, false},
};
enum { KNOWN = sizeof(known) / sizeof(known[0]) };
#define KNOWN_NAMES "tenant, role, max_age, acr, touch, optional, jwt"

static const struct setting *find_setting(struct text name)
{
    for (size_t i = 0; i < KNOWN; i++)
        if (text_equal(known[i].name, name))
            return &known[i];
    return NULL;
}

/* pchar of RFC 3986, without the separators of settings. */
static bool may_stand(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~!$&'()*+,:@%", c) != NULL);
}

static bool is_segment(struct text encoded)
{
    for (size_t i = 0; i < encoded.length; i++)
        if (!may_stand(encoded.data[i]))
            return false;
    return true;
}

/* A value that is still percent-encoded would mean another one than its writer meant. */
static bool is_encoded(struct text value)
{
    char byte;
    for (size_t i = 0; i + 2 < value.length; i++)
        if (value.data[i] == '%' && text_from_hex(&byte, 1, (struct text){value.data + i + 1, 2}))
            return true;
    return false;
}

static const char *read_setting_value(const struct setting *setting, struct text encoded,
                                      struct arena *arena, struct authz_settings *settings)
{
    if (!is_segment(encoded))
        return "has a byte that must be percent-encoded";
    struct text value = router_decode(arena_alloc(arena, encoded.length + 1), encoded, false);
    if (value.data == NULL)
        return "is not percent-encoded correctly";
    if (value.length == 0)
        return "has no value";
    if (is_encoded(value))
        return "is percent-encoded twice";
    return setting->set(settings, value);
}

static const char *read_setting(struct text pair, struct arena *arena,
                                struct authz_settings *settings, unsigned *seen)
{
    const char *equals = memchr(pair.data, '=', pair.length);
    size_t length = equals == NULL ? pair.length : (size_t)(equals - pair.data);
    const struct setting *setting = find_setting((struct text){pair.data, length});
    if (setting == NULL)
        return "is not known; known are " KNOWN_NAMES;
    if (equals == NULL)
        return "has no value";
    unsigned bit = 1u << (setting - known);
    if ((*seen & bit) != 0 && !setting->repeatable)
        return "came twice";
    *seen |= bit;
    return read_setting_value(setting, (struct text){equals + 1, pair.length - length - 1}, arena,
                              settings);
}

static struct text name_fault(struct text pair, const char *fault, struct arena *arena)
{
    const char *equals = memchr(pair.data, '=', pair.length);
    struct text name = {pair.data, equals == NULL ? pair.length : (size_t)(equals - pair.data)};
    name = clean_text(name, MOST_NAMED, arena);
    return arena_format(arena, "Setting \"%.*s\" %s", (int)name.length, name.data, fault);
}

bool authz_settings_read(struct text segment, struct arena *arena, struct authz_settings *ret,
                         struct text *detail)
{
    unsigned seen = 0;
    *ret = (struct authz_settings){.max_age_s = -1};
    if (segment.data == NULL || text_equal(segment, TEXT("-")))
        return true;
    do {
        const char *end = memchr(segment.data, ';', segment.length);
        size_t length = end == NULL ? segment.length : (size_t)(end - segment.data);
        struct text pair = {segment.data, length};
        const char *fault = read_setting(pair, arena, ret, &seen);
        if (fault != NULL) {
            *detail = name_fault(pair, fault, arena);
            return false;
        }
        segment.data = end == NULL ? NULL : end + 1;
        segment.length -= end == NULL ? length : length + 1;
    } while (segment.data != NULL);
    return true;
}
