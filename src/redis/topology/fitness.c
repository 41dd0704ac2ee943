/* A row for each thing that is wrong. */
#include "fitness.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

enum { LEAST_MAJOR = 7, VALUE_MAX = 32 };

/* The value behind "name:" at the beginning of a line, in `ret`, cut; "" if there is none. */
static void find_value(struct text info, const char *name, char ret[VALUE_MAX])
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

struct judgement {
    const struct settings *settings;
    char *why;
    size_t length;
    bool unfit;
};

__attribute__((format(printf, 2, 3))) static void add(struct judgement *judgement,
                                                      const char *format, ...)
{
    size_t room = FITNESS_WHY_MAX - judgement->length;
    const char *between = judgement->length > 0 ? "; " : "";
    int added = snprintf(judgement->why + judgement->length, room, "%s", between);
    va_list arguments;
    va_start(arguments, format);
    if ((size_t)added < room)
        added += vsnprintf(judgement->why + judgement->length + added, room - (size_t)added, format,
                           arguments);
    va_end(arguments);
    judgement->length += (size_t)added < room ? (size_t)added : room - 1;
}

static void judge_version(struct judgement *judgement, const char *version)
{
    unsigned major = 0;
    if (sscanf(version, "%u", &major) != 1 || major >= LEAST_MAJOR)
        return;
    add(judgement, "Redis %s is older than %d.0", version, LEAST_MAJOR);
    judgement->unfit = true;
}

/* The other way round there is no slot map, which is told otherwise. */
static void judge_kind(struct judgement *judgement, const char *enabled)
{
    if (judgement->settings->mode == REDIS_CLUSTER || strcmp(enabled, "1") != 0)
        return;
    add(judgement, "is a cluster node, but redis.mode is not cluster");
    judgement->unfit = true;
}

static void judge_eviction(struct judgement *judgement, const char *policy)
{
    if (policy[0] != '\0' && strcmp(policy, "noeviction") != 0)
        add(judgement, "maxmemory-policy is %s, which drops sessions; it must be noeviction",
            policy);
}

/* Without WAIT nobody counts on replicas. */
static void judge_replicas(struct judgement *judgement, const char *replicas)
{
    if (strcmp(replicas, "0") == 0 && judgement->settings->wait_timeout_ms > 0)
        add(judgement, "has no replica; if that is meant, set redis.wait_timeout = 0");
}

static const struct {
    const char *name; /* in INFO */
    void (*judge)(struct judgement *judgement, const char *value);
} rows[] = {
    {"redis_version", judge_version},
    {"cluster_enabled", judge_kind},
    {"maxmemory_policy", judge_eviction},
    {"connected_slaves", judge_replicas},
};

bool fitness_judge(struct text info, const struct settings *settings, char why[FITNESS_WHY_MAX])
{
    struct judgement judgement = {.settings = settings, .why = why};
    why[0] = '\0';
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char value[VALUE_MAX];
        find_value(info, rows[i].name, value);
        rows[i].judge(&judgement, value);
    }
    return judgement.unfit;
}
