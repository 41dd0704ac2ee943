/* A damaged file of the cache: whatever was done to it is found, and what was read before stays. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support_disk.h"
#include "support_keys.h"
#include "support_run.h"

#define OTHER_KEY_1 "key 1 606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f\n"

enum { CHUNKS = 16 };

START_TEST(a_file_of_another_keyring_is_refused)
{
    support_disk_fill();
    support_disk_save();
    support_disk_use_keys(SUPPORT_NAMES SUPPORT_KEY_2);
    support_disk_assert_refuses("key 1, which the keyring does not have");
    support_disk_use_keys(SUPPORT_NAMES OTHER_KEY_1);
    support_disk_assert_refuses("at chunk 0");
    ck_assert_uint_eq(disk.loaded, 0);
}
END_TEST

struct layout {
    struct buffer bytes;
    size_t count;
    size_t begin[CHUNKS + 1];   /* of each chunk's frame, and the end */
    size_t entries[CHUNKS + 1]; /* before that chunk */
};

static void write_bytes(const void *data, size_t length)
{
    int fd = open(disk.path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq(write(fd, data, length), (ssize_t)length);
    close(fd);
}

static void read_bytes(struct buffer *bytes)
{
    FILE *file = fopen(disk.path, "r");
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
    support_disk_fill();
    support_disk_save();
    read_bytes(&layout.bytes);
    size_t at = DISK_HEAD;
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
        support_disk_restart();
        char why[64];
        snprintf(why, sizeof(why), "is cut off in chunk %zu", i);
        support_disk_assert_refuses(why);
        layout.entries[i] = disk.loaded;
        ck_assert(i == 0 ? disk.loaded == 0 : disk.loaded > layout.entries[i - 1]);
    }
    layout.entries[layout.count] = DISK_USERS;
    return layout;
}

static void assert_keeps(size_t entries, const char *why)
{
    support_disk_restart();
    support_disk_assert_refuses(why);
    ck_assert_uint_eq(disk.loaded, entries);
}

START_TEST(a_flipped_bit_in_any_chunk_is_found_and_what_was_before_stays)
{
    struct layout layout = lay_out();
    uint64_t state = 11;
    for (size_t i = 0; i < layout.count; i++) {
        size_t length = layout.begin[i + 1] - layout.begin[i];
        /* Frame, nonce, tag, and some positions in the entries. */
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
    support_disk_restart();
    support_disk_load(DISK_USERS);
    buffer_free(&layout.bytes);
}
END_TEST

START_TEST(a_flipped_bit_in_the_head_is_found)
{
    struct layout layout = lay_out();
    for (size_t bit = 0; bit < DISK_HEAD * 8; bit++) {
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
    for (size_t cut = 0; cut < DISK_HEAD; cut++) {
        write_bytes(layout.bytes.data, cut);
        assert_keeps(0, "is not a snapshot");
    }
    buffer_free(&layout.bytes);
}
END_TEST

static void write_chunks(const struct layout *layout, const size_t *order, size_t count)
{
    struct buffer bytes = {0};
    buffer_add(&bytes, layout->bytes.data, DISK_HEAD);
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
    int fd = open(disk.path, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    close(fd);
    assert_keeps(DISK_USERS, "goes on behind its end");
    buffer_free(&layout.bytes);
}
END_TEST

START_TEST(a_chunk_of_another_file_is_found)
{
    struct layout layout = lay_out();
    struct buffer other = {0};
    support_disk_save();
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
    support_disk_assert_refuses("is not a snapshot of the cache");
    unlink(disk.path);
    ck_assert_int_eq(mkfifo(disk.path, 0600), 0);
    support_disk_assert_refuses("is not a regular file");
    unlink(disk.path);
    ck_assert_int_eq(mkdir(disk.path, 0700), 0);
    support_disk_assert_refuses("is not a regular file");
    rmdir(disk.path);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("cache_damage");
    TCase *damage = tcase_create("damage");
    tcase_add_checked_fixture(damage, support_disk_set_up, support_disk_tear_down);
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
    return suite;
}

int main(void)
{
    return support_run(suite());
}
