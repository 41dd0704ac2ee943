/* Reading seeds, timeouts and the password. */
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "crypto.h"

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

static bool refuse(struct buffer *error, const char *path, const char *why)
{
    buffer_addf(error, "redis.password_file: %s: %s\n", path, why);
    return false;
}

static bool check_password_file(int fd, const char *path, struct buffer *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return refuse(error, path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return refuse(error, path, "not a file");
    if (status.st_mode & 077)
        return refuse(error, path, "others than its owner may use it; chmod 600");
    return true;
}

/* The first line of the file. */
static bool read_password(const char *path, char *out, size_t size, struct text *ret,
                          struct buffer *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return refuse(error, path, strerror(errno));
    bool good = false;
    if (!check_password_file(fd, path, error))
        goto out;
    ssize_t length = read(fd, out, size);
    if (length < 0 || (size_t)length == size) {
        refuse(error, path, length < 0 ? strerror(errno) : "too long");
        goto out;
    }
    out[length] = '\0';
    *ret = (struct text){out, strcspn(out, "\r\n")};
    good = ret->length > 0 || refuse(error, path, "empty");
out:
    close(fd);
    return good;
}

static bool read_credentials(struct settings *settings, const struct conf *conf,
                             struct buffer *error)
{
    if (!conf->redis_password_file || !conf->redis_password_file[0])
        return true;
    char file[PASSWORD_MAX];
    struct text password;
    bool good = read_password(conf->redis_password_file, file, sizeof(file), &password, error);
    if (good) {
        struct text user = text_of(conf->redis_user);
        struct text arguments[3] = {TEXT("AUTH"), user, password};
        /* AUTH without a user is understood by servers older than ACLs, too. */
        if (user.length == 0)
            arguments[1] = password;
        /* Room in advance: growing would leave copies of the password behind. */
        buffer_reserve(&settings->greeting, user.length + password.length + 64);
        command_append(&settings->greeting, arguments, user.length ? 3 : 2);
        settings->greetings++;
    }
    crypto_wipe(file, sizeof(file));
    return good;
}

struct settings *settings_from_conf(const struct conf *conf, struct buffer *error)
{
    struct settings *settings = xcalloc(1, sizeof(*settings));
    atomic_init(&settings->references, 1);
    settings->standalone = conf->redis_mode == REDIS_STANDALONE;
    settings->connect_timeout_ms = conf->redis_connect_timeout;
    settings->wait_timeout_ms = conf->redis_wait_timeout;
    settings->reconnect_max_ms = conf->redis_reconnect_max;
    settings->map_refresh_ms = conf->redis_map_refresh * 1000;
    if (!read_seeds(settings, &conf->redis_nodes, error) ||
        !read_credentials(settings, conf, error)) {
        settings_unref(&settings);
        return NULL;
    }
    command_append(&settings->greeting, (const struct text[]){TEXT("PING")}, 1);
    settings->greetings++;
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
        crypto_wipe(gone->greeting.data, gone->greeting.length);
        buffer_free(&gone->greeting);
        free(gone->seeds);
        free(gone);
    }
}
