/* A file that one process has to itself (file_locks.h): regular, mode 0600. Functions that return
 * false or -1 leave the cause in errno, unless told otherwise. All of them block. */
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
/* Makes the file anew, in the place of whatever has its name. */
int owned_file_create(const char *path);
/* True for names of a descriptor of this process, like /dev/stdout: what is behind them has another
 * name, under which alone it can be renamed or locked. */
bool owned_file_is_descriptor(const char *path);
/* False if the file is not at its path any more: removed, moved or replaced. */
bool owned_file_is_named(int fd, const char *path);

/* Syncs the directory, so that the file's name is durable. */
bool owned_file_sync_name(const char *path);
/* For the name of a file that is put aside: YYYYMMDDTHHMMSSZ and a NUL. */
#define OWNED_FILE_STAMP 17
void owned_file_stamp(char out[OWNED_FILE_STAMP], int64_t wall_ms);

/* Appends; *done tells how many bytes are in the file, fewer than asked after a failure. */
bool owned_file_write(int fd, struct text bytes, size_t *done);
/* Reads up to `length` bytes at `offset`, fewer only at the end of the file. */
ssize_t owned_file_read(int fd, char *out, size_t length, int64_t offset);

/* Append a message about the file, the latter with the words of errno. Always false. */
bool owned_file_explain(struct buffer *error, struct owned_file_name name, const char *what);
bool owned_file_explain_errno(struct buffer *error, struct owned_file_name name, const char *what);
