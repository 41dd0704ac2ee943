/* Files with secrets: what only their owner may read. */
#pragma once

#include "text.h"

/* Opens the file that `option` names for reading. -1 with *error, one line that names option and
 * file, if it cannot be opened, is no regular file, or others than its owner may use it. */
int private_file_open(const char *option, const char *path, struct buffer *error);
/* Appends that line: what is wrong with the file of an option. Always false. */
bool private_file_refuse(struct buffer *error, const char *option, const char *path,
                         const char *why);

/* Reads the first line of such a file, a secret, into `out` (wipe it afterwards); *ret lies in it.
 * False with *error if the file is no good, empty, or longer than the room. */
bool private_file_read_line(const char *option, const char *path, char *out, size_t size,
                            struct text *ret, struct buffer *error);
