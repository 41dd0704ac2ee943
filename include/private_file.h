/* Files with secrets: keys, passwords, the secret that signs alerts. One rule for all of them.
 *
 * Path. A value with a slash in it is a path. One without is the name of a systemd credential: a
 * file in $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=).
 *
 * Access. The service's user or root owns the file; no one else has any access. One
 * exception: its group may read it if root owns it, or if it is a credential: systemd grants those
 * by an ACL, which stat(2) shows as rights of the group. */
#pragma once

#include "text.h"

/* Room for a path, its NUL included. */
enum { PRIVATE_FILE_PATH = 4096 };

/* The path of an option's file. False with *error, one line that names option and value, if the
 * value names a credential and the service has none, or if it is too long. */
bool private_file_find(const char *option, const char *value, char path[PRIVATE_FILE_PATH],
                       struct buffer *error);
/* True if an option's value names a credential, not a path. */
bool private_file_is_credential(const char *value);

/* Opens the secret file that the option names for reading. -1 with *error, one line that names
 * option and path, if there is none, or it breaks the rule: with the mode found and those that are
 * allowed. Does not wait for the writer of a FIFO. */
int private_file_open(const char *option, const char *value, struct buffer *error);
/* Appends such a line about the file of an option. Always false. */
bool private_file_refuse(struct buffer *error, const char *option, const char *path,
                         const char *why);

/* Reads such a file whole, without a byte order mark, into `out` (wipe it afterwards) and sets
 * *length. False with *error if the file breaks the rule or is larger than `size`. */
bool private_file_read(const char *option, const char *value, char *out, size_t size,
                       size_t *length, struct buffer *error);
/* Reads the first line of such a file; *ret lies in `out`. False with *error if the file breaks the
 * rule, is empty, or does not fit with a NUL. */
bool private_file_read_line(const char *option, const char *value, char *out, size_t size,
                            struct text *ret, struct buffer *error);
