/* The workers' side of the audit service: admits lines by queue and disk space and hands them to
 * the commit queue. */
#include "audit.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "audit_private.h"
#include "memory.h"
#include "metrics.h"

enum { UNAUTHENTICATED_PART = 4 }; /* of the queue that they may fill */

/* --- start and stop --- */

static void destroy_audit(struct audit *audit)
{
    commit_queue_fini(&audit->queue);
    audit_file_fini(&audit->file);
    audit_unauthenticated_fini(audit);
    buffer_free(&audit->tail_prefix);
    for (size_t i = 0; i < AUDIT_CLASSES; i++)
        buffer_free(&audit->backlog[i].frames);
    buffer_free(&audit->chunk.out);
    free(audit->chunk.ends);
    free(audit);
}

void audit_reload(struct audit *audit, const struct conf *conf)
{
    atomic_store(&audit->retention_ms, conf->audit_retention * 1000);
    atomic_store(&audit->max_bytes, conf->audit_max_bytes);
    atomic_store(&audit->queue_bytes, conf->audit_queue_bytes);
    atomic_store(&audit->reserve, conf->audit_reserve);
    atomic_store(&audit->strangers_per_minute, conf->audit_strangers_per_minute);
    atomic_store(&audit->strangers_per_address, conf->audit_strangers_per_address);
}

static struct audit *create_audit(const struct conf *conf, const char *node)
{
    struct audit *audit = xcalloc(1, sizeof(*audit));
    commit_queue_init(&audit->queue, &audit_writer, audit);
    audit_file_init(&audit->file, conf->audit_file);
    audit_unauthenticated_init(audit);
    audit_format_tail_prefix(&audit->tail_prefix, text_of(node));
    audit_reload(audit, conf);
    return audit;
}

struct audit *audit_start(const struct conf *conf, const char *node, struct buffer *error)
{
    struct audit *audit = create_audit(conf, node);
    int cause = audit_writer_prepare(audit) ? commit_queue_start(&audit->queue) : errno;
    if (cause == 0)
        return audit;
    buffer_addf(error, "audit file %s cannot be written: %s", conf->audit_file,
                audit_file_explain(&audit->file, cause));
    audit_file_close(&audit->file);
    destroy_audit(audit);
    return NULL;
}

void audit_reopen(struct audit *audit)
{
    atomic_store(&audit->reopen, true);
    commit_queue_call(&audit->queue);
}

bool audit_healthy(const struct audit *audit)
{
    return commit_queue_healthy(&audit->queue);
}

void audit_stop(struct audit **audit)
{
    struct audit *stopped = *audit;
    *audit = NULL;
    commit_queue_stop(&stopped->queue);
    destroy_audit(stopped);
}

/* --- lanes --- */

struct audit_lane *audit_lane_create(struct audit *audit, void (*wake)(void *), void *user)
{
    struct audit_lane *lane = commit_lane_create(&audit->queue, sizeof(*lane), wake, user);
    lane->audit = audit;
    return lane;
}

void audit_lane_destroy(struct audit_lane **lane)
{
    struct audit_lane *closing = *lane;
    *lane = NULL;
    if (!closing)
        return;
    if (commit_lane_is_open(&closing->commit))
        audit_unauthenticated_flush(closing);
    commit_lane_destroy(&closing->commit);
}

void audit_flush(struct audit_lane *lane)
{
    audit_unauthenticated_flush(lane);
    commit_lane_flush(&lane->commit);
}

void audit_collect(struct audit_lane *lane)
{
    commit_lane_collect(&lane->commit);
}

/* --- lines --- */

/* True if queue and disk have room; lines of changes are bounded by the queue alone, if at all. */
static bool fits_class(struct audit *audit, enum audit_class class, size_t queued)
{
    size_t limit = (size_t)atomic_load_explicit(&audit->queue_bytes, memory_order_relaxed);
    int stage = atomic_load_explicit(&audit->reserve_stage, memory_order_relaxed);
    switch (class) {
    case AUDIT_CLASS_READS:
        return queued <= limit && stage < RESERVE_HALVED;
    case AUDIT_CLASS_UNAUTHENTICATED:
        return queued <= limit / UNAUTHENTICATED_PART && stage < RESERVE_REACHED;
    default:
        return queued <= limit;
    }
}

bool audit_write(struct audit_lane *lane, enum audit_class class, struct text line,
                 struct commit_ticket *ticket)
{
    struct audit *audit = lane->audit;
    size_t size = sizeof(struct commit_frame) + line.length;
    size_t before = atomic_fetch_add_explicit(&audit->queued, size, memory_order_relaxed);
    assert(class < AUDIT_CLASSES && (!ticket || class == AUDIT_CLASS_CHANGES));
    if (!ticket && !fits_class(audit, class, before + size)) {
        atomic_fetch_sub_explicit(&audit->queued, size, memory_order_relaxed);
        return false;
    }
    commit_lane_put(&lane->commit, ticket, class, line);
    return true;
}

void audit_count_lost(struct audit_lane *lane)
{
    atomic_fetch_add_explicit(&lane->audit->lost, 1, memory_order_relaxed);
    metrics_add(METRIC_AUDIT_LOST, 1);
}
