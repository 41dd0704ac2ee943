/* A file that one process has to itself: regular, mode 0600, locked (flock) while it is open, so
 * that a second process on it is refused. Functions that return false or -1 leave the cause in
 * errno, unless told otherwise. All of them block. */
#pragma once

#include <sys/types.h>

#include "text.h"

/* What a message begins with: "<kind> file <path> ". */
struct owned_file_name {
    const char *kind, *path;
};

/* Opens the file if it is there, for reading and appending, and makes sure that it is ours; *size
 * tells its length. -1 with *error; or without, and *size is -1, if there is no such file. */
int owned_file_open(struct owned_file_name name, int64_t *size, struct buffer *error);
/* Makes the file anew, in the place of whatever has its name. It is locked before anybody can find
 * it under another name. */
int owned_file_create(const char *path);
/* False if the file is not at its path any more: removed, moved or replaced. */
bool owned_file_is_named(int fd, const char *path);

/* Appends; *done tells how many bytes are in the file, fewer than asked after a failure. */
bool owned_file_write(int fd, struct text bytes, size_t *done);
/* Reads up to `length` bytes at `offset`, fewer only at the end of the file. */
ssize_t owned_file_read(int fd, char *out, size_t length, int64_t offset);

/* Append a message about the file, the latter with the words of errno. Always false. */
bool owned_file_explain(struct buffer *error, struct owned_file_name name, const char *what);
bool owned_file_explain_errno(struct buffer *error, struct owned_file_name name, const char *what);
