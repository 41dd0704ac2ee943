/* A row for each fault. */
#include "fitness.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

enum { LEAST_MAJOR = 7, VALUE_MAX = 32 };

/* The value after "name:" at the beginning of a line, in `ret`, cut; "" if there is none. */
static void find_info(struct text info, const char *name, char ret[VALUE_MAX])
{
    size_t length = strlen(name);
    ret[0] = '\0';
    while (info.length > length) {
        const char *end = memchr(info.data, '\n', info.length);
        size_t line = end ? (size_t)(end - info.data) : info.length;
        if (line > length && memcmp(info.data, name, length) == 0 && info.data[length] == ':') {
            struct text value = {info.data + length + 1, line - length - 1};
            value = text_trim(value);
            if (value.length > 0 && value.data[value.length - 1] == '\r')
                value.length--;
            log_quote(ret, VALUE_MAX, value);
            return;
        }
        line += end ? 1 : 0;
        info = (struct text){info.data + line, info.length - line};
    }
}

struct assessment {
    const struct settings *settings;
    char *why;
    size_t length;
    bool unfit;
};

__attribute__((format(printf, 2, 3))) static void add_fault(struct assessment *assessment,
                                                            const char *format, ...)
{
    size_t room = FITNESS_WHY_MAX - assessment->length;
    const char *between = assessment->length > 0 ? "; " : "";
    int added = snprintf(assessment->why + assessment->length, room, "%s", between);
    va_list arguments;
    va_start(arguments, format);
    if ((size_t)added < room)
        added += vsnprintf(assessment->why + assessment->length + added, room - (size_t)added,
                           format, arguments);
    va_end(arguments);
    assessment->length += (size_t)added < room ? (size_t)added : room - 1;
}

static void check_version(struct assessment *assessment, const char *version)
{
    unsigned major = 0;
    if (sscanf(version, "%u", &major) != 1 || major >= LEAST_MAJOR)
        return;
    add_fault(assessment, "Redis %s is older than %d.0", version, LEAST_MAJOR);
    assessment->unfit = true;
}

/* In the other case there is no slot map, which is reported elsewhere. */
static void check_kind(struct assessment *assessment, const char *enabled)
{
    if (assessment->settings->mode == REDIS_CLUSTER || strcmp(enabled, "1") != 0)
        return;
    add_fault(assessment, "is a cluster node, but redis.mode is not cluster");
    assessment->unfit = true;
}

static void check_eviction(struct assessment *assessment, const char *policy)
{
    if (policy[0] != '\0' && strcmp(policy, "noeviction") != 0)
        add_fault(assessment, "maxmemory-policy is %s, which drops sessions; it must be noeviction",
                  policy);
}

/* Without WAIT replicas do not matter. */
static void check_replicas(struct assessment *assessment, const char *replicas)
{
    if (strcmp(replicas, "0") == 0 && assessment->settings->wait_timeout_ms > 0)
        add_fault(assessment, "has no replica; if that is meant, set redis.wait_timeout = 0");
}

static const struct {
    const char *name; /* in INFO */
    void (*check)(struct assessment *assessment, const char *value);
} rows[] = {
    {"redis_version", check_version},
    {"cluster_enabled", check_kind},
    {"maxmemory_policy", check_eviction},
    {"connected_slaves", check_replicas},
};

bool fitness_check(struct text info, const struct settings *settings, char why[FITNESS_WHY_MAX])
{
    struct assessment assessment = {.settings = settings, .why = why};
    why[0] = '\0';
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char value[VALUE_MAX];
        find_info(info, rows[i].name, value);
        rows[i].check(&assessment, value);
    }
    return assessment.unfit;
}
