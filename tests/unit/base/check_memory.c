/* Memory that never fails, the arena of a request, and the fake clock. */
#include "memory.h"

#include <check.h>
#include <signal.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#include "support_run.h"

START_TEST(allocations_of_nothing_are_valid)
{
    void *blocks[] = {xmalloc(0), xcalloc(0, 8), xcalloc(8, 0), xrealloc(NULL, 0)};
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        ck_assert_ptr_nonnull(blocks[i]);
        free(blocks[i]);
    }
}
END_TEST

START_TEST(copies_end_where_the_text_ends)
{
    char *cut = xstrndup("session", 4);
    char *whole = xstrndup("session", 100);
    char *plain = xstrdup("session");
    ck_assert_str_eq(cut, "sess");
    ck_assert_str_eq(whole, "session");
    ck_assert_str_eq(plain, "session");
    free(cut);
    free(whole);
    free(plain);
}
END_TEST

/* Sanitizers otherwise end the process themselves before xcalloc() can see the failure. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

START_TEST(running_out_of_memory_aborts)
{
    volatile size_t count = SIZE_MAX / 2;
    close(STDERR_FILENO); /* the line about it is not for the test's reader */
    free(xcalloc(count, 16));
}
END_TEST

START_TEST(pieces_are_aligned_and_do_not_overlap)
{
    struct arena arena = {0};
    unsigned char *pieces[200];
    for (size_t i = 0; i < 200; i++) {
        pieces[i] = arena_alloc(&arena, i + 1);
        ck_assert_uint_eq((uintptr_t)pieces[i] % alignof(max_align_t), 0);
        memset(pieces[i], (int)i, i + 1);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k <= i; k++)
            ck_assert_uint_eq(pieces[i][k], i);
    arena_free(&arena);
    ck_assert_ptr_null(arena.blocks);
}
END_TEST

START_TEST(a_large_piece_gets_a_block_of_its_own)
{
    struct arena arena = {0};
    char *small = arena_alloc(&arena, 10);
    strcpy(small, "small");
    char *large = arena_zalloc(&arena, 3000000);
    for (size_t i = 0; i < 3000000; i += 4096)
        ck_assert_int_eq(large[i], 0);
    memset(large, 'x', 3000000);
    ck_assert_str_eq(small, "small");
    arena_free(&arena);
}
END_TEST

START_TEST(a_reset_keeps_the_first_block)
{
    struct arena arena = {0};
    const void *first = arena_alloc(&arena, 100);
    const struct arena_block *block = arena.blocks;
    for (int i = 0; i < 100; i++)
        arena_alloc(&arena, 1000);
    ck_assert_ptr_ne(arena.blocks, block);
    arena_reset(&arena);
    ck_assert_ptr_eq(arena.blocks, block);
    ck_assert_ptr_eq(arena_alloc(&arena, 100), first);
    arena_free(&arena);
}
END_TEST

START_TEST(a_reset_wipes_what_was_there)
{
    struct arena arena = {0};
    struct text token = arena_copy(&arena, TEXT("sa_secret"));
    arena_reset(&arena);
    ck_assert_mem_eq(token.data, "\0\0\0\0\0\0\0\0\0", token.length);
    arena_reset(&arena);
    arena_free(&arena);
}
END_TEST

START_TEST(an_unused_arena_can_be_reset_and_freed)
{
    struct arena arena = {0};
    arena_reset(&arena);
    arena_free(&arena);
    arena_free(&arena);
    ck_assert_ptr_null(arena.blocks);
}
END_TEST

START_TEST(an_arena_copy_is_terminated)
{
    struct arena arena = {0};
    struct text copy = arena_copy(&arena, (struct text){"abcdef", 3});
    ck_assert_str_eq(copy.data, "abc");
    ck_assert_uint_eq(copy.length, 3);
    ck_assert_ptr_null(arena_copy(&arena, (struct text){0}).data);
    ck_assert_ptr_nonnull(arena_copy(&arena, TEXT("")).data);
    arena_free(&arena);
}
END_TEST

START_TEST(formatted_text_of_any_length_is_whole)
{
    struct arena arena = {0};
    char letters[1000];
    for (size_t length = 250; length < sizeof(letters); length += length < 260 ? 1 : 100) {
        memset(letters, 'y', length);
        letters[length] = '\0';
        struct text text = arena_format(&arena, "%s", letters);
        ck_assert_uint_eq(text.length, length);
        ck_assert_str_eq(text.data, letters);
    }
    arena_free(&arena);
}
END_TEST

START_TEST(the_fake_clock_stands_until_it_is_given_back)
{
    clock_fake(1700000000123);
    ck_assert_int_eq(clock_wall_ms(), 1700000000123);
    ck_assert_int_eq(clock_monotonic_ms(), 1700000000123);
    ck_assert_int_eq(clock_monotonic_ns(), INT64_C(1700000000123000000));
    clock_fake(0);
    ck_assert_int_gt(clock_wall_ms(), 1700000000123);
    int64_t earlier = clock_monotonic_ns();
    ck_assert_int_ge(clock_monotonic_ns(), earlier);
    ck_assert_int_lt(clock_monotonic_ms() - earlier / 1000000, 1000);
}
END_TEST

START_TEST(a_text_is_printed_in_place_and_the_room_behind_it_is_given_back)
{
    struct arena arena = {0};
    struct text text = arena_format(&arena, "%s", "0123456789abcdef");
    ck_assert_ptr_eq((char *)arena_alloc(&arena, 1), text.data + 32);
    ck_assert_int_eq(arena_format(&arena, "%0300d", 1).data[299], '1');
    ck_assert_str_eq(text.data, "0123456789abcdef");
    arena_free(&arena);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("memory");
    TCase *heap = tcase_create("heap");
    tcase_add_test(heap, allocations_of_nothing_are_valid);
    tcase_add_test(heap, a_text_is_printed_in_place_and_the_room_behind_it_is_given_back);
    tcase_add_test(heap, copies_end_where_the_text_ends);
    tcase_add_test_raise_signal(heap, running_out_of_memory_aborts, SIGABRT);
    suite_add_tcase(suite, heap);
    TCase *arena = tcase_create("arena");
    tcase_add_test(arena, pieces_are_aligned_and_do_not_overlap);
    tcase_add_test(arena, a_large_piece_gets_a_block_of_its_own);
    tcase_add_test(arena, a_reset_keeps_the_first_block);
    tcase_add_test(arena, a_reset_wipes_what_was_there);
    tcase_add_test(arena, an_unused_arena_can_be_reset_and_freed);
    tcase_add_test(arena, an_arena_copy_is_terminated);
    tcase_add_test(arena, formatted_text_of_any_length_is_whole);
    suite_add_tcase(suite, arena);
    TCase *clock = tcase_create("clock");
    tcase_add_test(clock, the_fake_clock_stands_until_it_is_given_back);
    suite_add_tcase(suite, clock);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
