/* libmicrohttpd's callbacks: a request from its request line to its end. */
#pragma once

#include "http/server/worker.h"

/* A waiting request is polled for so long before its connection is suspended, and so many may be on
 * one worker: libmicrohttpd asks for each of them in every round. Suspending and resuming takes
 * three system calls: a validation that asks Redis costs 11 % more CPU that way (49 µs against 44,
 * the median of 11 paired rounds of 15,000 requests over 64 connections). So only a request that
 * takes long is suspended. */
enum { POLLED_MS = 20, POLL_TICK_MS = 2, MOST_POLLED = 256 };

/* MHD_OPTION_URI_LOG_CALLBACK: the request line was read, the request begins. */
void *dispatch_line(void *worker, const char *target, struct MHD_Connection *connection);
/* The access handler. */
enum MHD_Result dispatch_call(void *worker, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **context);
/* libmicrohttpd logs that it refuses a request with this status. If the headers are complete and
 * were not handed to the access handler (an unreadable Content-Length, no memory for the last
 * record) it would send the headers of its answer twice, or nothing: ours is sent instead, and the
 * connection is cut. The library does not say which request it is; there is one at most. */
void dispatch_refuse(struct worker *worker, unsigned status);
/* MHD_OPTION_NOTIFY_COMPLETED: the request ends, answered or not. */
void dispatch_completed(void *worker, struct MHD_Connection *connection, void **context,
                        enum MHD_RequestTerminationCode code);
