/* libmicrohttpd's callbacks: the life of a request from its request line to its end. */
#pragma once

#include "worker.h"

/* So long a request lingers before its connection is suspended, and so many may on one worker:
 * libmicrohttpd asks for each of them in every round. */
enum { LINGER_MS = 20, LINGER_TICK_MS = 2, MOST_LINGERING = 256 };

/* MHD_OPTION_URI_LOG_CALLBACK: the request line is there, the request begins. */
void *dispatch_line(void *worker, const char *target, struct MHD_Connection *connection);
/* The access handler. */
enum MHD_Result dispatch_call(void *worker, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **context);
/* MHD_OPTION_NOTIFY_COMPLETED: the request ends, answered or not. */
void dispatch_completed(void *worker, struct MHD_Connection *connection, void **context,
                        enum MHD_RequestTerminationCode code);
