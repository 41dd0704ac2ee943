/* Private to alerts: what an alert looks like in memory, to the receiver, and in the audit. Pure.
 */
#pragma once

#include "alerts.h"

#define ALERT_ID 38 /* "alert_" and 32 hexadecimal digits */

/* An alert as it travels: `alert.count` is at least 1. */
struct raised_alert {
    struct alert alert;
    int64_t wall_ms;
};

/* Append it to `out` in one piece, texts cut at 512 bytes; and read it back: texts are borrowed.
 * Returns the length of the piece. */
size_t alert_pack(struct buffer *out, const struct raised_alert *raised);
size_t alert_unpack(const char *data, struct raised_alert *ret);

/* What an alert is about, as many parts as it returns: the same kind about the same is the same. */
enum { ALERT_SUBJECT_PARTS = 2 };
size_t alert_subject(const struct alert *alert, struct text parts[ALERT_SUBJECT_PARTS]);

void alert_make_id(char out[ALERT_ID]);
/* Appends the body of the POST. `lost`: alerts that were dropped since the one before. */
void alert_print(struct buffer *out, const struct raised_alert *raised, struct text id,
                 struct text node, int64_t lost);
/* Appends an open audit line. */
void alert_record(struct buffer *line, const struct raised_alert *raised, struct text id);
