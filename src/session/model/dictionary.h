/* Short spellings for text that nearly every session repeats: member names of the session JSON,
 * pieces of browsers' User-Agent. They halve the size of a session in Redis. A byte 1..30 stands
 * for an entry, byte 31 for the next byte as it is; other bytes stand for themselves.
 *
 * The entries are part of the record format (record.h, format 1): they may not change or move. A
 * new one may only use a free number, once every node that reads can read it. */
#pragma once

#include "memory.h"
#include "text.h"

/* Appends the short spelling of the text. Any bytes are allowed. */
void dictionary_pack(struct buffer *out, struct text text);

/* Unpacks a text into the arena. False if the bytes are no spelling, or would unpack to more than
 * `most` bytes. An empty text unpacks to an absent one. */
bool dictionary_unpack(struct arena *arena, struct text packed, size_t most, struct text *ret);
