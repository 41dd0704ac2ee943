/* Reading seeds, timeouts and the password. */
#include "settings.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "crypto.h"
#include "private_file.h"
#include "redis/protocol/command.h"

enum { PASSWORD_MAX = 1024 };

static bool read_seeds(struct settings *settings, const struct conf_list *nodes,
                       struct buffer *error)
{
    settings->seeds = xcalloc(nodes->count, sizeof(settings->seeds[0]));
    for (size_t i = 0; i < nodes->count; i++) {
        struct endpoint *seed = &settings->seeds[i];
        if (!address_split(text_of(nodes->items[i]), seed->host, &seed->port)) {
            buffer_addf(error, "redis.nodes: \"%s\" is not HOST:PORT\n", nodes->items[i]);
            return false;
        }
    }
    settings->seed_count = nodes->count;
    if (nodes->count == 0)
        buffer_add_literal(error, "redis.nodes: at least one is needed\n");
    return nodes->count > 0;
}

static bool read_replica(struct settings *settings, const struct conf_list *networks,
                         struct buffer *error)
{
    settings->replica_networks = xcalloc(networks->count, sizeof(settings->replica_networks[0]));
    settings->replica_network_count = networks->count;
    for (size_t i = 0; i < networks->count; i++) {
        if (!ip_network_parse(text_of(networks->items[i]), &settings->replica_networks[i])) {
            buffer_addf(error, "redis.near_replicas: \"%s\" is not a network\n",
                        networks->items[i]);
            return false;
        }
    }
    return true;
}

static void add_auth(struct buffer *greeting, struct text user, struct text password)
{
    struct text arguments[3] = {TEXT("AUTH"), user, password};
    /* AUTH without a user is understood by servers older than ACLs, too. */
    if (user.length == 0)
        arguments[1] = password;
    /* Room in advance: growing would leave copies of the password behind. */
    buffer_reserve(greeting, user.length + password.length + 64);
    command_append(greeting, arguments, user.length ? 3 : 2);
}

/* AUTH, if there is a password. */
static bool read_auth(struct buffer *greeting, const char *user, const char *option,
                      const char *path, struct buffer *error)
{
    if (!path || !path[0])
        return true;
    char file[PASSWORD_MAX];
    struct text password = {0};
    bool good = private_file_read_line(option, path, file, sizeof(file), &password, error);
    if (good)
        add_auth(greeting, text_of(user), password);
    crypto_wipe(file, sizeof(file));
    return good;
}

/* Returns the number of commands that the greeting then has. */
static unsigned add_ping(struct buffer *greeting)
{
    bool auth = greeting->length > 0;
    command_append(greeting, (const struct text[]){TEXT("PING")}, 1);
    return 1 + auth;
}

static bool read_credentials(struct settings *settings, const struct conf *conf,
                             struct buffer *error)
{
    if (!read_auth(&settings->greeting, conf->redis_user, "redis.password_file",
                   conf->redis_password_file, error) ||
        !read_auth(&settings->sentinel_greeting, conf->redis_sentinel_user,
                   "redis.sentinel_password_file", conf->redis_sentinel_password_file, error))
        return false;
    buffer_add_text(&settings->replica_greeting, buffer_text(&settings->greeting));
    command_append(&settings->replica_greeting, (const struct text[]){TEXT("READONLY")}, 1);
    add_ping(&settings->replica_greeting);
    settings->greetings = add_ping(&settings->greeting);
    settings->sentinel_greetings = add_ping(&settings->sentinel_greeting);
    return true;
}

static bool read_tls(struct settings *settings, const struct conf *conf, struct buffer *error)
{
    if (!conf->redis_tls)
        return true;
    settings->tls = tls_context_create(conf, error);
    return settings->tls != NULL;
}

struct settings *settings_from_conf(const struct conf *conf, struct buffer *error)
{
    static _Atomic uint64_t made;
    struct settings *settings = xcalloc(1, sizeof(*settings));
    atomic_init(&settings->references, 1);
    settings->number = atomic_fetch_add(&made, 1) + 1;
    settings->mode = conf->redis_mode;
    settings->sentinel_name = xstrdup(conf->redis_sentinel_name);
    settings->slow_ms = conf->redis_timeout * 8 / 10;
    settings->connect_timeout_ms = conf->redis_connect_timeout;
    settings->wait_timeout_ms = conf->redis_wait_timeout;
    settings->reconnect_max_ms = conf->redis_reconnect_max;
    settings->map_refresh_ms = conf->redis_map_refresh * 1000;
    server_problems_init(&settings->problems, PROBLEM_CONNECT);
    server_problems_init(&settings->errors, PROBLEM_ERROR);
    server_problems_init(&settings->faults, PROBLEM_UNFIT);
    server_problems_init(&settings->foreign, PROBLEM_FOREIGN);
    if (!read_seeds(settings, &conf->redis_nodes, error) ||
        !read_replica(settings, &conf->redis_near_replicas, error) ||
        !read_credentials(settings, conf, error) || !read_tls(settings, conf, error))
        settings_unref(&settings);
    return settings;
}

struct settings *settings_ref(struct settings *settings)
{
    atomic_fetch_add_explicit(&settings->references, 1, memory_order_relaxed);
    return settings;
}

void settings_unref(struct settings **settings)
{
    struct settings *gone = *settings;
    *settings = NULL;
    if (gone && atomic_fetch_sub_explicit(&gone->references, 1, memory_order_acq_rel) == 1) {
        buffer_free(&gone->greeting);
        buffer_free(&gone->replica_greeting);
        buffer_free(&gone->sentinel_greeting);
        tls_context_free(&gone->tls);
        server_problems_free(&gone->problems);
        server_problems_free(&gone->errors);
        server_problems_free(&gone->faults);
        server_problems_free(&gone->foreign);
        free(gone->sentinel_name);
        free(gone->seeds);
        free(gone->replica_networks);
        free(gone);
    }
}
