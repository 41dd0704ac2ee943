/* Room for the head of an answer: its status line and headers. libmicrohttpd 0.9.75 keeps
 * everything about a connection's request in one piece of memory, its pool: the bytes that it read
 * at the front, a record of each header at the back. It builds the answer's head in the space
 * between them. If that is too small the library silently closes the connection, whatever the
 * handler has done. So the room is measured before, and an answer whose head may not fit is sent
 * without the library (raw_response.h).
 *
 * A mark makes it measurable. Before the headers are parsed, a Cookie header of our own is put in
 * front of them: the library copies the first Cookie header to the back of the pool, behind all
 * records. So it copies two bytes of ours and no secret, and reveals where the copy lies. */
#pragma once

#include <microhttpd.h>

#include "text.h"

/* Bytes that a pool for heads of this size must have. The library first ends its buffer at half of
 * it, which must be a multiple of the library's alignment. */
size_t header_room_pool_size(size_t head_memory);

/* Puts the mark; call when the request line was read. */
void header_room_mark(struct MHD_Connection *connection);
/* True for the mark among the headers. */
bool header_room_is_mark(const char *name);

/* The position of a request's head. */
struct header_room {
    const char *base; /* of the pool; NULL: unknown */
    size_t pool;      /* its size */
    size_t records;   /* bytes of it that records use, at the back */
    size_t late;      /* headers that begin in the second half */
    bool on_step;     /* a line ends at a possible end of the library's buffer */
};

/* Looks at the connection; call when its headers are complete. */
void header_room_begin(struct header_room *room, struct MHD_Connection *connection, size_t pool);
/* Notes the begin of a header's line; for each header. */
void header_room_note_line(struct header_room *room, const char *line);
/* Bytes from the pool's begin to the end of the head, with empty lines before it; 0: unknown. */
size_t header_room_head_length(const struct header_room *room, struct text head);
/* Bytes behind the head that a body can be read into, a part at a time; 0: unknown. */
size_t header_room_for_body(const struct header_room *room, struct text head);
/* Bytes that are certain for the head of an answer, whatever the client has sent behind this head.
 * Holds for requests without body or with a Content-Length: chunks and trailers may fill the pool.
 */
size_t header_room_for_answer(struct header_room *room, struct text head);
