/* Commands in the form of RESP: an array of bulk strings. */
#pragma once

#include "text.h"

/* Appends "*<count>": `count` arguments must follow. */
void command_begin(struct buffer *out, size_t count);
void command_argument(struct buffer *out, struct text argument);
/* The whole command. */
void command_append(struct buffer *out, const struct text *arguments, size_t count);
