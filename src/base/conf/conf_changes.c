/* The differences of two configurations. */
#include "conf_options.h"

#include <string.h>

#include "crypto.h"

/* URLs may carry a secret, in any part. */
static bool may_hold_secret(struct text value)
{
    return value.length > 0 && memmem(value.data, value.length, "://", 3) != NULL;
}

static void add_option_change(struct changes *changes, const struct option_row *row,
                              const struct conf *before, const struct conf *after)
{
    SCOPED(buffer_free) struct buffer name = {0}, old = {0}, new = {0};
    buffer_addf(&name, "%s.%s", row->section, row->name);
    row->type->print(row, conf_option_value(row, before), &old);
    row->type->print(row, conf_option_value(row, after), &new);
    if (may_hold_secret(buffer_text(&old)) || may_hold_secret(buffer_text(&new)))
        changes_add_hidden(changes, buffer_text(&name));
    else
        changes_add(changes, buffer_text(&name), buffer_text(&old), buffer_text(&new));
}

/* --- service keys --- */

static const struct service_key *find_service_key(const struct conf *conf, const char *name)
{
    for (size_t i = 0; i < conf->key_count; i++)
        if (strcmp(conf->keys[i].name, name) == 0)
            return &conf->keys[i];
    return NULL;
}

static bool same_key(const struct service_key *a, const struct service_key *b)
{
    if (a->scopes != b->scopes || strcmp(a->tenant, b->tenant) != 0 ||
        a->has_certificate != b->has_certificate ||
        memcmp(a->certificate, b->certificate, sizeof(a->certificate)) != 0)
        return false;
    return crypto_equal(a->digest, b->digest, sizeof(a->digest));
}

/* A new or removed key has its name only (`known`), a changed one no values. */
static void add_key_change(struct changes *changes, const char *key_name,
                           const struct service_key *before, const struct service_key *after)
{
    static const struct text absent;
    SCOPED(buffer_free) struct buffer name = {0};
    buffer_addf(&name, "key:%s", key_name);
    if (!before || !after)
        changes_add(changes, buffer_text(&name), before ? TEXT("known") : absent,
                    after ? TEXT("known") : absent);
    else if (!same_key(before, after))
        changes_add_hidden(changes, buffer_text(&name));
}

/* --- audiences --- */

/* As with keys. Conditions hold no secret, but a change shows its name alone, too. */
static void add_audience_change(struct changes *changes, const char *audience,
                                const struct audience *before, const struct audience *after)
{
    static const struct text absent;
    SCOPED(buffer_free) struct buffer name = {0};
    buffer_addf(&name, "audience:%s", audience);
    if (!before || !after)
        changes_add(changes, buffer_text(&name), before ? TEXT("known") : absent,
                    after ? TEXT("known") : absent);
    else if (!conf_audience_is_same(before, after))
        changes_add_hidden(changes, buffer_text(&name));
}

static void add_audience_changes(struct changes *changes, const struct conf *before,
                                 const struct conf *after)
{
    for (size_t i = 0; i < before->audience_count; i++) {
        const struct audience *audience = &before->audiences[i];
        add_audience_change(changes, audience->name, audience,
                            conf_find_audience(after, text_of(audience->name)));
    }
    for (size_t i = 0; i < after->audience_count; i++) {
        const struct audience *audience = &after->audiences[i];
        if (!conf_find_audience(before, text_of(audience->name)))
            add_audience_change(changes, audience->name, NULL, audience);
    }
}

void conf_differences(const struct conf *before, const struct conf *after, struct changes *changes)
{
    for (const struct option_row *row = option_rows; row < option_rows + OPTION_COUNT; row++)
        if (!conf_option_is_same(row, before, after))
            add_option_change(changes, row, before, after);
    for (size_t i = 0; i < before->key_count; i++)
        add_key_change(changes, before->keys[i].name, &before->keys[i],
                       find_service_key(after, before->keys[i].name));
    for (size_t i = 0; i < after->key_count; i++)
        if (!find_service_key(before, after->keys[i].name))
            add_key_change(changes, after->keys[i].name, NULL, &after->keys[i]);
    add_audience_changes(changes, before, after);
}
