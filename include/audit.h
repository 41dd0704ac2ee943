/* The audit file: one line of JSON a call, in Elastic Common Schema names, written by a thread of
 * its own.
 *
 * Workers format lines (audit_format) into the batch of their lane (audit_lane) and hand it
 * over once a loop turn. The thread writes what all lanes gave it in one go, and syncs
 * (fdatasync) if a line of the batch asks for it: a group commit. Lines that were handed over are
 * written in order of each lane while the disk keeps up; when more waits than one write takes,
 * lines of changes go first, then those of reads, then those of strangers. Nothing is dropped
 * silently.
 *
 * Strangers are callers without a genuine credential. Their lines have a budget per network and per
 * node; calls beyond it are counted, and one line a minute carries the exact number. Free space of
 * the disk below `audit.reserve` is kept for lines of changes.
 *
 * After a failed write or sync the file is closed and never synced again, since the kernel may have
 * dropped the pages; lines in memory are written to a file opened anew. Until that works,
 * audit_healthy() is false and calls that change something are refused before they change it.
 *
 * All members have dotted names at the top level ("event.action"), so that a line can be added to
 * at its end: the thread, which alone knows node and order, appends `"service.node.name"` and
 * `"event.sequence"`, and later the chain, as the last members of every line. */
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

/* What a line tells. Absent texts are left out. All texts are borrowed for the call of
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
    struct text tenant;
    struct text user_id;       /* the session's user */
    struct text service_key;   /* name of the key that called */
    struct text operator_name; /* X-Operator */
    struct text actor;         /* who ended sessions */
    struct text session_id;    /* 16 hex digits */
    struct text device_id;
    struct text device_type;
    struct text source_ip;     /* the user's address */
    struct text peer_ip;       /* the connection's address */
    struct text unreadable_ip; /* told as the user's address, but none */
    struct text user_agent;
    const struct text *ended; /* ids of sessions this call ended */
    size_t ended_count;
    struct text durability;
    struct text binding; /* what differs from where the session is bound to: "ip", "device" */
    bool repeated;       /* a refresh token that was used before, within its grace */
    struct text changes; /* JSON strings (changes.h) of what was changed, or absent */
    bool stale;          /* answered from memory because Redis did not answer ... */
    int64_t stale_for_s; /* ... by what was true so long ago */
};

/* Appends one line without its end: an open JSON object, to which the audit thread adds node,
 * sequence number, brace and newline. Bounded: texts are cut at 512 bytes (user agents too). */
void audit_format(struct buffer *line, const struct audit_record *record);

/* What the line of an alert tells beside its subject, which is in the record's event, wall_ms,
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
    struct text changes; /* JSON strings (changes.h), absent if nothing was changed */
    const struct audit_number *numbers;
    size_t number_count;
    int64_t start_ms, end_ms; /* event.start and event.end, both 0 if it is of a moment */
};
/* Appends a notice as an open line, like audit_format(). */
void audit_format_notice(struct buffer *line, const struct audit_notice *notice);

struct audit;
struct audit_lane;

/* Opens the file (mode 0640, O_APPEND), repairs a torn last line loudly, starts the thread. NULL
 * with *error if the file cannot be written. `node` is the node's name; it is copied. */
struct audit *audit_start(const struct conf *conf, const char *node, struct buffer *error);
/* Takes over the options that may be reloaded. Any thread. */
void audit_reload(struct audit *audit, const struct conf *conf);
/* Warnings for operators, before the disk is full or the record flooded. */
struct audit_pressure {
    bool space_low;          /* less than twice the reserve is free, or less than before */
    int64_t free_bytes;      /* of the disk, then */
    int64_t unauthenticated; /* calls of strangers that were counted within a minute, if those are
                          more than the budget of the node; else 0 */
};
/* Takes the warnings since the last call; false if there are none. Any thread. */
bool audit_take_pressure(struct audit *audit, struct audit_pressure *ret);
/* Closes and opens the file by name, after logrotate. Any thread; returns at once. */
void audit_reopen(struct audit *audit);
/* False while lines cannot be written, or the disk has kept the thread waiting for more than a
 * second: nobody then begins a change whose line may wait for ever. Any thread, an atomic read. */
bool audit_healthy(const struct audit *audit);
/* Writes and syncs everything handed over, stops the thread, closes the file, clears the pointer.
 * Producers must be gone or silent. */
void audit_stop(struct audit **audit);

/* A worker's end of the queue. `wake` is called on the audit thread when tickets are done and
 * must only wake the worker's loop, which then calls audit_collect(). Destroying hands over what is
 * left and waits until every ticket is decided (and its `done` called): at shutdown only. A
 * lane that outlives audit_stop() may only be destroyed, and must have no tickets under way. */
struct audit_lane *audit_lane_create(struct audit *audit, void (*wake)(void *), void *user);
void audit_lane_destroy(struct audit_lane **lane);

/* Order of lines under load, and which of them may use the reserve of the disk. */
enum audit_class {
    AUDIT_CLASS_CHANGES, /* lines with a ticket, and those that sessiond writes about itself */
    AUDIT_CLASS_READS,
    AUDIT_CLASS_UNAUTHENTICATED, /* of at most a quarter of the queue */
    AUDIT_CLASSES
};
/* Adds a line (from audit_format) to the batch. Without a ticket the line is queued only and false
 * says that there is no room for it, in the queue or on the disk: nothing was added. With a ticket,
 * which only changes have, the line is always taken. */
bool audit_write(struct audit_lane *lane, enum audit_class class, struct text line,
                 struct commit_ticket *ticket);
/* Notes that the line of a read was lost; a later line carries the number. */
void audit_count_lost(struct audit_lane *lane);
/* May the call of a stranger at the address (NULL: there is none, a Unix socket) have a line of its
 * own? If not it is to be counted. IPv6 addresses share the budget of their /64. No lock. */
bool audit_admits_unauthenticated(struct audit_lane *lane, const struct ip_address *address);
/* Counts the call of a stranger that gets no line; a later line carries the number. */
void audit_count_unauthenticated(struct audit_lane *lane, int64_t wall_ms);
/* Hands the batch over; once at the end of each loop turn. Cheap when the batch is empty. */
void audit_flush(struct audit_lane *lane);
/* Calls `done` of the tickets that are decided. */
void audit_collect(struct audit_lane *lane);
