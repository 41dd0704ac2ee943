/* Raising alerts, from any thread. Repetitions within a minute are counted, and so are alerts of a
 * kind beyond a tenant's limit; the rest is handed to the thread. */
#include "alerts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "alerts_private.h"
#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "thread.h"

#define REFUSED_SUFFIX ".refused"

#define SUPPRESSED_DETAIL \
    "More alerts of this kind came up for the tenant within a minute than are told one by one"

/* Groups have a table of their own, so that no flood of addresses or users displaces a tenant. */
enum { REPEATS = 1024, COUNTS = 16384, GROUPS = 4096, NAME_PARTS = 4, NAME_PART_MAX = 255 };

/* --- names --- */

uint64_t alerts_name(const struct alerts *alerts, char purpose, const struct text *parts,
                     size_t count)
{
    char name[1 + NAME_PARTS * (1 + NAME_PART_MAX)];
    size_t length = 0;
    assert(count <= NAME_PARTS);
    name[length++] = purpose;
    for (size_t i = 0; i < count; i++) {
        size_t part = parts[i].length < NAME_PART_MAX ? parts[i].length : NAME_PART_MAX;
        name[length++] = (char)part;
        if (part > 0)
            memcpy(name + length, parts[i].data, part);
        length += part;
    }
    return crypto_table_hash(alerts->hash_key, name, length);
}

/* --- handing over --- */

static void count_dropped(struct alerts *alerts, int64_t count)
{
    atomic_fetch_add(&alerts->lost, count);
    metrics_add(METRIC_ALERTS_DROPPED, (uint64_t)count);
}

bool alerts_hand_over(struct alerts *alerts, const struct alert *alert)
{
    const struct raised_alert raised = {*alert, clock_wall_ms()};
    bool first = alerts->handed.length == 0;
    metrics_add(METRIC_ALERTS_RAISED, 1);
    if (atomic_load(&alerts->waiting) > ALERTS_WAITING_MAX) {
        count_dropped(alerts, 1);
        return false;
    }
    size_t length = alert_pack(&alerts->handed, &raised);
    atomic_fetch_add(&alerts->waiting, length);
    return first;
}

/* --- limits per tenant --- */

/* All share the queue, and anyone who may log in can create any number of users. So each group, a
 * tenant and a kind, has a limit per minute, and one more alert for the number of the others. */
static uint64_t group_of(const struct alerts *alerts, const struct alert *alert)
{
    return alerts_name(alerts, (char)('A' + alert->kind), &alert->tenant, 1);
}

/* Counts an alert that would be raised by itself. */
static bool is_beyond_limit(struct alerts *alerts, uint64_t group, int64_t now_ms)
{
    int64_t limit = atomic_load(&alerts->one_by_one);
    return limit > 0 && minutes_count(alerts->groups, group, 1, now_ms) > limit;
}

/* True if the kept repetitions may be raised now; the alert that stands for a group always may. */
static bool may_hand_over(struct alerts *alerts, const struct minute *minute, int64_t now_ms)
{
    struct raised_alert raised;
    const struct buffer *kept = minute->kept;
    if (!kept)
        return true;
    alert_unpack(kept->data, &raised);
    uint64_t group = group_of(alerts, &raised.alert);
    return minute->name == group || !is_beyond_limit(alerts, group, now_ms);
}

/* --- repetitions --- */

/* Hands over the repetitions of a minute and clears them. */
static bool tell_repeats(struct alerts *alerts, struct minute *minute)
{
    bool wake = false;
    struct buffer *kept = minute->kept;
    assert((kept != NULL) == (minute->count > 0));
    if (kept) {
        struct raised_alert raised;
        alert_unpack(kept->data, &raised);
        raised.alert.count = minute->count;
        wake = alerts_hand_over(alerts, &raised.alert);
        buffer_free(kept);
        free(kept);
    }
    minute->kept = NULL;
    minute->count = 0;
    return wake;
}

void alerts_tell_repeats(struct alerts *alerts, bool all)
{
    int64_t now_ms = clock_monotonic_ms();
    size_t at = 0;
    struct minute *minute;
    pthread_mutex_lock(&alerts->lock);
    while ((minute = minutes_next(alerts->repeats, &at))) {
        if (!all && !minutes_is_over(minute, now_ms))
            continue;
        /* Continuing repetitions get another minute before the next report. */
        minute->used = minute->kept != NULL && !all;
        minute->began_ms = now_ms;
        if (all || may_hand_over(alerts, minute, now_ms))
            tell_repeats(alerts, minute);
    }
    pthread_mutex_unlock(&alerts->lock);
}

static void keep_repeat(struct minute *minute, const struct alert *alert)
{
    assert(minute->used && alert->count > 0);
    minute->count += alert->count;
    if (minute->kept)
        return;
    struct buffer *kept = xcalloc(1, sizeof(*kept));
    const struct raised_alert raised = {*alert, 0};
    alert_pack(kept, &raised);
    minute->kept = kept;
}

/* True if the thread must be woken. */
static bool raise_or_keep(struct alerts *alerts, const struct alert *alert, uint64_t name)
{
    int64_t now_ms = clock_monotonic_ms();
    struct minute displaced;
    struct minute *minute = minutes_find(alerts->repeats, name, now_ms, &displaced);
    bool wake = displaced.used && tell_repeats(alerts, &displaced);
    if (minute->used && !minutes_is_over(minute, now_ms)) {
        keep_repeat(minute, alert);
        return wake;
    }
    wake = tell_repeats(alerts, minute) || wake;
    minute->used = true;
    minute->began_ms = now_ms;
    return alerts_hand_over(alerts, alert) || wake;
}

/* Beyond the limit the alert counts for its group, which is a subject like any other. The lock is
 * held. */
static bool raise_or_suppress(struct alerts *alerts, const struct alert *alert, uint64_t name)
{
    int64_t now_ms = clock_monotonic_ms();
    uint64_t group = group_of(alerts, alert);
    if (minutes_running(alerts->repeats, name, now_ms) || !is_beyond_limit(alerts, group, now_ms))
        return raise_or_keep(alerts, alert, name);
    const struct alert more = {.kind = alert->kind,
                               .tenant = alert->tenant,
                               .detail = TEXT(SUPPRESSED_DETAIL),
                               .count = alert->count};
    metrics_add(METRIC_ALERTS_SUPPRESSED, 1);
    return raise_or_keep(alerts, &more, group);
}

void alerts_raise(struct alerts *alerts, const struct alert *alert)
{
    struct text subject[ALERT_SUBJECT_PARTS];
    struct alert counted = *alert;
    if (!alerts)
        return;
    counted.count = alert->count > 0 ? alert->count : 1;
    size_t parts = alert_subject(alert, subject);
    uint64_t name = alerts_name(alerts, (char)('0' + alert->kind), subject, parts);
    pthread_mutex_lock(&alerts->lock);
    bool wake = raise_or_suppress(alerts, &counted, name);
    pthread_mutex_unlock(&alerts->lock);
    if (wake)
        webhook_wake(alerts->webhook);
}

void alerts_usage(const struct alerts *alerts, struct alerts_usage *ret)
{
    *ret = (struct alerts_usage){.queued = atomic_load(&alerts->queued),
                                 .bytes = atomic_load(&alerts->bytes),
                                 .written = atomic_load(&alerts->written),
                                 .delivered = atomic_load(&alerts->delivered)};
}

/* --- start and stop --- */

static void take_options(struct alerts *alerts, const struct conf *conf)
{
    atomic_store(&alerts->max_bytes, conf->alerts_max_bytes);
    atomic_store(&alerts->forced_logouts, conf->alerts_forced_logouts_per_minute);
    atomic_store(&alerts->guesses, conf->alerts_guesses_per_minute);
    atomic_store(&alerts->one_by_one, conf->alerts_one_by_one_per_minute);
    atomic_store(&alerts->refused_after_ms, conf->alerts_refused_after * 1000);
}

static void name_files(struct alerts *alerts, const char *path)
{
    SCOPED(buffer_free) struct buffer refused = {0};
    buffer_addf(&refused, "%s%s%c", path, REFUSED_SUFFIX, '\0');
    alerts_file_init(&alerts->file, path);
    alerts_file_init(&alerts->refused, refused.data);
}

static struct alerts *create_alerts(const struct conf *conf, const char *node)
{
    struct alerts *alerts = xcalloc(1, sizeof(*alerts));
    pthread_mutex_init(&alerts->lock, NULL);
    alerts->repeats = minutes_create(REPEATS);
    alerts->counts = minutes_create(COUNTS);
    alerts->groups = minutes_create(GROUPS);
    alerts->node = xstrdup(node);
    crypto_random(alerts->hash_key, sizeof(alerts->hash_key));
    crypto_random(&alerts->seed, sizeof(alerts->seed));
    alerts->seed |= 1;
    atomic_store(&alerts->written, true);
    atomic_store(&alerts->delivered, true);
    name_files(alerts, conf->alerts_file);
    take_options(alerts, conf);
    return alerts;
}

static void destroy_alerts(struct alerts *alerts)
{
    if (alerts->lane)
        audit_lane_destroy(&alerts->lane);
    webhook_destroy(&alerts->webhook);
    alerts_file_fini(&alerts->file);
    alerts_file_fini(&alerts->refused);
    alerts_target_free(&alerts->target);
    alerts_target_free(&alerts->new_target);
    minutes_destroy(&alerts->repeats);
    minutes_destroy(&alerts->counts);
    minutes_destroy(&alerts->groups);
    pthread_mutex_destroy(&alerts->lock);
    struct buffer *const buffers[] = {&alerts->handed,  &alerts->taken,      &alerts->backlog,
                                      &alerts->scratch, &alerts->sending.id, &alerts->sending.json};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
        buffer_free(buffers[i]);
    free(alerts->node);
    free(alerts);
}

static bool open_file(struct alerts_file *file, struct buffer *error)
{
    struct alerts_file_findings findings;
    if (!alerts_file_open(file, &findings, error))
        return false;
    if (findings.torn > 0)
        log_warning("alerts_torn_line", "file=%s bytes=%lld", file->records.path,
                    (long long)findings.torn);
    if (findings.damaged > 0)
        log_error("alerts_damaged", "file=%s lines=%lld", file->records.path,
                  (long long)findings.damaged);
    log_info("alerts_opened", "file=%s queued=%lld bytes=%lld", file->records.path,
             (long long)file->queued, (long long)file->records.size);
    return true;
}

static bool start_alerts_thread(struct alerts *alerts, struct buffer *error)
{
    int cause = thread_start(&alerts->thread, alerts_thread_run, alerts);
    if (cause != 0)
        buffer_addf(error, "the thread of alerts cannot be started: %s", strerrordesc_np(cause));
    return cause == 0;
}

static bool open_parts(struct alerts *alerts, const struct conf *conf, struct audit *audit,
                       struct buffer *error)
{
    alerts->target = alerts_target_load(conf, error);
    if (!alerts->target || !open_file(&alerts->file, error) || !open_file(&alerts->refused, error))
        return false;
    alerts->webhook = webhook_create();
    if (!alerts->webhook) {
        buffer_addf(error, "libcurl cannot be used");
        return false;
    }
    webhook_trust(alerts->webhook, buffer_text(&alerts->target->authorities));
    alerts->audit = audit;
    alerts->lane = audit_lane_create(audit, NULL, NULL);
    return start_alerts_thread(alerts, error);
}

struct alerts *alerts_start(const struct conf *conf, struct audit *audit, const char *node,
                            struct buffer *error)
{
    struct alerts *alerts = create_alerts(conf, node);
    if (open_parts(alerts, conf, audit, error))
        return alerts;
    destroy_alerts(alerts);
    return NULL;
}

bool alerts_check(const struct conf *conf, struct buffer *error)
{
    struct alerts_target *target = alerts_target_load(conf, error);
    bool usable = target != NULL;
    alerts_target_free(&target);
    return usable;
}

void alerts_reload(struct alerts *alerts, const struct conf *conf)
{
    struct buffer error = {0};
    struct alerts_target *target = alerts_target_load(conf, &error);
    take_options(alerts, conf);
    if (!target)
        log_error("alerts_target_kept", "reason=\"the new one cannot be read any more\"");
    buffer_free(&error);
    pthread_mutex_lock(&alerts->lock);
    if (target) {
        alerts_target_free(&alerts->new_target);
        alerts->new_target = target;
    }
    pthread_mutex_unlock(&alerts->lock);
    webhook_wake(alerts->webhook);
}

void alerts_stop(struct alerts **given)
{
    struct alerts *alerts = *given;
    *given = NULL;
    if (!alerts)
        return;
    atomic_store(&alerts->stopping, true);
    webhook_wake(alerts->webhook);
    pthread_join(alerts->thread, NULL);
    destroy_alerts(alerts);
}
