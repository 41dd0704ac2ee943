/* Puts every request on record: one audit line and one count each, made with its answer. */
#pragma once

#include "request_private.h"

/* Writes the line of an answered request and releases the answer: at once, or when the line is on
 * disk (events that change something), or when a full queue has room for it. */
void access_log_record(struct request *request);
/* Writes the line of a request that ended without an answer of ours. */
void access_log_record_unanswered(struct request *request, unsigned status);
/* Retries the requests that wait for room in the queue. */
void access_log_retry(struct worker *worker);
