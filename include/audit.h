/* The audit file: one line of JSON a call, in Elastic Common Schema names, written by a thread of
 * its own.
 *
 * Workers format lines (audit_format) into the batch of their lane (audit_lane) and hand it over
 * once a loop turn. The thread writes the batches of all lanes in one go and syncs (fdatasync) if
 * one of their lines asks for it: a group commit. The lines of a lane are written in order while
 * the disk keeps up. When more waits than one write takes, lines of changes go first, then those of
 * reads, then those of unauthenticated calls. Nothing is dropped silently.
 *
 * Unauthenticated calls are those without a genuine credential; options, metrics and lines call
 * their callers strangers. Their lines have a budget per network and per node; calls beyond it are
 * counted, and one line a minute carries the exact number. Disk space below `audit.reserve` is kept
 * for lines of changes.
 *
 * After a failed write or sync the file is closed and never synced again, since the kernel may have
 * dropped the pages; lines in memory are written once the file could be reopened. Until then
 * audit_healthy() is false and calls that change something are refused before they change it.
 *
 * All members have dotted names at the top level ("event.action"), so that members can be appended
 * to a line. The thread, which alone knows node and order, appends `"service.node.name"` and
 * `"event.sequence"` as the last members of every line. */
#pragma once

#include "address.h"
#include "commit_ticket.h"
#include "conf.h"
#include "text.h"

enum audit_event {
#define AUDIT_EVENT(id, action, category, type, done, failed, durable) AUDIT_##id,
#include "tbl/audit_events.h"
#undef AUDIT_EVENT
    AUDIT_EVENT_COUNT
};

/* True for events whose line must be on disk before the answer leaves. */
bool audit_event_durable(enum audit_event event);

/* The content of a line. Absent texts are left out. Texts are borrowed for the call of
 * audit_format(). */
struct audit_record {
    enum audit_event event;
    int64_t wall_ms;
    int64_t duration_ns;
    unsigned status;    /* HTTP status of the answer */
    struct text reason; /* error code or reason of a refusal; absent on success */
    bool failed;        /* event.outcome */
    struct text request_id;
    struct text trace_id; /* 32 hex digits of traceparent */
    struct text span_id;
    struct text method;
    struct text path; /* the route's template; the raw path is never logged */
    /* The request that a gateway asked about. */
    struct text original_method;
    struct text original_host;
    struct text original_path; /* without query and parameters */
    struct text tenant;
    struct text user_id;       /* the session's user */
    struct text service_key;   /* name of the key that called */
    struct text operator_name; /* X-Operator */
    struct text actor;         /* who ended the sessions */
    struct text session_id;    /* 16 hex digits */
    struct text device_id;
    struct text device_type;
    struct text source_ip;     /* the user's address */
    struct text peer_ip;       /* the connection's address */
    struct text unreadable_ip; /* given as the user's address, but unreadable */
    struct text user_agent;
    const struct text *ended; /* ids of sessions this call ended */
    size_t ended_count;
    const struct text *sessions; /* ids of those that a batch asked about ... */
    size_t session_count;
    int64_t batch_tokens, batch_active, batch_inactive; /* ... its tokens; no batch: 0 */
    struct text durability;
    struct text binding; /* the binding that does not match: "ip", "device" */
    bool repeated;       /* a refresh token that was used before, within its grace */
    struct text changes; /* JSON strings (changes.h) of the changes, or absent */
    bool stale;          /* answered from memory because Redis did not answer ... */
    int64_t stale_for_s; /* ... by state of this age */
};

/* Appends one open line: a JSON object to which the audit thread adds node, sequence number, brace
 * and newline. Texts, user agents too, are cut at 512 bytes. */
void audit_format(struct buffer *line, const struct audit_record *record);

/* The content of an alert's line beside its subject, which is in the record's event, wall_ms,
 * tenant, user_id, session_id, actor and source_ip. */
struct audit_rule {
    struct text name, id, detail;
    int64_t count;
};
/* audit_format() for an alert. */
void audit_format_alert(struct buffer *line, const struct audit_record *record,
                        const struct audit_rule *rule);

struct audit_number {
    const char *name; /* a literal that needs no escaping */
    int64_t value;
};

/* Lines that sessiond writes about itself. */
struct audit_notice {
    enum audit_event event;
    int64_t wall_ms;
    bool failed;
    struct text reason;  /* of a failure */
    struct text file;    /* file.path, absent if it is not about a file */
    struct text version; /* service.version */
    struct text changes; /* JSON strings (changes.h), absent without changes */
    const struct audit_number *numbers;
    size_t number_count;
    int64_t start_ms, end_ms; /* event.start and event.end, both 0 for a moment */
};
/* Appends a notice as an open line, like audit_format(). */
void audit_format_notice(struct buffer *line, const struct audit_notice *notice);

struct audit;
struct audit_lane;

/* Opens the file (mode 0640, O_APPEND), repairs a torn last line with a log line and a line of its
 * own, and starts the thread. NULL with *error if the file cannot be written. `node`, the node's
 * name, is copied. */
struct audit *audit_start(const struct conf *conf, const char *node, struct buffer *error);
/* Applies the options that may be reloaded. Any thread. */
void audit_reload(struct audit *audit, const struct conf *conf);
/* Warnings for operators, before the disk is full or the file flooded. */
struct audit_pressure {
    bool space_low;          /* the disk has entered a worse stage of the reserve */
    int64_t free_bytes;      /* of the disk at that time */
    int64_t unauthenticated; /* calls that were only counted within a minute, if more than the
                                node's budget; else 0 */
};
/* Takes the warnings since the last call; false if there are none. Any thread. */
bool audit_take_pressure(struct audit *audit, struct audit_pressure *ret);
/* Closes and opens the file by name, after logrotate. Any thread; returns at once. */
void audit_reopen(struct audit *audit);
/* False while lines cannot be written, or if the disk has stalled the thread for more than a
 * second: callers then begin no change, since its line might wait for ever. Any thread, an atomic
 * read. */
bool audit_healthy(const struct audit *audit);
/* Writes and syncs everything handed over, stops the thread, closes the file, clears the pointer.
 * Lanes must be destroyed or silent. */
void audit_stop(struct audit **audit);

/* A worker's end of the queue. `wake` is called on the audit thread when tickets are done and must
 * only wake the worker's loop, which then calls audit_collect(). Destroying hands over the rest and
 * waits until every ticket is decided and its `done` called: at shutdown only. A lane that outlives
 * audit_stop() may only be destroyed, and must have no ticket in flight. */
struct audit_lane *audit_lane_create(struct audit *audit, void (*wake)(void *), void *user);
void audit_lane_destroy(struct audit_lane **lane);

/* The order of lines under load, and their right to the disk's reserve. */
enum audit_class {
    AUDIT_CLASS_CHANGES, /* lines with a ticket, and those that sessiond writes about itself */
    AUDIT_CLASS_READS,
    AUDIT_CLASS_UNAUTHENTICATED, /* of at most a quarter of the queue */
    AUDIT_CLASSES
};
/* Adds a line (from audit_format) to the batch. Without a ticket the line is only queued; false
 * means that queue or disk have no room and nothing was added. With a ticket, which only changes
 * have, the line is always accepted. */
bool audit_write(struct audit_lane *lane, enum audit_class class, struct text line,
                 struct commit_ticket *ticket);
/* Notes that the line of a read was lost; a later line carries the number. */
void audit_count_lost(struct audit_lane *lane);
/* True if an unauthenticated call from the address (NULL for a Unix socket) may have a line of its
 * own; else the caller counts it. IPv6 addresses share the budget of their /64. No lock. */
bool audit_admits_unauthenticated(struct audit_lane *lane, const struct ip_address *address);
/* Counts an unauthenticated call that gets no line; a later line carries the number. */
void audit_count_unauthenticated(struct audit_lane *lane, int64_t wall_ms);
/* Hands the batch over; once at the end of each loop turn. Cheap when the batch is empty. */
void audit_flush(struct audit_lane *lane);
/* Calls `done` of the tickets that are decided. */
void audit_collect(struct audit_lane *lane);
