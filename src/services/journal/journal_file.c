/* The journal's file on disk: its header and its sealed records. */
#include "journal_file.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

void journal_file_init(struct journal_file *file, const char *path, struct keyring *keyring)
{
    record_file_init(&file->records, path);
    file->seal = (struct journal_seal){.keyring = keyring_ref(keyring)};
}

void journal_file_fini(struct journal_file *file)
{
    record_file_fini(&file->records);
    keyring_unref(&file->seal.keyring);
}

bool journal_file_add(struct journal_file *file, struct text records)
{
    struct buffer *out = &file->records.out;
    size_t at = out->length;
    buffer_add_text(out, records);
    while (at < out->length) {
        char *record = out->data + at;
        journal_record_seal(&file->seal, file->records.size + (int64_t)at, record);
        at += journal_record_length(record);
    }
    assert(at == out->length);
    return record_file_spill(&file->records);
}

/* --- rewriting --- */

bool journal_file_begin(const struct journal_file *file, uint64_t next_number,
                        struct journal_file *fresh)
{
    struct journal_head head = {.next_number = next_number};
    uint8_t bytes[JOURNAL_HEAD];
    if (!record_file_begin(&file->records, &fresh->records))
        return false;
    crypto_random(head.nonce, sizeof(head.nonce));
    fresh->seal.keyring = keyring_ref(file->seal.keyring);
    memcpy(fresh->seal.nonce, head.nonce, sizeof(head.nonce));
    journal_head_write(bytes, &head, fresh->seal.keyring);
    buffer_add(&fresh->records.out, bytes, sizeof(bytes));
    return true;
}

void journal_file_abandon(struct journal_file *fresh)
{
    record_file_abandon(&fresh->records);
    keyring_unref(&fresh->seal.keyring);
}

bool journal_file_commit(struct journal_file *file, struct journal_file *fresh)
{
    bool committed = record_file_commit(&file->records, &fresh->records);
    if (committed)
        memcpy(file->seal.nonce, fresh->seal.nonce, JOURNAL_NONCE);
    keyring_unref(&fresh->seal.keyring);
    return committed;
}

/* --- at start --- */

static struct owned_file_name journal_name(const struct journal_file *file)
{
    return (struct owned_file_name){"journal", file->records.path};
}

struct reading {
    const struct journal_seal *seal;
    void (*visit)(void *, const struct journal_record *);
    void *user;
};

static enum record_reading take_record(void *user, int64_t position, struct text bytes,
                                       size_t *length)
{
    const struct reading *reading = user;
    struct journal_record record;
    enum record_reading found = journal_record_read(reading->seal, position, bytes, &record);
    if (found != RECORD_GOOD)
        return found;
    reading->visit(reading->user, &record);
    *length = journal_record_length(bytes.data);
    return found;
}

static bool read_journal_head(struct journal_file *file, uint64_t *next_number,
                              struct buffer *error)
{
    static const char *const complaints[] = {
        [JOURNAL_HEAD_BAD] = "is not a journal of sessiond, or its head is damaged; nothing of it "
                             "was read: move it away to start without its revocations",
        [JOURNAL_HEAD_NEWER] = "was written by another version of sessiond: start that one, or "
                               "move the file away to start without its revocations",
        [JOURNAL_HEAD_FOREIGN] =
            "was written under another names secret: start with the key file that it belongs to, "
            "or move the file away to start without its revocations",
    };
    uint8_t bytes[JOURNAL_HEAD];
    struct journal_head head;
    ssize_t count = owned_file_read(file->records.fd, (char *)bytes, sizeof(bytes), 0);
    if (count < 0)
        return owned_file_explain_errno(error, journal_name(file), "cannot be read");
    enum journal_head_reading reading = JOURNAL_HEAD_BAD;
    if (count == JOURNAL_HEAD)
        reading = journal_head_read(bytes, file->seal.keyring, &head);
    if (reading != JOURNAL_HEAD_GOOD)
        return owned_file_explain(error, journal_name(file), complaints[reading]);
    *next_number = head.next_number;
    memcpy(file->seal.nonce, head.nonce, JOURNAL_NONCE);
    return true;
}

static bool start_new(struct journal_file *file, struct journal_file_scan *scan,
                      struct buffer *error)
{
    struct journal_file fresh;
    *scan = (struct journal_file_scan){.next_number = 1, .records.end = JOURNAL_HEAD};
    file->records.size = 0;
    return (journal_file_begin(file, 1, &fresh) && journal_file_commit(file, &fresh) &&
            record_file_sync_name(&file->records)) ||
           owned_file_explain_errno(error, journal_name(file), "cannot be written");
}

bool journal_file_open(struct journal_file *file,
                       void (*visit)(void *, const struct journal_record *), void *user,
                       struct journal_file_scan *scan, struct buffer *error)
{
    struct record_file *records = &file->records;
    struct reading reading = {&file->seal, visit, user};
    const struct record_reader reader = {JOURNAL_RECORD_MAX, take_record, &reading};
    *scan = (struct journal_file_scan){0};
    records->fd = owned_file_open(journal_name(file), &records->size, error);
    if (records->fd < 0)
        return records->size < 0 && start_new(file, scan, error);
    if (records->size == 0) { /* made by another program: this code never leaves an empty one */
        log_warning("journal_empty", "file=%s", records->path);
        return start_new(file, scan, error);
    }
    if (!read_journal_head(file, &scan->next_number, error))
        return false;
    if (!record_file_scan(records, JOURNAL_HEAD, &reader, &scan->records))
        return owned_file_explain_errno(error, journal_name(file), "cannot be read");
    return record_file_mend(records, "journal", &scan->records, &scan->aside, error);
}
