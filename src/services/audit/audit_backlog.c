/* Lines that wait to be written, by class, and the decision of their tickets. */
#include <assert.h>
#include <string.h>

#include "audit_private.h"

bool audit_queue_is_empty(const struct queue *queue)
{
    return queue->start == queue->frames.length;
}

size_t audit_backlog_bytes(const struct audit *audit)
{
    size_t bytes = 0;
    for (size_t i = 0; i < AUDIT_CLASSES; i++)
        bytes += audit->backlog[i].frames.length - audit->backlog[i].start;
    return bytes;
}

/* --- what comes in --- */

/* A small backlog keeps its order: sorting it would gain nothing. */
static bool keeps_order(const struct audit *audit, size_t more)
{
    return atomic_load(&audit->reserve_stage) < RESERVE_REACHED &&
           audit_queue_is_empty(&audit->backlog[AUDIT_CLASS_READS]) &&
           audit_queue_is_empty(&audit->backlog[AUDIT_CLASS_UNAUTHENTICATED]) &&
           audit_backlog_bytes(audit) + more <= AUDIT_CHUNK_BYTES;
}

static void sort(struct audit *audit, const struct buffer *taken)
{
    for (size_t at = 0; at < taken->length;) {
        struct commit_frame frame = commit_frame_at(taken, at);
        assert(frame.mark < AUDIT_CLASSES);
        size_t size = commit_frame_size(frame);
        buffer_add(&audit->backlog[frame.mark].frames, taken->data + at, size);
        at += size;
    }
}

void audit_backlog_join(void *owner, struct buffer *taken)
{
    struct audit *audit = owner;
    if (keeps_order(audit, taken->length))
        commit_frames_join(&audit->backlog[AUDIT_CLASS_CHANGES].frames, taken);
    else
        sort(audit, taken);
    taken->length = 0;
}

void audit_add_notice(struct audit *audit, const struct audit_notice *notice)
{
    SCOPED(buffer_free) struct buffer line = {0};
    audit_format_notice(&line, notice);
    commit_frame_append(&audit->backlog[AUDIT_CLASS_CHANGES].frames,
                        (struct commit_frame){.mark = AUDIT_CLASS_CHANGES}, buffer_text(&line));
    atomic_fetch_add(&audit->queued, sizeof(struct commit_frame) + line.length);
}

/* --- what goes out --- */

/* Restarts an empty queue at the front; frees its memory if a burst has made it large. */
static void tidy(struct queue *queue)
{
    if (!audit_queue_is_empty(queue))
        return;
    commit_frames_clear(&queue->frames);
    queue->start = 0;
}

static void decide_frame(struct audit *audit, struct commit_frame frame, bool written)
{
    commit_decide(frame, written);
    audit->refused += frame.ticket && !written;
}

void audit_queue_drop(struct audit *audit, struct queue *queue, size_t end, bool written)
{
    assert(queue->start <= end && end <= queue->frames.length);
    for (size_t at = queue->start; at < end;) {
        struct commit_frame frame = commit_frame_at(&queue->frames, at);
        decide_frame(audit, frame, written);
        at += commit_frame_size(frame);
    }
    atomic_fetch_sub(&audit->queued, end - queue->start);
    queue->start = end;
    tidy(queue);
}

void audit_backlog_refuse(struct audit *audit)
{
    struct queue *queue = &audit->backlog[AUDIT_CLASS_CHANGES];
    struct buffer *frames = &queue->frames;
    size_t kept = 0;
    for (size_t at = queue->start; at < frames->length;) {
        struct commit_frame frame = commit_frame_at(frames, at);
        size_t size = commit_frame_size(frame);
        if (!frame.ticket) {
            memmove(frames->data + kept, frames->data + at, size);
            kept += size;
        } else {
            atomic_fetch_sub(&audit->queued, size);
        }
        decide_frame(audit, frame, false);
        at += size;
    }
    frames->length = kept;
    queue->start = 0;
    tidy(queue);
}

int64_t audit_queue_discard(struct audit *audit, struct queue *queue)
{
    int64_t lines = 0;
    for (size_t at = queue->start; at < queue->frames.length; lines++) {
        struct commit_frame frame = commit_frame_at(&queue->frames, at);
        assert(!frame.ticket);
        at += commit_frame_size(frame);
    }
    audit_queue_drop(audit, queue, queue->frames.length, false);
    return lines;
}
