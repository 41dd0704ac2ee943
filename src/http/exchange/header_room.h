/* Room for the head of an answer. libmicrohttpd 0.9.75 keeps everything about a connection's
 * request in one piece of memory, its pool: from the front what it read, from the back a record of
 * each header. The answer's head is built in what is left between them. If it does not fit, the
 * library closes the connection without a word, whatever the handler has done. So the room is
 * measured before, and an answer whose head may not fit is sent by hand (response.c).
 *
 * Measured by a mark. Before the headers are parsed, a Cookie header of our own is put in front of
 * them: the library copies the first Cookie header to the back of the pool, behind all records. So
 * it copies two bytes of ours and no secret, and tells where the copy lies. */
#pragma once

#include <microhttpd.h>

#include "text.h"

/* Bytes that a pool for heads of this size must have: its half is where the library first ends its
 * buffer, so it must be a multiple of the library's alignment. */
size_t header_room_pool_size(size_t head_memory);

/* Puts the mark; call when the request line is there. */
void header_room_mark(struct MHD_Connection *connection);
/* True for the mark among the headers. */
bool header_room_is_mark(const char *name);

/* Where a head lies. */
struct header_room {
    const char *base; /* of the pool; NULL: could not be told */
    size_t pool;      /* its size */
    size_t records;   /* of it, taken from the back */
    size_t late;      /* headers that begin in the second half */
    bool on_step;     /* a line ends where the library's buffer may have ended */
};

/* Looks at the connection; call when its headers are complete. */
void header_room_begin(struct header_room *room, struct MHD_Connection *connection, size_t pool);
/* Takes the begin of a header's line, for each header. */
void header_room_note_line(struct header_room *room, const char *line);
/* Bytes from the pool's begin to the end of the head, empty lines before it included; 0 if it could
 * not be told. */
size_t header_room_head_length(const struct header_room *room, struct text head);
/* Bytes behind the head that a body can be read into, a part at a time; 0 if it could not be told.
 */
size_t header_room_for_body(const struct header_room *room, struct text head);
/* Bytes that the head of an answer has for certain, whatever the client has sent behind this head.
 * Holds for requests without body or with a Content-Length: chunks and trailers may fill the pool.
 */
size_t header_room_for_answer(struct header_room *room, struct text head);
