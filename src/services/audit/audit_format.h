/* Private to the audit service: the parts of a line that its thread writes. */
#pragma once

#include "audit.h"

/* Appends a time like 2026-11-22T09:35:09.123Z. */
void audit_format_time(struct buffer *out, int64_t wall_ms);

/* The member with the number of a line. No text can contain it, since quotes in texts are escaped.
 */
#define AUDIT_SEQUENCE_MEMBER "\"event.sequence\":"
/* The member with its time, the first one. */
#define AUDIT_TIME_MEMBER "{\"@timestamp\":\""
/* The member of a line that was written while the clock was doubted. */
#define AUDIT_CLOCK_MEMBER "\"sessiond.clock\":"

/* Every line ends with this prefix, made once for a node, the sequence number, brace and newline.
 */
void audit_format_tail_prefix(struct buffer *prefix, struct text node);
void audit_format_tail(struct buffer *line, const struct buffer *prefix, int64_t sequence);
/* Appends the member for a doubted clock; before the tail. */
void audit_format_doubt(struct buffer *line);
