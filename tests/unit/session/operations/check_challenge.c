/* Challenges as bytes, their codes, and the logins that wait in them. */
#include "session/operations/challenge.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "session/operations/login_request.h"
#include "support_keys.h"
#include "support_run.h"

static struct keyring *ring;
static struct arena arena;
static struct user_tag owner;

static void setup(void)
{
    ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    token_tag_user(ring, TEXT("default"), TEXT("alice"), &owner);
}

static void teardown(void)
{
    arena_free(&arena);
    keyring_unref(&ring);
}

static struct challenge make(enum verify_method method, int secret)
{
    struct challenge challenge = {
        .kind = CHALLENGE_LOGIN,
        .method = method,
        .issued_ms = INT64_C(1795000000123),
        .body = TEXT("body"),
    };
    memset(challenge.secret, secret, SECRET_LENGTH);
    return challenge;
}

START_TEST(what_was_written_is_read)
{
    struct challenge challenge = make(VERIFY_OTP, 7), again;
    struct buffer bytes = {0};
    challenge_write(&challenge, &bytes);
    ck_assert(challenge_read(buffer_text(&bytes), &again));
    ck_assert_int_eq(again.kind, CHALLENGE_LOGIN);
    ck_assert_int_eq(again.method, VERIFY_OTP);
    ck_assert_int_eq(again.issued_ms, challenge.issued_ms);
    ck_assert_mem_eq(again.secret, challenge.secret, SECRET_LENGTH);
    ck_assert(text_equal(again.body, challenge.body));
    for (size_t length = 0; length < bytes.length - challenge.body.length; length++)
        ck_assert(!challenge_read((struct text){bytes.data, length}, &again));
    bytes.data[0] = 'x';
    ck_assert(!challenge_read(buffer_text(&bytes), &again));
    bytes.data[0] = CHALLENGE_SESSION;
    bytes.data[1] = 2;
    ck_assert(!challenge_read(buffer_text(&bytes), &again));
    buffer_free(&bytes);
}
END_TEST

START_TEST(codes_are_six_digits_of_user_and_secret)
{
    char codes[200][CHALLENGE_CODE], other[CHALLENGE_CODE];
    struct user_tag bob;
    unsigned same = 0, counts[10] = {0};
    token_tag_user(ring, TEXT("default"), TEXT("bob"), &bob);
    for (int i = 0; i < 200; i++) {
        struct challenge challenge = make(VERIFY_OTP, i);
        challenge_code(ring, &owner, challenge.secret, codes[i]);
        challenge_code(ring, &bob, challenge.secret, other);
        same += memcmp(codes[i], other, CHALLENGE_CODE) == 0;
        for (size_t j = 0; j < CHALLENGE_CODE; j++) {
            ck_assert(codes[i][j] >= '0' && codes[i][j] <= '9');
            counts[codes[i][j] - '0']++;
        }
        for (int j = 0; j < i; j++)
            same += memcmp(codes[i], codes[j], CHALLENGE_CODE) == 0;
    }
    ck_assert_uint_le(same, 2);
    for (size_t i = 0; i < 10; i++)
        ck_assert_uint_ge(counts[i], 60); /* of 120 on average */
}
END_TEST

START_TEST(only_the_code_solves_what_wants_a_code)
{
    struct challenge challenge = make(VERIFY_OTP, 7);
    char code[CHALLENGE_CODE + 1] = {0};
    challenge_code(ring, &owner, challenge.secret, code);
    ck_assert(challenge_is_solved(ring, &owner, &challenge, text_of(code), false));
    ck_assert(!challenge_is_solved(ring, &owner, &challenge, (struct text){0}, true));
    ck_assert(!challenge_is_solved(ring, &owner, &challenge, (struct text){code, 5}, false));
    ck_assert(!challenge_is_solved(ring, &owner, &challenge, TEXT(""), false));
    code[5] = code[5] == '9' ? '0' : (char)(code[5] + 1);
    ck_assert(!challenge_is_solved(ring, &owner, &challenge, text_of(code), false));
}
END_TEST

START_TEST(only_a_word_solves_what_is_verified_elsewhere)
{
    struct challenge challenge = make(VERIFY_EXTERNAL, 7);
    char code[CHALLENGE_CODE + 1] = {0};
    challenge_code(ring, &owner, challenge.secret, code);
    ck_assert(challenge_is_solved(ring, &owner, &challenge, (struct text){0}, true));
    ck_assert(!challenge_is_solved(ring, &owner, &challenge, text_of(code), false));
}
END_TEST

static struct login full_login(struct text *roles)
{
    roles[0] = TEXT("buyer");
    roles[1] = TEXT("Käufer");
    return (struct login){
        .tenant = TEXT("acme"),
        .user_id = TEXT("alice"),
        .roles = roles,
        .role_count = 2,
        .device = {TEXT("d"), TEXT("phone"), TEXT("P"), TEXT("f")},
        .ip = TEXT("198.51.100.7"),
        .user_agent = TEXT("Shop/1"),
        .attributes = TEXT("{\"a\":1.5}"),
        .remember = true,
        .cookie = true,
    };
}

START_TEST(a_login_waits_as_it_was_asked)
{
    struct text roles[2];
    struct login login = full_login(roles), again = {0};
    struct buffer bytes = {0};
    login_request_write(&login, RECORD_FORMAT_MAX, &bytes);
    ck_assert(login_request_read(buffer_text(&bytes), &arena, &again));
    ck_assert(text_equal(again.tenant, login.tenant) && text_equal(again.user_id, login.user_id));
    ck_assert(text_equal(again.device.id, login.device.id));
    ck_assert(text_equal(again.device.type, login.device.type));
    ck_assert(text_equal(again.device.name, login.device.name));
    ck_assert(text_equal(again.device.fingerprint, login.device.fingerprint));
    ck_assert(text_equal(again.ip, login.ip) && text_equal(again.user_agent, login.user_agent));
    ck_assert(text_equal(again.attributes, login.attributes));
    ck_assert(again.remember && again.cookie && !again.second_factor);
    ck_assert_uint_eq(again.role_count, 2);
    ck_assert(text_equal(again.roles[0], roles[0]) && text_equal(again.roles[1], roles[1]));
    buffer_free(&bytes);
}
END_TEST

START_TEST(what_was_absent_stays_absent)
{
    struct login login = {.tenant = TEXT("default"), .user_id = TEXT("a"), .second_factor = true};
    struct login again = {0};
    struct buffer bytes = {0};
    login_request_write(&login, RECORD_FORMAT_MAX, &bytes);
    ck_assert(login_request_read(buffer_text(&bytes), &arena, &again));
    ck_assert_ptr_null(again.ip.data);
    ck_assert_ptr_null(again.attributes.data);
    ck_assert_ptr_null(again.device.id.data);
    ck_assert_uint_eq(again.role_count, 0);
    ck_assert(again.second_factor && !again.remember);
    buffer_free(&bytes);
}
END_TEST

START_TEST(damaged_logins_are_refused_and_nothing_is_read_beyond_them)
{
    struct text roles[2];
    struct login login = full_login(roles), again;
    struct buffer bytes = {0};
    uint64_t state = 1;
    login_request_write(&login, RECORD_FORMAT_MAX, &bytes);
    for (size_t length = 0; length < bytes.length; length++) {
        char *cut = xmalloc(length + 1);
        memcpy(cut, bytes.data, length);
        ck_assert(!login_request_read((struct text){cut, length}, &arena, &again));
        free(cut);
    }
    for (int round = 0; round < 2000; round++) {
        char *copy = xmalloc(bytes.length);
        memcpy(copy, bytes.data, bytes.length);
        copy[support_next(&state) % bytes.length] = (char)support_next(&state);
        (void)login_request_read((struct text){copy, bytes.length}, &arena, &again);
        free(copy);
        arena_reset(&arena);
    }
    buffer_add_char(&bytes, 'x');
    ck_assert(!login_request_read(buffer_text(&bytes), &arena, &again));
    buffer_free(&bytes);
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("challenge");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, what_was_written_is_read);
    tcase_add_test(all, codes_are_six_digits_of_user_and_secret);
    tcase_add_test(all, only_the_code_solves_what_wants_a_code);
    tcase_add_test(all, only_a_word_solves_what_is_verified_elsewhere);
    tcase_add_test(all, a_login_waits_as_it_was_asked);
    tcase_add_test(all, what_was_absent_stays_absent);
    tcase_add_test(all, damaged_logins_are_refused_and_nothing_is_read_beyond_them);
    Suite *suite = suite_create("challenge");
    suite_add_tcase(suite, all);
    return support_run(suite);
}
