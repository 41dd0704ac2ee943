/* The journal's file on disk: append, sync, write anew. What it does at start, when it reads what
 * is there, is in journal_scan.c. */
#include "journal_file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "directory.h"
#include "memory.h"
#include "owned_file.h"

enum { CHUNK = 262144 };

static const char fresh_suffix[] = ".new";

void journal_file_init(struct journal_file *file, const char *path, struct keyring *keyring)
{
    *file = (struct journal_file){
        .path = xstrdup(path), .seal.keyring = keyring_ref(keyring), .fd = -1};
}

void journal_file_fini(struct journal_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    keyring_unref(&file->seal.keyring);
    buffer_free(&file->out);
    *file = (struct journal_file){.fd = -1};
}

/* --- appending --- */

bool journal_file_write(struct journal_file *file)
{
    size_t done;
    bool whole = owned_file_write(file->fd, buffer_text(&file->out), &done);
    file->size += (int64_t)done;
    file->out.length = 0;
    return whole;
}

bool journal_file_add(struct journal_file *file, struct text records)
{
    size_t at = file->out.length;
    buffer_add_text(&file->out, records);
    while (at < file->out.length) {
        char *record = file->out.data + at;
        journal_record_seal(&file->seal, file->size + (int64_t)at, record);
        at += journal_record_length(record);
    }
    assert(at == file->out.length);
    return file->out.length < CHUNK || journal_file_write(file);
}

bool journal_file_sync(struct journal_file *file)
{
    return fdatasync(file->fd) == 0;
}

bool journal_file_is_named(const struct journal_file *file)
{
    return owned_file_is_named(file->fd, file->path);
}

/* --- writing anew --- */

static char *fresh_path(const char *path)
{
    struct buffer fresh = {0};
    buffer_addf(&fresh, "%s%s", path, fresh_suffix);
    char *copy = xstrndup(fresh.data, fresh.length);
    buffer_free(&fresh);
    return copy;
}

bool journal_file_begin(const struct journal_file *file, uint64_t next_number,
                        struct journal_file *fresh)
{
    struct journal_head head = {.next_number = next_number};
    uint8_t bytes[JOURNAL_HEAD];
    char *path = fresh_path(file->path);
    journal_file_init(fresh, path, file->seal.keyring);
    free(path);
    /* Under a name of its own, so that a crash leaves the old file or the new one, both whole. */
    fresh->fd = owned_file_create(fresh->path);
    if (fresh->fd < 0) {
        int saved = errno;
        journal_file_abandon(fresh);
        errno = saved;
        return false;
    }
    crypto_random(head.nonce, sizeof(head.nonce));
    memcpy(fresh->seal.nonce, head.nonce, sizeof(head.nonce));
    journal_head_write(bytes, &head, fresh->seal.keyring);
    buffer_add(&fresh->out, bytes, sizeof(bytes));
    return true;
}

void journal_file_abandon(struct journal_file *fresh)
{
    if (fresh->fd >= 0)
        unlink(fresh->path); /* what it took of a full disk is given back */
    journal_file_fini(fresh);
}

/* Takes over the open file; the rest of `fresh` is freed. */
static void replace(struct journal_file *file, struct journal_file *fresh)
{
    int old = file->fd;
    file->fd = fresh->fd;
    file->size = fresh->size;
    file->out.length = 0;
    memcpy(file->seal.nonce, fresh->seal.nonce, JOURNAL_NONCE);
    fresh->fd = old;
    journal_file_fini(fresh);
}

bool journal_file_commit(struct journal_file *file, struct journal_file *fresh)
{
    if (!journal_file_write(fresh) || !journal_file_sync(fresh) ||
        rename(fresh->path, file->path) != 0) {
        int saved = errno;
        journal_file_abandon(fresh);
        errno = saved;
        return false;
    }
    replace(file, fresh);
    return true;
}

bool journal_file_sync_name(const struct journal_file *file)
{
    return directory_sync_of(file->path);
}
