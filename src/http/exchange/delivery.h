/* Hands answers to libmicrohttpd, or sends them without it (raw_response.h). */
#pragma once

#include "request_private.h"

/* The answer may leave: when libmicrohttpd's call returns, at once, or by resuming the connection.
 */
void delivery_release(struct request *request);
/* Hands the answer to libmicrohttpd; for the access handler to return. */
enum MHD_Result delivery_queue(struct request *request);
/* Sends a problem at once and without libmicrohttpd, for a request that the library has refused by
 * itself. The request is put on record when it ends. */
void delivery_refuse(struct request *request, enum err err, struct text detail);
