/* Answers for which libmicrohttpd has no room (header_room.h), or that it would spoil: written to
 * the socket by us, whole, with "Connection: close". What the kernel does not take at once is lost:
 * its buffer is empty but for a client that does not read, and is made as large as the answer. */
#pragma once

#include "request_private.h"

/* Bytes that the head of the request's answer takes where libmicrohttpd builds it, at most. The
 * response is there, with its headers. */
size_t raw_response_headers_size(const struct request *request);
/* Sends head and body. The connection is to be closed then: MHD_NO, for the access handler. */
enum MHD_Result raw_response_send(struct request *request);
