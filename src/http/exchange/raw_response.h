/* Answers for which libmicrohttpd has no room (header_room.h), or that it would spoil: we write
 * them to the socket, or to its TLS session, whole, with "Connection: close". Bytes that the kernel
 * does not accept at once are lost: its buffer is made as large as the answer, and is empty unless
 * the client does not read.
 */
#pragma once

#include "request_private.h"

/* The most bytes that libmicrohttpd needs to build the headers of the answer. The response exists
 * already, with its headers. */
size_t raw_response_headers_size(const struct request *request);
/* Sends headers and body. Returns MHD_NO, for the access handler: the connection is to be closed.
 */
enum MHD_Result raw_response_send(struct request *request);
