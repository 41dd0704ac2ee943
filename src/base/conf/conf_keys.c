/* Service keys: the sections [key:NAME], the words of scopes, and the look-up of a presented key.
 */
#include "conf_options.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "log.h"
#include "memory.h"

static const struct scope_row {
    const char *name;
    unsigned bit;
} scopes[SCOPE_COUNT] = {
#define SCOPE(id, name, help) {name, 1u << SCOPE_BIT_##id},
#include "tbl/scopes.h"
#undef SCOPE
};

static const char scope_words[] = "words out of"
#define SCOPE(id, name, help) " " name
#include "tbl/scopes.h"
#undef SCOPE
    ;

static unsigned scope_bit(struct text word)
{
    for (size_t i = 0; i < SCOPE_COUNT; i++)
        if (text_equal(word, text_of(scopes[i].name)))
            return scopes[i].bit;
    return 0;
}

bool conf_parse_scopes(struct text words, unsigned *ret)
{
    unsigned bits = 0;
    struct text word = conf_next_word(&words, true);
    for (; word.data != NULL; word = conf_next_word(&words, true)) {
        unsigned bit = scope_bit(word);
        if (bit == 0)
            return false;
        bits |= bit;
    }
    *ret = bits;
    return true;
}

void conf_name_scopes(unsigned bits, struct buffer *out)
{
    for (size_t i = 0; i < SCOPE_COUNT; i++)
        if ((bits & scopes[i].bit) != 0)
            buffer_addf(out, " %s", scopes[i].name);
}

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool conf_is_name(struct text name)
{
    if (name.length < 1 || name.length > 63 || !is_lower_or_digit(name.data[0]))
        return false;
    for (size_t i = 1; i < name.length; i++)
        if (!is_lower_or_digit(name.data[i]) && memchr("._-", name.data[i], 3) == NULL)
            return false;
    return true;
}

/* The options of a [key:NAME] section: a row each. */

static bool set_hash(struct service_key *key, struct text value)
{
    return text_from_hex(key->digest, sizeof(key->digest), value);
}

static bool set_scopes(struct service_key *key, struct text value)
{
    return conf_parse_scopes(value, &key->scopes) && key->scopes != 0;
}

static bool set_tenant(struct service_key *key, struct text value)
{
    if (!text_equal(value, TEXT("*")) && !conf_is_name(value))
        return false;
    key->tenant = xstrndup(value.data, value.length);
    return true;
}

/* Digits of either case, as openssl and other tools print them; a colon between bytes is not
 * taken. */
static bool set_certificate(struct service_key *key, struct text value)
{
    key->has_certificate = text_from_hex(key->certificate, sizeof(key->certificate), value);
    return key->has_certificate;
}

static const struct key_option {
    const char *name;
    bool (*set)(struct service_key *key, struct text value);
    const char *wanted;
    bool secret; /* the value may be the key itself, by mistake */
    bool optional;
} key_options[] = {
    {"hash", set_hash, "64 hexadecimal digits, as sessiond keygen prints them", true, false},
    {"scopes", set_scopes, scope_words, false, false},
    {"tenant", set_tenant, "* or the id of a tenant: [a-z0-9][a-z0-9._-]{0,62}", false, false},
    {"certificate", set_certificate,
     "64 hexadecimal digits, the SHA-256 of the client certificate's public key", false, true},
};
enum { KEY_OPTIONS = sizeof(key_options) / sizeof(key_options[0]) };

void conf_key_begin(struct conf_report *report, struct conf_key_draft **drafts, struct text name,
                    unsigned line)
{
    char quoted[96];
    struct conf_key_draft *draft = xcalloc(1, sizeof(*draft));
    draft->line = line;
    draft->key.name = xstrndup(name.data, name.length);
    if (!conf_is_name(name)) {
        conf_report_at(report, line, "the name of a key is [a-z0-9][a-z0-9._-]{0,62}, not '%s'",
                       log_quote(quoted, sizeof(quoted), name));
    }
    for (const struct conf_key_draft *other = *drafts; other != NULL; other = other->next) {
        if (strcmp(other->key.name, draft->key.name) == 0) {
            conf_report_at(report, line, "a key '%s' was already begun in line %u",
                           log_quote(quoted, sizeof(quoted), name), other->line);
            break;
        }
    }
    draft->next = *drafts;
    *drafts = draft;
}

void conf_key_set(struct conf_report *report, struct conf_key_draft *draft, unsigned line,
                  struct text name, struct text value)
{
    char quoted[96];
    size_t index = 0;
    while (index < KEY_OPTIONS && !text_equal(text_of(key_options[index].name), name))
        index++;
    if (index == KEY_OPTIONS) {
        conf_report_at(report, line, "there is no option '%s' of a key; there are %s, %s, %s, %s",
                       log_quote(quoted, sizeof(quoted), name), key_options[0].name,
                       key_options[1].name, key_options[2].name, key_options[3].name);
        return;
    }
    const struct key_option *option = &key_options[index];
    if ((draft->seen & (1u << index)) != 0) {
        conf_report_at(report, line, "%s was already set for this key", option->name);
        return;
    }
    draft->seen |= 1u << index;
    if (!option->set(&draft->key, value)) {
        log_quote(quoted, sizeof(quoted), value);
        conf_report_at(report, line, option->secret ? "%s must be %s" : "%s must be %s, not '%s'",
                       option->name, option->wanted, quoted);
        draft->refused = true;
    }
}

static void check_complete(struct conf_report *report, const struct conf_key_draft *draft)
{
    for (size_t i = 0; i < KEY_OPTIONS; i++)
        if (!key_options[i].optional && (draft->seen & (1u << i)) == 0)
            conf_report_at(report, draft->line, "the key has no %s", key_options[i].name);
}

/* With two keys of one hash, the name in the audit line would be left to chance. */
static void check_hash_unique(struct conf_report *report, const struct conf_key_draft *draft)
{
    for (const struct conf_key_draft *other = draft->next; other != NULL; other = other->next) {
        bool set = (draft->seen & other->seen & 1u) != 0 && !draft->refused && !other->refused;
        if (set && crypto_equal(draft->key.digest, other->key.digest, sizeof(draft->key.digest))) {
            conf_report_at(report, draft->line, "the hash is that of the key in line %u too",
                           other->line);
        }
    }
}

/* With two keys of one certificate the caller's scopes would be left to chance. */
static void check_certificate_unique(struct conf_report *report, const struct conf_key_draft *draft)
{
    for (const struct conf_key_draft *other = draft->next; other != NULL; other = other->next) {
        if (draft->key.has_certificate && other->key.has_certificate &&
            memcmp(draft->key.certificate, other->key.certificate,
                   sizeof(draft->key.certificate)) == 0)
            conf_report_at(report, draft->line, "the certificate is that of the key in line %u too",
                           other->line);
    }
}

static void check_certificate_asked(struct conf_report *report, const struct conf_key_draft *draft,
                                    const struct conf *conf)
{
    if (draft->key.has_certificate && conf->server_tls_client_ca_file[0] == '\0')
        conf_report_at(report, draft->line,
                       "certificate needs [server] tls_client_ca_file: no caller is asked for one");
}

void conf_keys_finish(struct conf_report *report, struct conf_key_draft **drafts, struct conf *conf)
{
    for (const struct conf_key_draft *draft = *drafts; draft != NULL; draft = draft->next) {
        check_complete(report, draft);
        check_hash_unique(report, draft);
        check_certificate_unique(report, draft);
        check_certificate_asked(report, draft, conf);
        conf->key_count++;
    }
    if (conf->key_count > 0)
        conf->keys = xcalloc(conf->key_count, sizeof(conf->keys[0]));
    /* Drafts are newest first, keys in the file's order. */
    size_t left = conf->key_count;
    while (*drafts != NULL) {
        struct conf_key_draft *draft = *drafts;
        conf->keys[--left] = draft->key;
        *drafts = draft->next;
        free(draft);
    }
}

const struct service_key *conf_find_key(const struct conf *conf, const uint8_t digest[32])
{
    const struct service_key *found = NULL;
    for (size_t i = 0; i < conf->key_count; i++) {
        const struct service_key *key = &conf->keys[i];
        if (crypto_equal(key->digest, digest, sizeof(key->digest)))
            found = key;
    }
    return found;
}

const struct service_key *conf_find_certificate(const struct conf *conf, const uint8_t pin[32])
{
    for (size_t i = 0; i < conf->key_count; i++) {
        const struct service_key *key = &conf->keys[i];
        if (key->has_certificate && memcmp(key->certificate, pin, sizeof(key->certificate)) == 0)
            return key;
    }
    return NULL;
}

void conf_dump_key(const struct service_key *key, struct buffer *out)
{
    char hash[2 * sizeof(key->digest)];
    text_to_hex(hash, key->digest, sizeof(key->digest));
    buffer_addf(out, "[key:%s]\nhash = %.*s\nscopes =", key->name, (int)sizeof(hash), hash);
    conf_name_scopes(key->scopes, out);
    buffer_addf(out, "\ntenant = %s\n", key->tenant);
    if (key->has_certificate) {
        char pin[2 * sizeof(key->certificate)];
        text_to_hex(pin, key->certificate, sizeof(key->certificate));
        buffer_addf(out, "certificate = %.*s\n", (int)sizeof(pin), pin);
    }
}
