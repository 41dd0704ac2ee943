/* Short spellings for the runs of text that nearly every session repeats: member names of what is
 * shown, pieces of browsers' User-Agent. A byte 1..30 stands for an entry, byte 31 for the byte
 * behind it as it is; everything else stands for itself. It halves what a session costs in Redis.
 *
 * The entries are part of the record format (record.h, format 1): they may not change or move, and
 * a new one may only take a free place when every node that reads can read it. */
#pragma once

#include "memory.h"
#include "text.h"

/* Appends the short spelling of the text. Any bytes are allowed. */
void dictionary_pack(struct buffer *out, struct text text);

/* The text that was packed, in the arena. False if the bytes are no spelling, or would grow
 * beyond `most` bytes. An empty text unpacks to an absent one. */
bool dictionary_unpack(struct arena *arena, struct text packed, size_t most, struct text *ret);
