/* Puts every request on record: one audit line and one count each, made when its answer is. */
#pragma once

#include "request_private.h"

/* Writes the line of an answered request and releases the answer: at once, or when the line is on
 * disk (events that change something), or when the full queue has taken it. */
void access_log_record(struct request *request);
/* Writes the line of a request that ended without an answer of ours. */
void access_log_record_unanswered(struct request *request, unsigned status);
/* Tries the requests that wait for the queue again. */
void access_log_retry(struct worker *worker);
