#include "support_journal.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"
#include "support_keys.h"

struct journal_rig rig;

void rig_set_up(void)
{
    snprintf(rig.directory, sizeof(rig.directory), "/tmp/check_journal.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(rig.directory));
    snprintf(rig.path, sizeof(rig.path), "%s/journal", rig.directory);
    rig.conf.journal_file = rig.path;
    rig.conf.journal_max_bytes = 67108864;
    rig.keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
}

void rig_tear_down(void)
{
    DIR *directory = opendir(rig.directory);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
    rmdir(rig.directory);
    arena_free(&rig.arena);
    keyring_unref(&rig.keyring);
}

void rig_start(void)
{
    struct buffer error = {0};
    rig.journal = journal_open(&rig.conf, rig.keyring, &error);
    ck_assert_msg(rig.journal != NULL, "%.*s", (int)error.length, error.data);
    rig.writer = journal_writer_create(rig.journal, NULL, NULL);
}

const char *rig_start_refused(void)
{
    struct buffer error = {0};
    ck_assert_ptr_null(journal_open(&rig.conf, rig.keyring, &error));
    struct text text = arena_copy(&rig.arena, buffer_text(&error));
    buffer_free(&error);
    ck_assert_ptr_nonnull(text.data);
    return text.data;
}

void rig_stop(void)
{
    journal_writer_destroy(&rig.writer);
    journal_close(&rig.journal);
    ck_assert_ptr_null(rig.writer);
    ck_assert_ptr_null(rig.journal);
}

static void put(uint8_t *out, unsigned number)
{
    for (int i = 3; i >= 0; i--, number >>= 8)
        out[i] = (uint8_t)number;
}

static struct revocation revocation_of(unsigned owner, enum revocation_kind kind)
{
    struct revocation revocation = {.kind = kind,
                                    .at_ms = clock_wall_ms(),
                                    .forget_s = clock_wall_ms() / 1000 + 3600,
                                    .reason = TEXT("kicked"),
                                    .actor = TEXT("alice")};
    put(revocation.owner + 6, owner);
    return revocation;
}

struct revocation rig_session(unsigned owner, unsigned session)
{
    struct revocation revocation = revocation_of(owner, REVOKE_SESSION);
    put(revocation.session, session);
    return revocation;
}

struct revocation rig_before(unsigned owner, int64_t before_ms)
{
    struct revocation revocation = revocation_of(owner, REVOKE_BEFORE);
    revocation.before_ms = before_ms;
    return revocation;
}

struct revocation rig_before_but(unsigned owner, int64_t before_ms, unsigned exempt)
{
    struct revocation revocation = rig_before(owner, before_ms);
    revocation.has_exempt = true;
    put(revocation.session, exempt);
    return revocation;
}

static void note_decision(struct journal_ticket *ticket, bool written)
{
    *(written ? &rig.written : &rig.refused) += 1;
    free(ticket);
}

struct journal_ticket *rig_ticket(void)
{
    struct journal_ticket *ticket = calloc(1, sizeof(*ticket));
    ck_assert_ptr_nonnull(ticket);
    ticket->done = note_decision;
    return ticket;
}

uint64_t rig_add(struct revocation revocation, bool durable)
{
    uint64_t number = 0;
    ck_assert(journal_add(rig.writer, &revocation, durable ? rig_ticket() : NULL, &number));
    ck_assert_uint_gt(number, 0);
    return number;
}

uint64_t rig_write(struct revocation revocation)
{
    int written = rig.written;
    uint64_t number = rig_add(revocation, true);
    rig_collect(written + rig.refused + 1);
    ck_assert_int_eq(rig.written, written + 1);
    return number;
}

void rig_collect(int tickets)
{
    double until = rig_seconds() + 10;
    journal_flush(rig.writer);
    while (rig.written + rig.refused < tickets && rig_seconds() < until) {
        journal_collect(rig.writer);
        rig_nap();
    }
    ck_assert_int_eq(rig.written + rig.refused, tickets);
}

bool rig_finds(unsigned owner, unsigned session, int64_t created_ms)
{
    struct revocation wanted = rig_session(owner, session);
    return journal_find(rig.journal, wanted.owner, wanted.session, created_ms, NULL, NULL);
}

struct journal_usage rig_usage(void)
{
    struct journal_usage usage;
    journal_usage(rig.journal, &usage);
    return usage;
}

void rig_assert_gauges(void)
{
    struct journal_usage usage = rig_usage();
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_RECORDS), (int64_t)usage.records);
    ck_assert_int_eq(metrics_read(METRIC_JOURNAL_UNSETTLED), (int64_t)usage.unsettled);
}

void rig_nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

double rig_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct buffer rig_read(const char *path)
{
    struct buffer bytes = {0};
    FILE *stream = fopen(path, "r");
    ck_assert_ptr_nonnull(stream);
    char chunk[65536];
    size_t count;
    while ((count = fread(chunk, 1, sizeof(chunk), stream)) > 0)
        buffer_add(&bytes, chunk, count);
    fclose(stream);
    return bytes;
}

void rig_overwrite(const char *path, const void *data, size_t length)
{
    FILE *stream = fopen(path, "w");
    ck_assert_ptr_nonnull(stream);
    ck_assert_uint_eq(fwrite(data, 1, length, stream), length);
    fclose(stream);
}

int rig_files(const char *part, char found[512])
{
    int count = 0;
    DIR *directory = opendir(rig.directory);
    const struct dirent *entry;
    ck_assert_ptr_nonnull(directory);
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.' || !strstr(entry->d_name, part))
            continue;
        count++;
        if (found)
            snprintf(found, 512, "%s/%s", rig.directory, entry->d_name);
    }
    closedir(directory);
    return count;
}
