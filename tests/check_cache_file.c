/* The cache on disk: whole or refused, closed to others, old until new. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"

#include "support_cache.h"
#include "support_keys.h"
#include "support_run.h"

#define OTHER_KEY_1 "key 1 606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f\n"

enum { PLENTY = 64 << 20, HEAD = 32, HOUR_MS = 3600000, USERS = 1500, LENGTH = 200, CHUNKS = 16 };

static char directory[] = "/tmp/check_cache_file.XXXXXX";
static char path[64], new_path[80];
static struct cache *cache, *restarted;
static struct keyring *keyring;
static struct arena arena;
static struct buffer error;
static size_t loaded;

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/cache", directory);
    snprintf(new_path, sizeof(new_path), "%s.new", path);
    keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    cache = support_cache(PLENTY, 0);
    restarted = support_cache(PLENTY, 0);
}

/* Nothing but the file is left behind. */
static void tear_down(void)
{
    clock_fake(0);
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
    cache_destroy(&cache);
    cache_destroy(&restarted);
    keyring_unref(&keyring);
    arena_free(&arena);
    buffer_free(&error);
}

static void restart(void)
{
    cache_destroy(&restarted);
    restarted = support_cache(PLENTY, 0);
    error.length = 0;
}

static void save(void)
{
    bool saved = cache_save(cache, keyring, path, NULL, NULL, &error);
    ck_assert_msg(saved, "%.*s", (int)error.length, error.data);
}

static void load(size_t expected)
{
    bool whole = cache_load(restarted, keyring, path, HOUR_MS, &loaded, &error);
    ck_assert_msg(whole, "%.*s", (int)error.length, error.data);
    ck_assert_uint_eq(error.length, 0);
    ck_assert_uint_eq(loaded, expected);
    ck_assert_uint_eq(support_cache_usage(restarted).entries, expected);
}

/* Refused in a message that names the file and has this in it. */
static void assert_refuses(const char *why)
{
    int64_t errors = metrics_read(METRIC_SNAPSHOT_ERRORS);
    ck_assert(!cache_load(restarted, keyring, path, HOUR_MS, &loaded, &error));
    buffer_add_char(&error, '\0');
    ck_assert_msg(strstr(error.data, path) && strstr(error.data, why), "%s", error.data);
    ck_assert_int_eq(metrics_read(METRIC_SNAPSHOT_ERRORS), errors + 1);
    ck_assert_uint_eq(support_cache_usage(restarted).entries, loaded);
    error.length = 0;
}

static void put(const struct cache_key *key, int64_t verified_ms, bool final)
{
    struct cache_entry entry = {
        .value = TEXT("value"), .generation = 7, .verified_ms = verified_ms, .final = final};
    ck_assert(cache_put(cache, key, &entry, cache_ticket(cache, key->owner)));
}

static void fill(void)
{
    for (uint32_t i = 0; i < USERS; i++) {
        struct cache_key key = support_cache_key(i % 3, i, i);
        char value[LENGTH] = {0};
        struct cache_entry entry = {.value = {value, i % 2 ? LENGTH : i % LENGTH},
                                    .generation = 7,
                                    .verified_ms = clock_monotonic_ms() - i,
                                    .final = i % 5 == 0};
        memset(value, (int)(i % 251), LENGTH);
        ck_assert(cache_put(cache, &key, &entry, cache_ticket(cache, key.owner)));
    }
}

/* --- there and back --- */

START_TEST(a_restart_finds_everything_again_and_nothing_fresh)
{
    fill();
    save();
    load(USERS);
    for (uint32_t i = 0; i < USERS; i++) {
        struct cache_key key = support_cache_key(i % 3, i, i);
        struct cache_entry before, after;
        ck_assert(cache_get(cache, &key, &arena, &before));
        ck_assert(cache_get(restarted, &key, &arena, &after));
        ck_assert(text_equal(before.value, after.value));
        ck_assert_int_eq(before.final, after.final);
        ck_assert_uint_eq(after.generation, 0);
        ck_assert_int_ge(after.verified_ms, before.verified_ms - 5);
        ck_assert_int_le(after.verified_ms, before.verified_ms + 5);
    }
}
END_TEST

START_TEST(the_longest_values_come_back)
{
    for (uint32_t i = 0; i < 20; i++) {
        struct cache_key key = support_cache_key(1, i, 0);
        ck_assert(support_cache_put(cache, &key, CACHE_VALUE_MAX - i % 2));
    }
    clock_fake(1000);
    save();
    load(20);
    for (uint32_t i = 0; i < 20; i++) {
        struct cache_key key = support_cache_key(1, i, 0);
        ck_assert(support_cache_has(restarted, &key, CACHE_VALUE_MAX - i % 2));
    }
}
END_TEST

START_TEST(an_empty_cache_is_saved_and_a_missing_file_is_no_error)
{
    load(0);
    save();
    load(0);
}
END_TEST

START_TEST(the_file_is_closed_to_others_and_replaces_the_old_one)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    umask(0);
    save();
    put(&key, clock_monotonic_ms(), false);
    int left = open(new_path, O_WRONLY | O_CREAT, 0644); /* by a crash */
    ck_assert_int_ge(left, 0);
    close(left);
    save();
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode, S_IFREG | 0600);
    ck_assert_int_ne(access(new_path, F_OK), 0);
    load(1);
}
END_TEST

START_TEST(no_value_stands_in_the_file_as_it_is)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    char bytes[4096];
    put(&key, clock_monotonic_ms(), false);
    save();
    FILE *file = fopen(path, "r");
    size_t length = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    ck_assert_uint_gt(length, HEAD);
    ck_assert_ptr_null(memmem(bytes, length, "value", 5));
}
END_TEST

/* --- ages --- */

/* Verified so long before it is loaded; kept with which age, or not (-1). */
static const struct age {
    int64_t age_ms, kept_ms;
} ages[] = {
    {0, 0},     {1234, 1234},   {HOUR_MS, HOUR_MS},  {HOUR_MS + 1, -1},
    {-1000, 0}, {-3600000, -1}, {INT64_MIN / 2, -1}, {INT64_MAX / 2, -1},
};

START_TEST(entries_of_a_known_age_within_the_limit_are_kept)
{
    const int64_t now_ms = INT64_C(1700000000000);
    struct cache_key key = support_cache_key(1, 2, 3);
    struct cache_entry entry;
    clock_fake(now_ms - 5000);
    put(&key, now_ms - ages[_i].age_ms, true);
    save();
    clock_fake(now_ms);
    load(ages[_i].kept_ms >= 0);
    if (ages[_i].kept_ms >= 0) {
        ck_assert(cache_get(restarted, &key, &arena, &entry));
        ck_assert_int_eq(now_ms - entry.verified_ms, ages[_i].kept_ms);
    }
}
END_TEST

static int64_t verify(void *user, const struct cache_entry *entry)
{
    ck_assert_uint_eq(entry->generation, 7);
    return *(int64_t *)user;
}

START_TEST(a_later_time_of_verification_wins_and_an_earlier_one_does_not)
{
    int64_t verified_ms = 50000;
    struct cache_key old = support_cache_key(1, 2, 3), young = support_cache_key(1, 2, 4);
    struct cache_entry entry;
    clock_fake(100000);
    put(&old, 10000, false);
    put(&young, 90000, false);
    ck_assert(cache_save(cache, keyring, path, verify, &verified_ms, &error));
    load(2);
    ck_assert(cache_get(restarted, &old, &arena, &entry));
    ck_assert_int_eq(entry.verified_ms, 50000);
    ck_assert(cache_get(restarted, &young, &arena, &entry));
    ck_assert_int_eq(entry.verified_ms, 90000);
}
END_TEST

/* --- what is newer than the file --- */

START_TEST(a_file_does_not_replace_what_is_there)
{
    struct cache_key key = support_cache_key(1, 2, 3);
    struct cache_entry entry = {.value = TEXT("newer"), .generation = 9};
    put(&key, clock_monotonic_ms(), true);
    save();
    ck_assert(cache_put(restarted, &key, &entry, cache_ticket(restarted, key.owner)));
    ck_assert(cache_load(restarted, keyring, path, HOUR_MS, &loaded, &error));
    ck_assert_uint_eq(loaded, 0);
    ck_assert(cache_get(restarted, &key, &arena, &entry));
    ck_assert_uint_eq(entry.generation, 9);
    ck_assert(text_equal(entry.value, TEXT("newer")));
}
END_TEST

START_TEST(a_file_does_not_bring_back_what_was_forgotten_since_the_start)
{
    struct cache_key key = support_cache_key(1, 2, 3), other = support_cache_key(1, 3, 3);
    struct cache_entry entry;
    put(&key, clock_monotonic_ms(), false);
    put(&other, clock_monotonic_ms(), false);
    save();
    cache_forget(restarted, key.owner, NULL, NULL);
    load(1);
    ck_assert(!cache_get(restarted, &key, &arena, &entry));
    ck_assert(cache_get(restarted, &other, &arena, &entry));
}
END_TEST

/* --- keys --- */

static void use_keys(const char *content)
{
    keyring_unref(&keyring);
    keyring = support_keyring(content);
}

START_TEST(any_key_of_the_ring_opens_the_file)
{
    fill();
    save();
    use_keys(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    load(USERS);
    save();
    restart();
    use_keys(SUPPORT_NAMES SUPPORT_KEY_2);
    load(USERS);
}
END_TEST

START_TEST(a_file_of_another_keyring_is_refused)
{
    fill();
    save();
    use_keys(SUPPORT_NAMES SUPPORT_KEY_2);
    assert_refuses("key 1, which the keyring does not have");
    use_keys(SUPPORT_NAMES OTHER_KEY_1);
    assert_refuses("at chunk 0");
    ck_assert_uint_eq(loaded, 0);
}
END_TEST

/* --- damage --- */

struct layout {
    struct buffer bytes;
    size_t count;
    size_t begin[CHUNKS + 1];   /* of each chunk's frame, and the end */
    size_t entries[CHUNKS + 1]; /* before that chunk */
};

static void write_bytes(const void *data, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq(write(fd, data, length), (ssize_t)length);
    close(fd);
}

static void read_bytes(struct buffer *bytes)
{
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    fseek(file, 0, SEEK_END);
    size_t length = (size_t)ftell(file);
    rewind(file);
    bytes->length = 0;
    ck_assert_uint_eq(fread(buffer_reserve(bytes, length), 1, length, file), length);
    bytes->length = length;
    fclose(file);
}

static size_t chunk_length(const char *frame)
{
    const uint8_t *at = (const uint8_t *)frame;
    return 4 + ((at[0] & 0x7fu) << 24 | (unsigned)at[1] << 16 | (unsigned)at[2] << 8 | at[3]);
}

/* Saves a file of some chunks, and finds out by cutting it off where which entries are. */
static struct layout lay_out(void)
{
    struct layout layout = {0};
    fill();
    save();
    read_bytes(&layout.bytes);
    size_t at = HEAD;
    while (at < layout.bytes.length) {
        ck_assert_uint_lt(layout.count, CHUNKS);
        layout.begin[layout.count++] = at;
        at += chunk_length(layout.bytes.data + at);
    }
    ck_assert_uint_eq(at, layout.bytes.length);
    layout.begin[layout.count] = at;
    ck_assert_uint_ge(layout.count, 4);
    for (size_t i = 0; i < layout.count; i++) {
        write_bytes(layout.bytes.data, layout.begin[i]);
        restart();
        char why[64];
        snprintf(why, sizeof(why), "is cut off in chunk %zu", i);
        assert_refuses(why);
        layout.entries[i] = loaded;
        ck_assert(i == 0 ? loaded == 0 : loaded > layout.entries[i - 1]);
    }
    layout.entries[layout.count] = USERS;
    return layout;
}

static void assert_keeps(size_t entries, const char *why)
{
    restart();
    assert_refuses(why);
    ck_assert_uint_eq(loaded, entries);
}

START_TEST(a_flipped_bit_in_any_chunk_is_found_and_what_was_before_stays)
{
    struct layout layout = lay_out();
    uint64_t state = 11;
    for (size_t i = 0; i < layout.count; i++) {
        size_t length = layout.begin[i + 1] - layout.begin[i];
        /* Frame, nonce, tag, and some places of the entries. */
        size_t offsets[12] = {0, 1, 2, 3, 4, 15, length - 1, length - 16};
        for (size_t j = 8; j < 12; j++)
            offsets[j] = support_next(&state) % length;
        for (size_t j = 0; j < 12; j++) {
            char *at = layout.bytes.data + layout.begin[i] + offsets[j];
            char bit = (char)(1 << support_next(&state) % 8);
            *at ^= bit;
            write_bytes(layout.bytes.data, layout.bytes.length);
            assert_keeps(layout.entries[i], "chunk");
            *at ^= bit;
        }
    }
    write_bytes(layout.bytes.data, layout.bytes.length);
    restart();
    load(USERS);
    buffer_free(&layout.bytes);
}
END_TEST

START_TEST(a_flipped_bit_in_the_head_is_found)
{
    struct layout layout = lay_out();
    for (size_t bit = 0; bit < HEAD * 8; bit++) {
        layout.bytes.data[bit / 8] ^= (char)(1 << bit % 8);
        write_bytes(layout.bytes.data, layout.bytes.length);
        assert_keeps(0, "");
        layout.bytes.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    buffer_free(&layout.bytes);
}
END_TEST

START_TEST(a_file_that_was_cut_off_anywhere_is_found)
{
    struct layout layout = lay_out();
    for (size_t i = 0; i < layout.count; i++) {
        size_t end = layout.begin[i + 1];
        const size_t cuts[] = {layout.begin[i] + 1,
                               layout.begin[i] + 3,
                               layout.begin[i] + 4,
                               layout.begin[i] + 5,
                               layout.begin[i] + 31,
                               (layout.begin[i] + end) / 2,
                               end - 1};
        for (size_t j = 0; j < sizeof(cuts) / sizeof(cuts[0]); j++) {
            write_bytes(layout.bytes.data, cuts[j]);
            assert_keeps(layout.entries[i], "is cut off in chunk");
        }
    }
    for (size_t cut = 0; cut < HEAD; cut++) {
        write_bytes(layout.bytes.data, cut);
        assert_keeps(0, "is not a snapshot");
    }
    buffer_free(&layout.bytes);
}
END_TEST

static void write_chunks(const struct layout *layout, const size_t *order, size_t count)
{
    struct buffer bytes = {0};
    buffer_add(&bytes, layout->bytes.data, HEAD);
    for (size_t i = 0; i < count; i++)
        buffer_add(&bytes, layout->bytes.data + layout->begin[order[i]],
                   layout->begin[order[i] + 1] - layout->begin[order[i]]);
    write_bytes(bytes.data, bytes.length);
    buffer_free(&bytes);
}

START_TEST(chunks_that_were_moved_doubled_left_out_or_added_are_found)
{
    struct layout layout = lay_out();
    size_t last = layout.count - 1;
    write_chunks(&layout, (size_t[]){1, 0, 2}, 3);
    assert_keeps(0, "at chunk 0");
    write_chunks(&layout, (size_t[]){0, 0, 1}, 3);
    assert_keeps(layout.entries[1], "at chunk 1");
    write_chunks(&layout, (size_t[]){0, 2}, 2);
    assert_keeps(layout.entries[1], "at chunk 1");
    write_chunks(&layout, (size_t[]){0, last}, 2);
    assert_keeps(layout.entries[1], "at chunk 1");
    write_bytes(layout.bytes.data, layout.bytes.length);
    int fd = open(path, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    close(fd);
    assert_keeps(USERS, "goes on behind its end");
    buffer_free(&layout.bytes);
}
END_TEST

START_TEST(a_chunk_of_another_file_is_found)
{
    struct layout layout = lay_out();
    struct buffer other = {0};
    save();
    read_bytes(&other);
    memcpy(other.data + layout.begin[1], layout.bytes.data + layout.begin[1],
           layout.begin[2] - layout.begin[1]);
    write_bytes(other.data, other.length);
    assert_keeps(layout.entries[1], "at chunk 1");
    buffer_free(&other);
    buffer_free(&layout.bytes);
}
END_TEST

START_TEST(absurd_lengths_are_refused)
{
    static const uint8_t frames[][4] = {
        {0, 0, 0, 0},          {0x80, 0, 0, 0},      {0, 0, 0, 27},
        {0x7f, 255, 255, 255}, {255, 255, 255, 255}, {0, 1, 0, 29},
    };
    struct layout layout = lay_out();
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        memcpy(layout.bytes.data + layout.begin[1], frames[i], 4);
        write_bytes(layout.bytes.data, layout.bytes.length);
        assert_keeps(layout.entries[1], "is damaged or of another installation, at chunk 1");
    }
    buffer_free(&layout.bytes);
}
END_TEST

START_TEST(what_is_no_snapshot_is_refused)
{
    write_bytes("[server]\nlisten = 127.0.0.1:8080\nworkers = 2\n", 45);
    assert_refuses("is not a snapshot of the cache");
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    assert_refuses("is not a regular file");
    unlink(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    assert_refuses("is not a regular file");
    rmdir(path);
}
END_TEST

/* --- where saving fails --- */

/* In a child: its limits and its user are not given back. */
static void fail_to_save(void (*restrict_child)(void), int expected)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        char message[256];
        restrict_child();
        bool saved = cache_save(cache, keyring, path, NULL, NULL, &error);
        buffer_add_char(&error, '\0');
        snprintf(message, sizeof(message), "snapshot %s cannot be written: %s", path,
                 strerrordesc_np(expected));
        _exit(!saved && strcmp(error.data, message) == 0 &&
                      metrics_read(METRIC_SNAPSHOT_ERRORS) == 1
                  ? 0
                  : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_ne(access(new_path, F_OK), 0);
}

static void fill_disk(void)
{
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){100000, 100000});
}

static void become_nobody(void)
{
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        _exit(2);
}

START_TEST(a_full_disk_leaves_the_old_file)
{
    struct cache_key key = support_cache_key(9, 9, 9);
    put(&key, clock_monotonic_ms(), false);
    save();
    fill();
    fail_to_save(fill_disk, EFBIG);
    load(1);
}
END_TEST

START_TEST(a_directory_that_is_not_writable_is_told)
{
    save();
    ck_assert_int_eq(chmod(directory, 0555), 0);
    fail_to_save(become_nobody, EACCES);
    ck_assert_int_eq(chmod(directory, 0755), 0);
    load(0);
}
END_TEST

START_TEST(a_directory_that_is_missing_is_told)
{
    char nowhere[80];
    snprintf(nowhere, sizeof(nowhere), "%s/none/cache", directory);
    ck_assert(!cache_save(cache, keyring, nowhere, NULL, NULL, &error));
    buffer_add_char(&error, '\0');
    ck_assert_ptr_nonnull(strstr(error.data, nowhere));
    ck_assert_ptr_nonnull(strstr(error.data, "No such file"));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("cache_file");
    TCase *whole = tcase_create("whole");
    tcase_add_checked_fixture(whole, set_up, tear_down);
    tcase_add_test(whole, a_restart_finds_everything_again_and_nothing_fresh);
    tcase_add_test(whole, the_longest_values_come_back);
    tcase_add_test(whole, an_empty_cache_is_saved_and_a_missing_file_is_no_error);
    tcase_add_test(whole, the_file_is_closed_to_others_and_replaces_the_old_one);
    tcase_add_test(whole, no_value_stands_in_the_file_as_it_is);
    tcase_add_loop_test(whole, entries_of_a_known_age_within_the_limit_are_kept, 0,
                        (int)(sizeof(ages) / sizeof(ages[0])));
    tcase_add_test(whole, a_later_time_of_verification_wins_and_an_earlier_one_does_not);
    tcase_add_test(whole, a_file_does_not_replace_what_is_there);
    tcase_add_test(whole, a_file_does_not_bring_back_what_was_forgotten_since_the_start);
    tcase_add_test(whole, any_key_of_the_ring_opens_the_file);
    suite_add_tcase(suite, whole);
    TCase *damage = tcase_create("damage");
    tcase_add_checked_fixture(damage, set_up, tear_down);
    tcase_set_timeout(damage, 60);
    tcase_add_test(damage, a_file_of_another_keyring_is_refused);
    tcase_add_test(damage, a_flipped_bit_in_any_chunk_is_found_and_what_was_before_stays);
    tcase_add_test(damage, a_flipped_bit_in_the_head_is_found);
    tcase_add_test(damage, a_file_that_was_cut_off_anywhere_is_found);
    tcase_add_test(damage, chunks_that_were_moved_doubled_left_out_or_added_are_found);
    tcase_add_test(damage, a_chunk_of_another_file_is_found);
    tcase_add_test(damage, absurd_lengths_are_refused);
    tcase_add_test(damage, what_is_no_snapshot_is_refused);
    suite_add_tcase(suite, damage);
    TCase *failure = tcase_create("failure");
    tcase_add_checked_fixture(failure, set_up, tear_down);
    tcase_add_test(failure, a_full_disk_leaves_the_old_file);
    tcase_add_test(failure, a_directory_that_is_not_writable_is_told);
    tcase_add_test(failure, a_directory_that_is_missing_is_told);
    suite_add_tcase(suite, failure);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
