/* The commands other than running the service. */
#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "memory.h"
#include "private_file.h"
#include "risks.h"
#include "session/model/keys.h"
#include "store.h"
#include "token.h"

static int write_stdout(const struct buffer *out)
{
    bool written = fwrite(out->data, 1, out->length, stdout) == out->length;
    return written && fflush(stdout) == 0 ? EXIT_DONE : EXIT_RUNTIME;
}

/* Reports what an option must be and what it is; returns EXIT_USAGE. */
static int refuse_option(const char *wanted, const char *value)
{
    char quoted[160];
    fprintf(stderr, "sessiond: %s, not '%s'\n", wanted,
            log_quote(quoted, sizeof(quoted), text_of(value)));
    return EXIT_USAGE;
}

struct conf *command_load_config(const char *path)
{
    SCOPED(buffer_free) struct buffer error = {0};
    struct conf *conf = conf_load(path, &error);
    fprintf(stderr, "%.*s", (int)error.length, error.length > 0 ? error.data : "");
    return conf;
}

struct keyring *command_load_keys(const struct conf *conf, bool create, struct buffer *error)
{
    static const char credential[] = "sessiond-keys";
    char path[PRIVATE_FILE_PATH];
    struct buffer none = {0};
    bool given = private_file_find("keys.file", credential, path, &none) && access(path, F_OK) == 0;
    buffer_free(&none);
    if (given)
        return keyring_load(credential, false, error);
    return keyring_load(conf->keys_file, create, error);
}

bool command_check_signing(const struct conf *conf, const struct keyring *keyring,
                           struct buffer *error)
{
    if (conf->audience_count == 0 || keyring_signer(keyring, 0))
        return true;
    buffer_addf(error,
                "keys.file: no 'sign' line, which [audience:%s] needs; append 'sign', an unused "
                "number and 64 random hexadecimal digits\n",
                conf->audiences[0].name);
    return false;
}

int command_check_config(const struct arguments *arguments)
{
    SCOPED(conf_unref) struct conf *conf = command_load_config(arguments->operand);
    if (conf == NULL)
        return EXIT_USAGE;
    risks_warn(conf);
    risks_hint(conf);
    printf("%s: good, %zu service keys\n", arguments->operand, conf->key_count);
    return EXIT_DONE;
}

static int dump(const struct arguments *arguments, bool commented)
{
    SCOPED(conf_unref)
    struct conf *conf =
        arguments->config ? command_load_config(arguments->config) : conf_defaults();
    if (conf == NULL)
        return EXIT_USAGE;
    SCOPED(buffer_free) struct buffer out = {0};
    conf_dump(conf, commented, &out);
    return write_stdout(&out);
}

int command_dump_config(const struct arguments *arguments)
{
    return dump(arguments, false);
}

int command_dump_commented(const struct arguments *arguments)
{
    return dump(arguments, true);
}

int command_version(const struct arguments *arguments)
{
    (void)arguments;
    printf("sessiond %s (%s)\n", SESSIOND_VERSION, SESSIOND_REVISION);
    return EXIT_DONE;
}

enum { KEY_SECRET = 32, KEY_PREFIX = 3, KEY_LENGTH = KEY_PREFIX + 43 };

static void make_key(char key[KEY_LENGTH], uint8_t digest[32])
{
    uint8_t secret[KEY_SECRET];
    crypto_random(secret, sizeof(secret));
    memcpy(key, "sk_", KEY_PREFIX);
    text_to_base64url(key + KEY_PREFIX, secret, sizeof(secret));
    crypto_digest(digest, (struct text){key, KEY_LENGTH});
    crypto_wipe(secret, sizeof(secret));
}

/* Prints the key alone in the first line, then the section for the configuration. */
static int print_new_key(struct service_key *described)
{
    char key[KEY_LENGTH];
    make_key(key, described->digest);
    SCOPED(buffer_free) struct buffer out = {0};
    buffer_reserve(&out, 4096); /* so growing leaves no copy of the key in freed memory */
    buffer_add(&out, key, sizeof(key));
    buffer_add_literal(&out, "\n\n");
    conf_dump_key(described, &out);
    int result = write_stdout(&out);
    crypto_wipe(key, sizeof(key));
    crypto_wipe(out.data, out.length);
    return result;
}

int command_keygen(const struct arguments *arguments)
{
    unsigned bits = 0;
    if (!conf_is_name(text_of(arguments->name)))
        return refuse_option("--name must be [a-z0-9][a-z0-9._-]{0,62}", arguments->name);
    if (strcmp(arguments->tenant, "*") != 0 && !conf_is_name(text_of(arguments->tenant)))
        return refuse_option("--tenant must be '*' or [a-z0-9][a-z0-9._-]{0,62}",
                             arguments->tenant);
    if (!conf_parse_scopes(text_of(arguments->scopes), &bits) || bits == 0) {
        return refuse_option("--scopes must be one or more of:"
#define SCOPE(id, name, help) " " name
#include "tbl/scopes.h"
#undef SCOPE
                             ,
                             arguments->scopes);
    }
    struct service_key described = {
        .name = xstrdup(arguments->name), .tenant = xstrdup(arguments->tenant), .scopes = bits};
    int result = print_new_key(&described);
    free(described.name);
    free(described.tenant);
    return result;
}

/* A key in Redis, and the text after its hash tag. */
struct redis_key {
    enum keys_kind kind;
    const char *after;
    const char *type, *holds;
};

static const struct redis_key user_keys[] = {
    {KEYS_USER, "}", "hash", "the user's sessions, and what holds for the user"},
    {KEYS_EPOCH, "}", "string", "epoch: raised when a token of the user ends"},
    {KEYS_CHALLENGE, "}:*", "hash", "challenges: pending verifications"},
};

static const struct redis_key tenant_keys[] = {
    {KEYS_TENANT, "}", "string", "the tenant's policy, and since when its sessions count"},
    {KEYS_INDEX, ".*}", "zset", "index of the tenant's users, in buckets"},
    {KEYS_SESSIONS, ".*}", "zset", "the tenant's sessions, in buckets, if it has quota.sessions"},
    {KEYS_PENDING, ".*}", "zset", "logins that await additional verification, likewise"},
    {KEYS_FROZEN, ".*}", "zset", "users who are or were frozen, in buckets, if it has quota.users"},
};

/* Prints a line of columns for each key: name, hash slot, type, content. "*" stands for varying
 * text; inside the hash tag it makes the slots vary too. */
static void print_redis_keys(const struct redis_key *keys, size_t count, struct text tag)
{
    for (const struct redis_key *key = keys; key < keys + count; key++) {
        struct buffer name = {0};
        char prefix[KEYS_TAG_AT + 1], slot[8] = "*";
        keys_prefix(key->kind, prefix);
        buffer_addf(&name, "%s%.*s%s", prefix, (int)tag.length, tag.data, key->after);
        if (key->after[0] == '}')
            snprintf(slot, sizeof(slot), "%u", store_slot(buffer_text(&name)));
        printf("%-29.*s  %5s  %-6s  %s\n", (int)name.length, name.data, slot, key->type,
               key->holds);
        buffer_free(&name);
    }
}

static void print_keys(const struct keyring *keyring, const struct arguments *arguments)
{
    struct user_tag owner;
    char key[KEYS_USER_LENGTH];
    token_tag_user(keyring, text_of(arguments->tenant), text_of(arguments->user), &owner);
    keys_user(&owner, KEYS_USER, key);
    if (arguments->user != NULL)
        print_redis_keys(user_keys, sizeof(user_keys) / sizeof(user_keys[0]),
                         (struct text){key + KEYS_TAG_AT, KEYS_OWNER_LENGTH});
    else
        print_redis_keys(tenant_keys, sizeof(tenant_keys) / sizeof(tenant_keys[0]),
                         (struct text){key + KEYS_TAG_AT, TENANT_DIGITS});
}

int command_keys(const struct arguments *arguments)
{
    struct text user = text_of(arguments->user);
    if (!conf_is_name(text_of(arguments->tenant)))
        return refuse_option("--tenant must be [a-z0-9][a-z0-9._-]{0,62}", arguments->tenant);
    if (user.data != NULL && (user.length > USER_ID_MAX || !text_is_clean_utf8(user)))
        return refuse_option("--user must be 1 to 255 bytes of UTF-8 without control characters",
                             arguments->user);
    SCOPED(conf_unref)
    struct conf *conf = command_load_config(arguments->config ? arguments->config : DEFAULT_CONFIG);
    if (conf == NULL)
        return EXIT_USAGE;
    SCOPED(buffer_free) struct buffer error = {0};
    SCOPED(keyring_unref) struct keyring *keyring = command_load_keys(conf, false, &error);
    if (keyring == NULL) {
        fprintf(stderr, "sessiond: %.*s", (int)error.length, error.data);
        return EXIT_RUNTIME;
    }
    print_keys(keyring, arguments);
    return EXIT_DONE;
}
