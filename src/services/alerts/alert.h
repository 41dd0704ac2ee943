/* Private to alerts: the forms of an alert in memory, for the receiver, and in the audit. Pure. */
#pragma once

#include "alerts.h"

#define ALERT_ID 38 /* "alert_" and 32 hexadecimal digits */

/* An alert as it travels: `alert.count` is at least 1. */
struct raised_alert {
    struct alert alert;
    int64_t wall_ms;
};

/* Append an alert to `out` in one piece, texts cut at 512 bytes; and read it back with borrowed
 * texts. Both return the length of the piece. */
size_t alert_pack(struct buffer *out, const struct raised_alert *raised);
size_t alert_unpack(const char *data, struct raised_alert *ret);

/* The subject of an alert; returns the number of its parts. Alerts of equal kind and subject are
 * repetitions. */
enum { ALERT_SUBJECT_PARTS = 2 };
size_t alert_subject(const struct alert *alert, struct text parts[ALERT_SUBJECT_PARTS]);

void alert_make_id(char out[ALERT_ID]);
/* Appends the body of the POST. `lost`: alerts dropped since the previous one. */
void alert_print(struct buffer *out, const struct raised_alert *raised, struct text id,
                 struct text node, int64_t lost);
/* Appends an open audit line. */
void alert_record(struct buffer *line, const struct raised_alert *raised, struct text id);
