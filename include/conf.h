/* The configuration: one INI file, one row an option (tbl/options.h), read whole or not at all.
 *
 * A struct conf is immutable and reference-counted. conf_current() returns the present one with a
 * reference; a reload publishes a new one, and the old one lasts until its last reference is
 * released. */
#pragma once

#include "changes.h"
#include "log.h"
#include "text.h"

enum redis_mode { REDIS_CLUSTER, REDIS_STANDALONE, REDIS_SENTINEL };
enum encryption { ENCRYPTION_AES_128_GCM, ENCRYPTION_NONE };
enum renew { RENEW_SLIDING, RENEW_FIXED };
enum overflow { OVERFLOW_EVICT_OLDEST, OVERFLOW_EVICT_IDLEST, OVERFLOW_EVICT_ALL, OVERFLOW_REJECT };
enum exclusive { EXCLUSIVE_NONE, EXCLUSIVE_DEVICE_TYPE, EXCLUSIVE_USER };
enum repeat { REPEAT_ALERT, REPEAT_REFUSE };
enum binding { BINDING_OFF, BINDING_LOG, BINDING_VERIFY, BINDING_STRICT };
enum verify_method { VERIFY_EXTERNAL, VERIFY_OTP };
/* Bits of policy_self_service and policy_verify_on. */
enum self_service { SELF_DEVICES = 1, SELF_KICK = 2, SELF_LOGOUT_ALL = 4 };
enum verify_on { VERIFY_NEW_DEVICE = 1, VERIFY_NEW_LOCATION = 2 };
enum same_site { SAME_SITE_LAX, SAME_SITE_STRICT };
enum audit_overflow { AUDIT_REFUSE, AUDIT_COUNT };

/* Permissions of a service key: one bit each, names in tbl/scopes.h. */
enum scope {
#define SCOPE(id, name, help) SCOPE_BIT_##id,
#include "tbl/scopes.h"
#undef SCOPE
    SCOPE_COUNT
};
#define SCOPE(id, name, help) static const unsigned SCOPE_##id = 1u << SCOPE_BIT_##id;
#include "tbl/scopes.h"
#undef SCOPE

/* A blank-separated list of words. */
/* The word of server.trusted_proxies for the Unix socket. */
#define PROXY_UNIX "unix"

struct conf_list {
    char **items;
    size_t count;
};

struct service_key {
    char *name;
    uint8_t digest[32]; /* crypto_digest() of the whole key */
    unsigned scopes;    /* SCOPE_... bits */
    char *tenant;       /* "*" for every tenant */
    bool has_certificate;
    uint8_t certificate[32]; /* SHA-256 of the public key (SPKI) of the client certificate that
                                stands for the key */
};

/* A receiver of signed identities (api.md, "Gateways"). Its conditions hold for every identity that
 * is signed for it. */
struct audience {
    char *name;
    char *tenant;           /* of the session; "*": any */
    struct conf_list roles; /* the session has one of them; none: any session */
    int64_t max_age_s;      /* most seconds since the user authenticated; -1: any */
    char *acr;              /* least class of the authentication; "": any */
    int64_t ttl_s;          /* lifetime of an identity, 1 to 60 */
};

struct conf {
    /* One field an option, named section_option: conf->server_listen, conf->redis_timeout. Times in
     * tbl/options.h are in the unit of the row's type; sizes in bytes. */
#define OPTION_TEXT(section, name, initial, reload, help)              char *section##_##name;
#define OPTION_LIST(section, name, initial, reload, help)              struct conf_list section##_##name;
#define OPTION_INT(section, name, initial, min, max, reload, help)     int64_t section##_##name;
#define OPTION_BYTES(section, name, initial, min, max, reload, help)   int64_t section##_##name;
#define OPTION_SECONDS(section, name, initial, min, max, reload, help) int64_t section##_##name;
#define OPTION_MILLIS(section, name, initial, min, max, reload, help)  int64_t section##_##name;
#define OPTION_BOOL(section, name, initial, reload, help)              bool section##_##name;
#define OPTION_ENUM(section, name, type, words, initial, reload, help) enum type section##_##name;
#define OPTION_FLAGS(section, name, words, initial, reload, help)      unsigned section##_##name;
#include "tbl/options.h"
    struct service_key *keys; /* from the [key:NAME] sections */
    size_t key_count;
    struct audience *audiences; /* from the [audience:NAME] sections */
    size_t audience_count;
    char *path; /* the file it was read from */
};

/* Reads and checks a file. Returns NULL and one message a line in *error, each with file and line.
 * The caller owns one reference. */
struct conf *conf_load(const char *path, struct buffer *error);
struct conf *conf_ref(struct conf *conf);
void conf_unref(struct conf **conf);

/* The published configuration, with a reference for the caller. */
struct conf *conf_current(void);
/* Publishes a configuration; the caller's reference goes with it. */
void conf_publish(struct conf *conf);
/* Names the first option that differs between the two and may not change without a restart, NULL if
 * there is none. */
const char *conf_frozen_difference(const struct conf *running, const struct conf *wanted);
/* Adds each option, service key and audience in which the two differ, without values that may hold
 * a secret. */
void conf_differences(const struct conf *before, const struct conf *after, struct changes *changes);

/* Prints the configuration as a file, every option with its value, hashes of secrets included; with
 * `commented`, each option's help above it (this generates conf/sessiond.conf). */
void conf_dump(const struct conf *conf, bool commented, struct buffer *out);
/* All defaults, for conf_dump() and tests. */
struct conf *conf_defaults(void);

/* The bounds of an option, for values that come from elsewhere (policies). `offset` is its field's
 * in struct conf; words are "first|second", NULL for numbers. */
struct conf_bounds {
    int64_t minimum, maximum;
    const char *words;
};
struct conf_bounds conf_bounds(size_t offset);

/* The key whose digest this is, compared in constant time; NULL if there is none. */
const struct service_key *conf_find_key(const struct conf *conf, const uint8_t digest[32]);
/* The audience of this name; NULL if there is none. There is an issuer if there is any audience. */
const struct audience *conf_find_audience(const struct conf *conf, struct text name);
/* The key that a client certificate with this public key (SHA-256 of its SPKI) stands for; NULL if
 * there is none. */
const struct service_key *conf_find_certificate(const struct conf *conf, const uint8_t pin[32]);
/* Bits for blank- or comma-separated scope names; false if one is unknown. */
bool conf_parse_scopes(struct text words, unsigned *ret);
/* Appends the names of the bits, a blank before each. */
void conf_name_scopes(unsigned bits, struct buffer *out);
/* True for a possible name of a service key or a tenant: [a-z0-9][a-z0-9._-]{0,62}. */
bool conf_is_name(struct text name);
/* True for an authentication context class (acr): 1 to ACR_MAX printable ASCII characters without
 * blank, quote and backslash, so that it may stand in lists, JSON and response headers as it is. */
#define ACR_MAX 128
bool conf_is_acr(struct text acr);
/* Appends the section [key:NAME] of one key, as keygen prints it. */
void conf_dump_key(const struct service_key *key, struct buffer *out);
