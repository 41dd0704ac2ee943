/* From what a handler said to what libmicrohttpd sends. */
#pragma once

#include "request_private.h"

/* Writes a problem+json body for `err` into the answer, with the headers that go with it, in place
 * of whatever is there. */
void response_problem(struct request *request, enum err err, struct text detail,
                      struct text members);
/* Sends a problem at once and by hand, for a request that libmicrohttpd has refused by itself. It
 * is on record when the request ends. */
void response_past_library(struct request *request, enum err err, struct text detail);
/* The answer may leave: when libmicrohttpd's call returns, at once, or by resuming the connection.
 */
void response_release(struct request *request);
/* Hands the answer to libmicrohttpd. */
enum MHD_Result response_queue(struct request *request);
/* The answer is through, or nobody waits for it any more. */
void response_forget(struct request *request);
