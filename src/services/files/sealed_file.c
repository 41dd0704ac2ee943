/* Files of sealed chunks, written whole or not at all, read up to the first damage. */
#include "sealed_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "clock.h"
#include "metrics.h"
#include "record_file.h"

enum {
    MAGIC = 8,
    HEAD = 32,
    HEAD_VERSION = 8,
    HEAD_KEY = 9,
    HEAD_RANDOM = 16,
    FRAME = 4,
    BINDING = HEAD + 4 + FRAME
};

static const uint32_t last_bit = UINT32_C(1) << 31;

/* One file, written or read. */
struct sealed_file {
    const struct sealed_kind *kind;
    const struct keyring *keyring;
    uint8_t head[HEAD];
    uint32_t number;     /* of the current chunk */
    struct buffer plain; /* its entries */
};

static void bind(const struct sealed_file *file, const uint8_t frame[FRAME], uint8_t out[BINDING])
{
    memcpy(out, file->head, HEAD);
    bytes_put(out + HEAD, file->number, sizeof(file->number));
    memcpy(out + HEAD + sizeof(file->number), frame, FRAME);
}

static struct text text_of_bytes(const void *data, size_t length)
{
    return (struct text){data, length};
}

/* --- writing --- */

struct sealed_writer {
    struct sealed_file file;
    struct record_file fresh;
    int error; /* errno of the first failure; nothing is written after it */
};

static void add_sealed_head(struct sealed_writer *writer)
{
    uint8_t *head = writer->file.head;
    assert(strlen(writer->file.kind->magic) == MAGIC);
    memcpy(head, writer->file.kind->magic, MAGIC);
    head[HEAD_VERSION] = writer->file.kind->version;
    head[HEAD_KEY] = keyring_newest(writer->file.keyring);
    crypto_random(head + HEAD_RANDOM, HEAD - HEAD_RANDOM);
    buffer_add(&writer->fresh.out, head, HEAD);
}

static void seal_chunk(struct sealed_writer *writer, bool last)
{
    struct sealed_file *file = &writer->file;
    size_t length = file->plain.length + CRYPTO_SEAL_OVERHEAD;
    uint8_t frame[FRAME], binding[BINDING];
    bytes_put(frame, length | (last ? last_bit : 0), FRAME);
    bind(file, frame, binding);
    struct buffer *to = &writer->fresh.out;
    assert(writer->error == 0 && file->plain.length <= SEALED_CHUNK);
    buffer_add(to, frame, FRAME);
    char *out = buffer_reserve(to, length);
    bool sealed = crypto_seal(file->keyring, file->head[HEAD_KEY], file->kind->subject,
                              text_of_bytes(binding, BINDING), buffer_text(&file->plain), out);
    assert(sealed); /* with the newest key of the ring */
    (void)sealed;
    to->length += length;
    writer->error = record_file_spill(&writer->fresh) ? 0 : errno;
    file->plain.length = 0;
    file->number++;
}

struct buffer *sealed_file_entry(struct sealed_writer *writer, size_t length)
{
    struct buffer *plain = &writer->file.plain;
    assert(length <= SEALED_CHUNK);
    if (writer->error == 0 && plain->length + length > SEALED_CHUNK)
        seal_chunk(writer, false);
    return writer->error == 0 ? plain : NULL;
}

/* Returns errno. */
static int write_sealed(struct sealed_writer *writer, struct record_file *present,
                        void (*fill)(void *user, struct sealed_writer *writer), void *user)
{
    if (!record_file_begin(present, &writer->fresh))
        return errno;
    buffer_reserve(&writer->file.plain, SEALED_CHUNK);
    add_sealed_head(writer);
    fill(user, writer);
    if (writer->error == 0)
        seal_chunk(writer, true);
    if (writer->error != 0) {
        record_file_abandon(&writer->fresh);
        return writer->error;
    }
    bool written = record_file_commit(present, &writer->fresh) && record_file_sync_name(present);
    return written ? 0 : errno;
}

bool sealed_file_save(const struct sealed_kind *kind, const struct keyring *keyring,
                      const char *path, void (*fill)(void *user, struct sealed_writer *writer),
                      void *user, struct buffer *error)
{
    struct sealed_writer writer = {.file = {.kind = kind, .keyring = keyring}};
    struct record_file present;
    record_file_init(&present, path);
    int cause = write_sealed(&writer, &present, fill, user);
    record_file_fini(&present);
    buffer_free(&writer.file.plain);
    if (cause != 0)
        buffer_addf(error, "snapshot %s cannot be written: %s", path, strerrordesc_np(cause));
    metrics_add(cause == 0 ? METRIC_SNAPSHOT_SAVES : METRIC_SNAPSHOT_ERRORS, 1);
    return cause == 0;
}

/* --- reading --- */

struct reader {
    struct sealed_file file;
    int fd;
    int64_t at;
    struct buffer sealed; /* the current chunk */
    bool (*take)(void *user, struct text entries);
    void *user;
    bool last;
    const char *path;
    struct buffer *error;
};

static bool __attribute__((format(printf, 2, 3)))
refuse_snapshot(struct reader *reader, const char *format, ...)
{
    char why[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    buffer_addf(reader->error, "snapshot %s %s", reader->path, why);
    return false;
}

static bool refuse_damaged(struct reader *reader)
{
    return refuse_snapshot(reader, "is damaged or of another installation, at chunk %u",
                           reader->file.number);
}

/* Reads so many bytes, or fewer at the end of the file. False if reading fails. */
static bool read_some(struct reader *reader, void *out, size_t length, size_t *ret)
{
    ssize_t count = owned_file_read(reader->fd, out, length, reader->at);
    if (count < 0)
        return refuse_snapshot(reader, "cannot be read: %s", strerrordesc_np(errno));
    reader->at += count;
    *ret = (size_t)count;
    return true;
}

static bool read_exactly(struct reader *reader, void *out, size_t length)
{
    size_t count = 0;
    if (!read_some(reader, out, length, &count))
        return false;
    return count == length ||
           refuse_snapshot(reader, "is cut off in chunk %u", reader->file.number);
}

static bool read_sealed_head(struct reader *reader)
{
    const struct sealed_kind *kind = reader->file.kind;
    uint8_t *head = reader->file.head;
    size_t count = 0;
    if (!read_some(reader, head, HEAD, &count))
        return false;
    if (count < HEAD || memcmp(head, kind->magic, MAGIC) != 0)
        return refuse_snapshot(reader, "is not a snapshot of %s", kind->of);
    if (head[HEAD_VERSION] != kind->version)
        return refuse_snapshot(reader, "is of the unknown version %u", head[HEAD_VERSION]);
    if (!keyring_has(reader->file.keyring, head[HEAD_KEY]))
        return refuse_snapshot(reader, "is sealed with key %u, which the keyring does not have",
                               head[HEAD_KEY]);
    return true;
}

/* Reads and opens a chunk into `plain`. */
static bool read_chunk(struct reader *reader)
{
    struct sealed_file *file = &reader->file;
    uint8_t frame[FRAME];
    if (!read_exactly(reader, frame, FRAME))
        return false;
    uint32_t number = (uint32_t)bytes_get(frame, FRAME);
    size_t length = number & ~last_bit;
    if (length < CRYPTO_SEAL_OVERHEAD || length > SEALED_CHUNK + CRYPTO_SEAL_OVERHEAD)
        return refuse_damaged(reader);
    reader->sealed.length = 0;
    if (!read_exactly(reader, buffer_reserve(&reader->sealed, length), length))
        return false;
    uint8_t binding[BINDING];
    bind(file, frame, binding);
    file->plain.length = 0;
    char *out = buffer_reserve(&file->plain, SEALED_CHUNK);
    if (!crypto_open(file->keyring, file->head[HEAD_KEY], file->kind->subject,
                     text_of_bytes(binding, BINDING), text_of_bytes(reader->sealed.data, length),
                     out))
        return refuse_damaged(reader);
    file->plain.length = length - CRYPTO_SEAL_OVERHEAD;
    reader->last = (number & last_bit) != 0;
    return true;
}

static bool read_chunks(struct reader *reader)
{
    if (!read_sealed_head(reader))
        return false;
    while (!reader->last) {
        if (!read_chunk(reader))
            return false;
        if (!reader->take(reader->user, buffer_text(&reader->file.plain)))
            return refuse_damaged(reader);
        reader->file.number++;
    }
    char more;
    size_t count = 0;
    if (!read_some(reader, &more, 1, &count))
        return false;
    return count == 0 || refuse_snapshot(reader, "goes on behind its end");
}

static bool read_if_present(struct reader *reader)
{
    /* O_NONBLOCK is for pipes, which would block the start for ever. */
    reader->fd = open(reader->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (reader->fd < 0 && errno == ENOENT)
        return true;
    struct stat status;
    if (reader->fd < 0 || fstat(reader->fd, &status) != 0)
        return refuse_snapshot(reader, "cannot be read: %s", strerrordesc_np(errno));
    return S_ISREG(status.st_mode) ? read_chunks(reader)
                                   : refuse_snapshot(reader, "is not a regular file");
}

bool sealed_file_load(const struct sealed_kind *kind, const struct keyring *keyring,
                      const char *path, bool (*take)(void *user, struct text entries), void *user,
                      struct buffer *error)
{
    struct reader reader = {.file = {.kind = kind, .keyring = keyring},
                            .take = take,
                            .user = user,
                            .path = path,
                            .error = error};
    bool whole = read_if_present(&reader);
    if (reader.fd >= 0)
        close(reader.fd);
    buffer_free(&reader.file.plain);
    buffer_free(&reader.sealed);
    if (!whole)
        metrics_add(METRIC_SNAPSHOT_ERRORS, 1);
    return whole;
}

bool sealed_file_age_ms(int64_t then_wall_ms, int64_t *ret)
{
    if (__builtin_sub_overflow(clock_file_ms(), then_wall_ms, ret) || *ret < -SEALED_CLOCK_SLACK_MS)
        return false;
    if (*ret < 0)
        *ret = 0;
    return true;
}
