/* Private to the audit service: the parts of a line that the audit thread writes itself. */
#pragma once

#include "audit.h"

struct audit_number {
    const char *name; /* a literal that needs no escaping */
    int64_t value;
};

/* What the thread puts on record about the file. */
struct audit_notice {
    enum audit_event event;
    int64_t wall_ms;
    bool failed;
    struct text file; /* file.path, absent if it is not about another file */
    const struct audit_number *numbers;
    size_t number_count;
};

/* Appends a notice as an open line, like audit_format(). */
void audit_format_notice(struct buffer *line, const struct audit_notice *notice);

/* Appends a time like 2026-11-22T09:35:09.123Z. */
void audit_format_time(struct buffer *out, int64_t wall_ms);

/* Name of the member that carries the number of a line. No text can contain it, since quotes in
 * texts are escaped. */
#define AUDIT_SEQUENCE_MEMBER "\"event.sequence\":"

/* The end of every line is this prefix, made once for a node, then the sequence number, brace and
 * newline. */
void audit_format_tail_prefix(struct buffer *prefix, struct text node);
void audit_format_tail(struct buffer *line, const struct buffer *prefix, int64_t sequence);
