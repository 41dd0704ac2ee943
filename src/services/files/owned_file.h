/* A file that belongs to one process (file_locks.h): regular, mode 0600. Functions that return
 * false or -1 leave the cause in errno unless stated otherwise. All of them block. */
#pragma once

#include <sys/types.h>

#include "text.h"

/* Names the file in messages: "<kind> file <path> ". */
struct owned_file_name {
    const char *kind, *path;
};

/* Opens the file for reading and appending, after making sure that it is regular and private; *size
 * is its length. -1 with *error on failure; -1 without *error, and *size -1, if there is no such
 * file. */
int owned_file_open(struct owned_file_name name, int64_t *size, struct buffer *error);
/* Creates the file; removes any other file of this name first. */
int owned_file_create(const char *path);
/* True for names of a descriptor of this process, like /dev/stdout. The file behind it can only be
 * renamed or locked by its own name. */
bool owned_file_is_descriptor(const char *path);
/* False if the file was removed from its path, moved or replaced. */
bool owned_file_is_named(int fd, const char *path);

/* Syncs the directory, so that the file's name is durable. */
bool owned_file_sync_name(const char *path);
/* For names of files put aside: YYYYMMDDTHHMMSSZ and a NUL. */
#define OWNED_FILE_STAMP 17
void owned_file_stamp(char out[OWNED_FILE_STAMP], int64_t wall_ms);

/* Appends; *done is the number of bytes written, fewer than asked after a failure. */
bool owned_file_write(int fd, struct text bytes, size_t *done);
/* Reads up to `length` bytes at `offset`, fewer only at the end of the file. */
ssize_t owned_file_read(int fd, char *out, size_t length, int64_t offset);

/* Append a message about the file, the latter with the description of errno. Always false. */
bool owned_file_explain(struct buffer *error, struct owned_file_name name, const char *what);
bool owned_file_explain_errno(struct buffer *error, struct owned_file_name name, const char *what);
