/* Rules of life, death and admission: no real clock, no Redis; times are spelled out, in seconds
 * after BASE. */
#include "session/model/rules.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "session/engine/operation.h"
#include "session/model/freezing.h"
#include "session/model/session_json.h"
#include "support_keys.h"
#include "support_run.h"

#define BASE INT64_C(1800000000) /* seconds since 1970 */

static const struct policy usual = {
    .access_ttl = 7200,
    .refresh_ttl = 604800,
    .idle_timeout = 1800,
    .absolute_timeout = 2592000,
    .refresh_grace = 30,
    .renew = RENEW_SLIDING,
    .max_devices = 3,
    .overflow = OVERFLOW_EVICT_OLDEST,
    .exclusive = EXCLUSIVE_NONE,
};

static struct keyring *ring;
static struct arena arena;

static void setup(void)
{
    ring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
}

static void teardown(void)
{
    arena_free(&arena);
    keyring_unref(&ring);
}

/* A session created at BASE + created, last used at BASE + seen. */
static struct session make(int64_t created, int64_t seen)
{
    struct session session = {.last_seen_s = BASE + seen};
    token_new_session_id((BASE + created) * 1000, session.id);
    session.record.issued_ms = (BASE + created) * 1000;
    session.record.absolute_s = BASE + created + usual.absolute_timeout;
    memset(session.record.access_hash, 'a', SECRET_HASH);
    memset(session.record.refresh_hash, 'r', SECRET_HASH);
    return session;
}

static const char *dead_at(const struct session *session, const struct policy *policy, int64_t at)
{
    static const struct user_record nobody;
    static char word[40];
    struct text reason =
        reasons_of_cause(rules_end_cause(&nobody, session, policy, (BASE + at) * 1000));
    memcpy(word, reason.data ? reason.data : "", reason.length);
    word[reason.length] = '\0';
    return word;
}

static void assert_word(enum end_cause cause, const char *expected)
{
    struct text found = reasons_of_cause(cause);
    ck_assert_int_eq(cause == CAUSE_NONE, !found.data);
    if (!expected)
        ck_assert_ptr_null(found.data);
    else
        ck_assert_msg(text_equal(found, text_of(expected)), "found %.*s, expected %s",
                      (int)found.length, found.data ? found.data : "nothing", expected);
}

/* --- Life and death -------------------------------------------------------------------------- */

START_TEST(a_session_lives_to_the_end_of_the_second_that_is_shown_as_its_idle_end)
{
    struct session session = make(0, 100);
    int64_t session_json = rules_lifetimes(&session, &usual, BASE + 100).idle_s - BASE;
    ck_assert_int_eq(session_json, 100 + 1800 + 60);
    ck_assert_str_eq(dead_at(&session, &usual, session_json), "");
    ck_assert_str_eq(dead_at(&session, &usual, session_json + 1), "idle");
}
END_TEST

/* Uses at any time, of which those are written that are due; judged by what was written. */
START_TEST(a_session_is_idle_for_its_whole_timeout_before_it_ends_for_it)
{
    static const int64_t timeouts[] = {10, 60, 61, 599, 1800, 100000};
    struct policy policy = usual;
    policy.idle_timeout = timeouts[_i];
    for (int64_t used = 0; used <= 200; used++) {
        struct session session = make(0, 0);
        int64_t session_json = 0;
        for (int64_t at = used % 7; at <= used; at += 7) {
            if (rules_touch_due(&session, &policy, BASE + at))
                session.last_seen_s = BASE + at;
            int64_t before = session_json;
            session_json = rules_lifetimes(&session, &policy, BASE + at).idle_s - BASE;
            ck_assert_int_ge(session_json, before);
        }
        ck_assert_int_gt(session_json, used + policy.idle_timeout);
        ck_assert_str_eq(dead_at(&session, &policy, session_json), "");
        ck_assert_str_eq(dead_at(&session, &policy, session_json + 1), "idle");
        ck_assert_int_le(session_json, used + policy.idle_timeout + 60);
    }
}
END_TEST

START_TEST(with_fixed_renewal_use_does_not_move_the_idle_end)
{
    struct session session = make(0, 1700);
    struct policy fixed = usual;
    fixed.renew = RENEW_FIXED;
    ck_assert_str_eq(dead_at(&session, &usual, 1801), "");
    ck_assert_str_eq(dead_at(&session, &fixed, 1800), "");
    ck_assert_str_eq(dead_at(&session, &fixed, 1801), "idle");
}
END_TEST

START_TEST(a_remembered_session_has_no_idle_end_but_ends_with_its_refresh_token)
{
    struct session session = make(0, 0);
    session.record.remember = true;
    ck_assert_str_eq(dead_at(&session, &usual, usual.refresh_ttl - 1), "");
    ck_assert_str_eq(dead_at(&session, &usual, usual.refresh_ttl), "expired");
}
END_TEST

START_TEST(activity_and_refresh_do_not_carry_a_session_past_its_absolute_end)
{
    struct session session = make(0, usual.absolute_timeout - 1);
    session.record.issued_ms = (BASE + usual.absolute_timeout - 5) * 1000;
    ck_assert_str_eq(dead_at(&session, &usual, usual.absolute_timeout - 1), "");
    ck_assert_str_eq(dead_at(&session, &usual, usual.absolute_timeout), "expired");
    ck_assert_int_eq(rules_lifetimes(&session, &usual, BASE + usual.absolute_timeout).access_s,
                     BASE + usual.absolute_timeout);
}
END_TEST

START_TEST(a_shorter_policy_holds_for_living_sessions_and_a_longer_one_too)
{
    struct session session = make(0, 0);
    struct policy sale = usual, strict = usual;
    sale.idle_timeout = 7200;
    strict.absolute_timeout = 600;
    ck_assert_str_eq(dead_at(&session, &sale, 7199), "");
    ck_assert_str_eq(dead_at(&session, &strict, 600), "expired");
}
END_TEST

START_TEST(sessions_older_than_not_before_are_revoked_but_for_the_exempt_one)
{
    struct session old = make(0, 0), kept = make(0, 0), young = make(10, 10);
    struct user_record user = {.not_before_ms = (BASE + 5) * 1000, .has_exempt = true};
    memcpy(user.exempt, kept.id, SESSION_ID);
    assert_word(rules_end_cause(&user, &old, &usual, (BASE + 20) * 1000), "revoked");
    assert_word(rules_end_cause(&user, &kept, &usual, (BASE + 20) * 1000), NULL);
    assert_word(rules_end_cause(&user, &young, &usual, (BASE + 20) * 1000), NULL);
}
END_TEST

START_TEST(a_freeze_holds_until_its_end_or_for_ever)
{
    struct session session = make(0, 0);
    struct user_record user = {.frozen = true, .frozen_until_s = BASE + 100};
    assert_word(rules_end_cause(&user, &session, &usual, (BASE + 99) * 1000), "frozen");
    assert_word(rules_end_cause(&user, &session, &usual, (BASE + 100) * 1000), NULL);
    user.frozen_until_s = 0;
    assert_word(rules_end_cause(&user, &session, &usual, (BASE + 1000) * 1000), "frozen");
}
END_TEST

/* --- Tokens ---------------------------------------------------------------------------------- */

static enum end_cause judge_access(const struct session *session, char filler, int64_t at_ms)
{
    static const struct user_record nobody;
    uint8_t hash[SECRET_HASH];
    memset(hash, filler, sizeof(hash));
    return rules_judge_access(&nobody, session, hash, &usual, BASE * 1000 + at_ms);
}

START_TEST(the_access_token_ends_before_its_session)
{
    struct session session = make(0, 7100);
    assert_word(judge_access(&session, 'a', 7199999), NULL);
    assert_word(judge_access(&session, 'a', 7200000), "expired");
}
END_TEST

START_TEST(the_access_token_before_the_refresh_lives_for_the_grace_window)
{
    struct session session = make(0, 0);
    session.record.has_previous = true;
    memset(session.record.previous_access_hash, 'p', SECRET_HASH);
    assert_word(judge_access(&session, 'p', 29999), NULL);
    assert_word(judge_access(&session, 'p', 30000), "expired");
    assert_word(judge_access(&session, 'x', 0), "expired");
}
END_TEST

START_TEST(an_access_token_that_was_over_gets_no_grace_from_the_refresh)
{
    struct session session = make(0, 0);
    session.record.has_previous = true;
    session.record.previous_access_over = true;
    memset(session.record.previous_access_hash, 'p', SECRET_HASH);
    assert_word(judge_access(&session, 'p', 0), "expired");
}
END_TEST

START_TEST(without_a_previous_pair_its_empty_hash_opens_nothing)
{
    struct session session = make(0, 0);
    assert_word(judge_access(&session, '\0', 0), "expired");
}
END_TEST

struct refresh_case {
    char filler;
    int64_t at_ms;
    enum refresh_verdict verdict;
};

static const struct refresh_case refresh_cases[] = {
    {'r', 0, REFRESH_ROTATE}, {'r', 1860999, REFRESH_ROTATE}, {'r', 1861000, REFRESH_ENDED},
    {'p', 0, REFRESH_REPEAT}, {'p', 29999, REFRESH_REPEAT},   {'p', 30000, REFRESH_REUSE},
    {'o', 0, REFRESH_REUSE},  {'a', 0, REFRESH_REUSE},        {'p', 1861000, REFRESH_ENDED},
};

START_TEST(without_a_grace_window_no_refresh_is_a_repetition_not_even_in_the_same_millisecond)
{
    struct session session = make(0, 0);
    struct policy strict = usual;
    enum end_cause cause;
    const struct user_record nobody = {0};
    uint8_t hash[SECRET_HASH];
    strict.refresh_grace = 0;
    session.record.has_previous = true;
    memset(session.record.previous_refresh_hash, 'p', SECRET_HASH);
    memset(hash, 'p', SECRET_HASH);
    ck_assert_int_eq(rules_judge_refresh(&nobody, &session, hash, &strict, BASE * 1000, &cause),
                     REFRESH_REUSE);
    ck_assert_msg(rules_judge_repeat(&session, hash, &strict, BASE * 1000 + 5, 0, &cause) ==
                      REFRESH_REUSE,
                  "nor by a clock that is behind");
}
END_TEST

START_TEST(a_refresh_token_rotates_repeats_or_betrays_its_session)
{
    static const struct user_record nobody;
    const struct refresh_case *row = &refresh_cases[_i];
    struct session session = make(0, 0);
    enum end_cause cause;
    uint8_t hash[SECRET_HASH];
    session.record.has_previous = true;
    memset(session.record.previous_refresh_hash, 'p', SECRET_HASH);
    memset(hash, row->filler, sizeof(hash));
    ck_assert_int_eq(
        rules_judge_refresh(&nobody, &session, hash, &usual, BASE * 1000 + row->at_ms, &cause),
        row->verdict);
}
END_TEST

START_TEST(a_repetition_is_late_only_when_every_clock_says_so)
{
    struct session session = make(0, 0);
    enum end_cause cause;
    uint8_t hash[SECRET_HASH];
    int64_t late_ms = (BASE + 31 * 86400) * 1000, grace_ms = BASE * 1000 + 29999;
    session.record.has_previous = true;
    memset(session.record.previous_refresh_hash, 'p', SECRET_HASH);
    memset(hash, 'p', sizeof(hash));
    ck_assert(rules_judge_repeat(&session, hash, &usual, late_ms, 0, &cause) == REFRESH_REPEAT);
    ck_assert(rules_judge_repeat(&session, hash, &usual, late_ms, grace_ms, &cause) ==
              REFRESH_REPEAT);
    ck_assert(rules_judge_repeat(&session, hash, &usual, late_ms, grace_ms + 1, &cause) ==
              REFRESH_REUSE);
    ck_assert(rules_judge_repeat(&session, hash, &usual, (BASE - 2) * 1000, 0, &cause) ==
              REFRESH_REUSE);
    session.record.has_previous = false;
    ck_assert(rules_judge_repeat(&session, hash, &usual, late_ms, 0, &cause) == REFRESH_REUSE);
    session.record.has_previous = true;
    /* Over at once, it is refused, but betrays nothing while the same pair would be given again. */
    session.record.previous_refresh_over = true;
    ck_assert(rules_judge_repeat(&session, hash, &usual, late_ms, grace_ms, &cause) ==
              REFRESH_ENDED);
    ck_assert_int_eq(cause, CAUSE_EXPIRED);
    ck_assert(rules_judge_repeat(&session, hash, &usual, late_ms, grace_ms + 1, &cause) ==
              REFRESH_REUSE);
    session.record.previous_refresh_over = false;
    hash[0]++;
    ck_assert(rules_judge_repeat(&session, hash, &usual, late_ms, 0, &cause) == REFRESH_REUSE);
}
END_TEST

START_TEST(a_token_of_a_forgotten_session_is_expired_when_it_is_old_and_unknown_when_not)
{
    struct session session = make(0, 0);
    assert_word(rules_judge_missing(session.id, &usual, (BASE + 7199) * 1000), "unknown");
    assert_word(rules_judge_missing(session.id, &usual, (BASE + 7200) * 1000), "expired");
}
END_TEST

START_TEST(touches_are_coalesced_to_a_tenth_of_the_idle_timeout_at_most_a_minute)
{
    struct session session = make(0, 0);
    struct policy brief = usual;
    brief.idle_timeout = 100;
    ck_assert(!rules_touch_due(&session, &usual, BASE + 59));
    ck_assert(rules_touch_due(&session, &usual, BASE + 60));
    ck_assert(!rules_touch_due(&session, &brief, BASE + 9));
    ck_assert(rules_touch_due(&session, &brief, BASE + 10));
}
END_TEST

/* --- Versions and clocks --------------------------------------------------------------------- */

START_TEST(versions_grow_when_the_clock_goes_back_and_when_the_hash_was_gone)
{
    ck_assert_int_eq(rules_next_version(0, 5000), 5000);
    ck_assert_int_eq(rules_next_version(9000, 5000), 9001);
}
END_TEST

START_TEST(a_login_on_a_node_whose_clock_is_behind_is_not_killed_by_the_logout_before_it)
{
    struct user_state state = {0};
    struct user_record user = {0};
    struct session session = {0};
    rules_end_before_now(&state, &user, BASE * 1000);
    token_new_session_id(rules_creation_ms(&state, user.not_before_ms, BASE * 1000 - 700),
                         session.id);
    session.record.issued_ms = token_session_created_ms(session.id);
    session.record.absolute_s = BASE + 1000000;
    session.last_seen_s = BASE;
    assert_word(rules_end_cause(&user, &session, &usual, BASE * 1000 - 700), NULL);
}
END_TEST

START_TEST(logout_all_ends_sessions_that_a_node_ahead_of_us_created)
{
    struct session ahead = make(1, 1);
    struct user_state state = {.sessions = &ahead, .session_count = 1};
    struct user_record user = {0};
    rules_end_before_now(&state, &user, BASE * 1000);
    assert_word(rules_end_cause(&user, &ahead, &usual, (BASE + 2) * 1000), "revoked");
}
END_TEST

/* --- A wrong clock --------------------------------------------------------------------------- */

#define TEN_YEARS (INT64_C(3653) * 86400)

/* As a node with a right clock makes it, at BASE + at, behind that cutoff. */
static struct session log_in(const struct user_state *state, int64_t not_before_ms, int64_t at)
{
    int64_t now_ms = (BASE + at) * 1000;
    struct session session = {.last_seen_s = BASE + at};
    int64_t created_ms = rules_creation_ms(state, not_before_ms, now_ms);
    token_new_session_id(created_ms, session.id);
    session.record.issued_ms = now_ms;
    session.record.absolute_s = BASE + at + usual.absolute_timeout;
    if (rules_is_ahead(created_ms, now_ms))
        session.record.began_s = BASE + at;
    return session;
}

START_TEST(a_login_behind_a_cutoff_of_a_wrong_clock_lives_as_long_as_any_other)
{
    struct session before[2] = {make(0, 0), make(TEN_YEARS, TEN_YEARS)};
    struct user_state state = {.sessions = before, .session_count = 2};
    struct user_record user = {0};
    rules_end_before_now(&state, &user, (BASE + TEN_YEARS) * 1000);
    struct session later = log_in(&state, user.not_before_ms, 100);
    struct lifetimes lifetimes = rules_lifetimes(&later, &usual, BASE + 100);
    ck_assert_int_eq(lifetimes.access_s, BASE + 100 + usual.access_ttl);
    ck_assert_int_eq(lifetimes.session_s, BASE + 100 + usual.refresh_ttl);
    ck_assert_int_eq(lifetimes.idle_s, BASE + 100 + usual.idle_timeout + 60);
    ck_assert_int_eq(rules_began_s(&later), BASE + 100);
    assert_word(rules_end_cause(&user, &later, &usual, (BASE + 100) * 1000), NULL);
    later.record.remember = true;
    assert_word(rules_end_cause(&user, &later, &usual, (BASE + 100 + usual.refresh_ttl) * 1000),
                "expired");
    for (int i = 0; i < 2; i++)
        assert_word(rules_end_cause(&user, &before[i], &usual, (BASE + 100) * 1000), "revoked");
}
END_TEST

START_TEST(behind_a_cutoff_of_a_wrong_clock_logouts_and_logins_go_on_in_their_order)
{
    struct session sessions[50];
    struct user_state state = {.sessions = sessions};
    struct user_record user = {.not_before_ms = (BASE + TEN_YEARS) * 1000};
    for (int i = 0; i < 50; i++) {
        sessions[i] = log_in(&state, user.not_before_ms, i);
        for (int j = 0; j < i; j++)
            ck_assert_int_lt(memcmp(sessions[j].id, sessions[i].id, SESSION_ID), 0);
        state.session_count++;
        if (i % 10 != 9)
            continue;
        /* The last one was lost by Redis before the logout: it is dead all the same. */
        struct user_state known = {.sessions = sessions, .session_count = (size_t)i};
        rules_end_before_now(&known, &user, (BASE + i) * 1000);
        for (int j = 0; j < i; j++)
            assert_word(rules_end_cause(&user, &sessions[j], &usual, (BASE + i) * 1000), "revoked");
        struct session next = log_in(&state, user.not_before_ms, i);
        assert_word(rules_end_cause(&user, &next, &usual, (BASE + i) * 1000), NULL);
    }
}
END_TEST

START_TEST(a_session_that_redis_lost_at_the_order_of_the_cutoff_is_ended_by_the_next_logout)
{
    struct user_state nobody = {0};
    struct user_record user = {.not_before_ms = (BASE + TEN_YEARS) * 1000};
    struct session lost = log_in(&nobody, user.not_before_ms, 0);
    rules_end_before_now(&nobody, &user, BASE * 1000);
    assert_word(rules_end_cause(&user, &lost, &usual, BASE * 1000), "revoked");
}
END_TEST

START_TEST(a_cutoff_that_no_id_can_hold_kills_no_later_login)
{
    struct user_state nobody = {0};
    struct session old = make(0, 0);
    int64_t cutoff_ms = token_order_ms(INT64_C(4900000000) * 1000); /* in 2125 */
    struct user_record user = {.not_before_ms = cutoff_ms};
    struct session later = log_in(&nobody, user.not_before_ms, 5);
    assert_word(rules_end_cause(&user, &later, &usual, (BASE + 5) * 1000), NULL);
    assert_word(rules_end_cause(&user, &old, &usual, (BASE + 5) * 1000), "revoked");
    ck_assert_int_eq(token_order_ms(BASE * 1000), BASE * 1000);
}
END_TEST

START_TEST(the_end_of_a_tenant_ends_sessions_whose_ids_lie_ahead_and_spares_later_ones)
{
    struct user_state nobody = {0};
    const int64_t ended_s = BASE + 10, not_before_ms = (BASE + 11) * 1000;
    struct session before = log_in(&nobody, (BASE + TEN_YEARS) * 1000, 10);
    struct session after = log_in(&nobody, (BASE + TEN_YEARS) * 1000, 10);
    struct session wrong = make(TEN_YEARS, TEN_YEARS), usual_one = make(11, 11);
    after.record.began_s = rules_began_after_s(ended_s, (BASE + 10) * 1000);
    ck_assert(rules_ended_with_tenant(&before, not_before_ms, ended_s, (BASE + 10) * 1000));
    ck_assert(!rules_ended_with_tenant(&after, not_before_ms, ended_s, (BASE + 10) * 1000));
    ck_assert(rules_ended_with_tenant(&wrong, not_before_ms, ended_s, (BASE + 10) * 1000));
    ck_assert(!rules_ended_with_tenant(&usual_one, not_before_ms, ended_s, (BASE + 10) * 1000));
    ck_assert(!rules_ended_with_tenant(&before, 0, 0, (BASE + 10) * 1000));
    /* A wrong clock has ended them: by the order. */
    int64_t far_s = BASE + TEN_YEARS;
    ck_assert(!rules_ended_with_tenant(&before, far_s * 1000, far_s, (BASE + 20) * 1000));
    ck_assert(rules_ended_with_tenant(&usual_one, far_s * 1000, far_s, (BASE + 20) * 1000));
    ck_assert_int_eq(rules_began_after_s(far_s, BASE * 1000), BASE);
}
END_TEST

START_TEST(no_life_is_longer_than_now_and_the_policy_whatever_is_written)
{
    struct session session = make(TEN_YEARS, TEN_YEARS);
    struct policy fixed = usual;
    fixed.renew = RENEW_FIXED;
    session.record.absolute_s = BASE + 2 * TEN_YEARS;
    for (int i = 0; i < 4; i++) {
        session.record.remember = i % 2;
        struct lifetimes found = rules_lifetimes(&session, i / 2 ? &fixed : &usual, BASE);
        ck_assert_int_le(found.access_s, BASE + usual.access_ttl);
        ck_assert_int_le(found.session_s, BASE + usual.refresh_ttl);
        ck_assert_int_le(found.idle_s,
                         BASE + (i % 2 ? usual.refresh_ttl : usual.idle_timeout + 60));
    }
    ck_assert_int_eq(rules_used_s(&session, &usual, BASE), BASE);
    ck_assert(rules_touch_due(&session, &usual, BASE));
    session.record.has_previous = true;
    memset(session.record.previous_access_hash, 'p', SECRET_HASH);
    assert_word(judge_access(&session, 'p', 0), "expired");
}
END_TEST

/* --- Admission ------------------------------------------------------------------------------- */

/* Sessions 0..3: created at 0, 10, 20, 30; last used at 90, 50, 95, 60; types a, b, a, b; ids
 * d0..d3. */
static void make_four(struct session four[4], struct user_state *state)
{
    static const int64_t seen[] = {90, 50, 95, 60};
    static const char *const ids[] = {"d0", "d1", "d2", "d3"}, *const types[] = {"a", "b", "a",
                                                                                 "b"};
    for (int i = 0; i < 4; i++) {
        four[i] = make(i * 10, seen[i]);
        four[i].device_id = text_of(ids[i]);
        four[i].device_type = text_of(types[i]);
    }
    *state = (struct user_state){.sessions = four, .session_count = 4};
}

struct admission {
    int64_t max_devices;
    enum overflow overflow;
    enum exclusive exclusive;
    const char *device_id, *device_type;
    const char *ended; /* indexes of the sessions that go */
    enum err err;
};

static const struct admission admissions[] = {
    {5, OVERFLOW_EVICT_OLDEST, EXCLUSIVE_NONE, "new", "a", "", ERR_OK},
    {4, OVERFLOW_EVICT_OLDEST, EXCLUSIVE_NONE, "new", "a", "0", ERR_OK},
    {3, OVERFLOW_EVICT_OLDEST, EXCLUSIVE_NONE, "new", "a", "01", ERR_OK},
    {1, OVERFLOW_EVICT_OLDEST, EXCLUSIVE_NONE, "new", "a", "0123", ERR_OK},
    {4, OVERFLOW_EVICT_IDLEST, EXCLUSIVE_NONE, "new", "a", "1", ERR_OK},
    {3, OVERFLOW_EVICT_IDLEST, EXCLUSIVE_NONE, "new", "a", "13", ERR_OK},
    {4, OVERFLOW_EVICT_ALL, EXCLUSIVE_NONE, "new", "a", "0123", ERR_OK},
    {5, OVERFLOW_EVICT_ALL, EXCLUSIVE_NONE, "new", "a", "", ERR_OK},
    {4, OVERFLOW_REJECT, EXCLUSIVE_NONE, "new", "a", "", ERR_DEVICE_LIMIT},
    {5, OVERFLOW_REJECT, EXCLUSIVE_NONE, "new", "a", "", ERR_OK},
    {4, OVERFLOW_REJECT, EXCLUSIVE_NONE, "d2", "a", "2", ERR_OK},
    {4, OVERFLOW_EVICT_OLDEST, EXCLUSIVE_NONE, "d2", "a", "2", ERR_OK},
    {9, OVERFLOW_EVICT_OLDEST, EXCLUSIVE_DEVICE_TYPE, "new", "b", "13", ERR_OK},
    {9, OVERFLOW_EVICT_OLDEST, EXCLUSIVE_DEVICE_TYPE, "new", "c", "", ERR_OK},
    {9, OVERFLOW_EVICT_OLDEST, EXCLUSIVE_USER, "new", "c", "0123", ERR_OK},
    {2, OVERFLOW_REJECT, EXCLUSIVE_DEVICE_TYPE, "new", "b", "13", ERR_DEVICE_LIMIT},
};

START_TEST(a_login_takes_the_place_of_the_sessions_that_the_policy_names)
{
    const struct admission *row = &admissions[_i];
    struct session four[4];
    struct user_state state;
    struct policy policy = usual;
    struct device device = {.id = text_of(row->device_id), .type = text_of(row->device_type)};
    char ended[5] = "";
    make_four(four, &state);
    policy.max_devices = row->max_devices;
    policy.overflow = row->overflow;
    policy.exclusive = row->exclusive;
    ck_assert_int_eq(admit_login(&state, &device, &policy, (BASE + 100) * 1000), row->err);
    for (int i = 0; i < 4; i++)
        if (four[i].ended)
            strcat(ended, (char[]){(char)('0' + i), '\0'});
    if (row->err == ERR_OK)
        ck_assert_str_eq(ended, row->ended);
}
END_TEST

START_TEST(the_idlest_is_the_one_that_cannot_have_been_used_as_recently_as_the_others)
{
    struct policy seldom = usual, often = usual, policy = usual;
    struct session two[2] = {make(0, 90), make(0, 100)};
    struct user_state state = {.sessions = two, .session_count = 2};
    struct device device = {.id = TEXT("new")};
    seldom.idle_timeout = 6000; /* the first may have been used at 149, the second at 109 */
    often.idle_timeout = 100;
    two[0].policy = &seldom;
    two[1].policy = &often;
    policy.max_devices = 2;
    policy.overflow = OVERFLOW_EVICT_IDLEST;
    ck_assert_int_eq(admit_login(&state, &device, &policy, (BASE + 150) * 1000), ERR_OK);
    ck_assert(!two[0].ended && two[1].ended);
}
END_TEST

START_TEST(dead_sessions_take_no_place)
{
    struct session four[4];
    struct user_state state;
    struct device device = {.id = TEXT("new")};
    make_four(four, &state);
    for (int i = 0; i < 4; i++)
        four[i].last_seen_s = BASE - 10000, four[i].record.issued_ms = (BASE - 10000) * 1000;
    ck_assert_int_eq(admit_login(&state, &device, &usual, (BASE + 100) * 1000), ERR_OK);
    for (int i = 0; i < 4; i++)
        ck_assert(!four[i].ended);
}
END_TEST

START_TEST(devices_without_an_id_do_not_replace_each_other)
{
    struct session one = make(0, 0);
    struct user_state state = {.sessions = &one, .session_count = 1};
    struct device device = {0};
    ck_assert_int_eq(admit_login(&state, &device, &usual, (BASE + 1) * 1000), ERR_OK);
    ck_assert(!one.ended);
    ck_assert(admit_device_is_new(&state, device.id));
}
END_TEST

/* --- Settling -------------------------------------------------------------------------------- */

static struct edit settle_with(struct user_state *state, int64_t at, enum clock_trust trust,
                               int64_t age)
{
    static struct state_codec codec;
    codec = (struct state_codec){.keyring = ring, .encrypt = true};
    struct edit edit = {
        .arena = &arena, .codec = &codec, .trust = trust, .age_ms = (BASE + age) * 1000};
    rules_tidy(&edit, state, NULL, &usual, (BASE + at) * 1000);
    return edit;
}

static struct edit settle(struct user_state *state, int64_t at)
{
    return settle_with(state, at, CLOCK_AGREED, at);
}

START_TEST(times_that_lie_ahead_are_brought_down_with_the_next_change)
{
    struct session three[3] = {make(TEN_YEARS, TEN_YEARS), make(0, TEN_YEARS), make(5, 5)};
    struct user_state state = {.sessions = three, .session_count = 3};
    three[0].record.absolute_s = BASE + 2 * TEN_YEARS;
    struct edit edit = settle(&state, 10);
    ck_assert_uint_eq(edit.set_count, 4);    /* two records */
    ck_assert_uint_eq(edit.delete_count, 2); /* and their times of last use */
    ck_assert_int_eq(three[0].record.issued_ms, (BASE + 10) * 1000);
    ck_assert_int_eq(three[0].record.absolute_s, BASE + 10 + usual.absolute_timeout);
    ck_assert_int_eq(three[0].record.began_s, BASE + 10);
    ck_assert_int_eq(three[0].last_seen_s, BASE + 10);
    ck_assert_int_eq(three[1].record.began_s, 0);
    ck_assert_int_eq(rules_began_s(&three[1]), BASE);
    ck_assert_int_eq(edit.expire_ms, (BASE + 10 + usual.refresh_ttl) * 1000);
}
END_TEST

START_TEST(each_time_that_lies_ahead_is_brought_down_alone)
{
    struct session three[3] = {make(TEN_YEARS, 5), make(5, TEN_YEARS), make(5, 5)};
    struct user_state state = {.sessions = three, .session_count = 3};
    three[0].record.issued_ms = (BASE + 5) * 1000;
    three[2].record.issued_ms = (BASE + TEN_YEARS) * 1000;
    settle(&state, 10);
    ck_assert_int_eq(rules_began_s(&three[0]), BASE + 10);
    ck_assert_int_eq(three[1].last_seen_s, BASE + 10);
    ck_assert_int_eq(three[2].record.issued_ms, (BASE + 10) * 1000);
}
END_TEST

START_TEST(what_a_freeze_keeps_from_use_is_neither_buried_nor_forgotten)
{
    struct session one = make(0, 0);
    struct user_state state = {.sessions = &one, .session_count = 1};
    state.user.frozen = true;
    struct edit edit = settle(&state, 5);
    ck_assert_uint_eq(edit.set_count + edit.delete_count, 0);
    ck_assert(!one.ended);
}
END_TEST

START_TEST(while_clocks_disagree_nothing_is_tidied_away_that_one_of_them_says_is_alive)
{
    struct session one = make(0, 0);
    struct tombstone_entry tombstone = {
        .tombstone = {.reason = TEXT("kicked"), .forget_s = BASE + 50}};
    struct user_state state = {
        .sessions = &one, .session_count = 1, .tombstones = &tombstone, .tombstone_count = 1};
    struct edit edit = settle_with(&state, TEN_YEARS, CLOCK_DISPUTED, 10);
    ck_assert_uint_eq(edit.set_count + edit.delete_count, 0);
    ck_assert(!one.ended);
    edit = settle_with(&state, TEN_YEARS, CLOCK_DISPUTED, TEN_YEARS - 5);
    ck_assert_uint_gt(edit.delete_count, 0);
    ck_assert(one.ended);
}
END_TEST

START_TEST(before_any_server_has_told_its_time_nothing_is_tidied_away)
{
    struct session one = make(0, 0);
    struct user_state state = {.sessions = &one, .session_count = 1};
    struct edit edit = settle_with(&state, TEN_YEARS, CLOCK_ALONE, -BASE);
    ck_assert_uint_eq(edit.set_count + edit.delete_count, 0);
    ck_assert(!one.ended);
}
END_TEST

START_TEST(settling_buries_the_idle_forgets_the_expired_and_spares_the_living)
{
    struct session three[3] = {make(0, 0), make(-700000, -700000), make(1000, 1000)};
    struct user_state state = {.sessions = three, .session_count = 3};
    struct edit edit = settle(&state, 1961);
    ck_assert(three[0].ended && three[1].ended && !three[2].ended);
    ck_assert_uint_eq(edit.set_count, 2); /* one tombstone */
    ck_assert_mem_eq(edit.sets[0].data, three[0].id, SESSION_ID);
    ck_assert(!edit.invalidates);
    ck_assert_int_eq(edit.expire_ms, (BASE + 1000 + usual.refresh_ttl) * 1000);
}
END_TEST

START_TEST(the_cutoff_outlives_every_session_that_it_kills)
{
    struct user_state state = {.user = {.not_before_ms = (BASE + 5) * 1000}};
    struct edit edit = settle(&state, 10);
    ck_assert_int_eq(edit.expire_ms, (BASE + 5 + usual.refresh_ttl) * 1000);
}
END_TEST

START_TEST(what_cannot_be_read_is_kept_as_long_as_it_may_matter)
{
    struct user_state state = {.contexts_foreign = true};
    ck_assert_int_eq(settle(&state, 10).expire_ms, contexts_longest_s(BASE + 10) * 1000);
}
END_TEST

START_TEST(wrong_codes_are_kept_for_their_hour)
{
    struct user_state state = {.guesses = {1, BASE + 5}};
    ck_assert_int_eq(settle(&state, 10).expire_ms, (BASE + 5 + GUESSES_SECONDS) * 1000);
}
END_TEST

START_TEST(a_freeze_never_expires)
{
    struct user_state state = {.user = {.frozen = true}};
    ck_assert_int_eq(settle(&state, 10).expire_ms, 0);
}
END_TEST

START_TEST(a_freeze_that_ends_by_itself_is_kept_until_then)
{
    int64_t far_s = BASE + 2 * FREEZING_REMEMBERED_S;
    struct user_state state = {.user = {.frozen = true, .frozen_until_s = far_s}};
    ck_assert_int_eq(settle(&state, 10).expire_ms, far_s * 1000);
}
END_TEST

START_TEST(that_a_user_was_unfrozen_is_remembered_as_long_as_an_older_freeze_may_turn_up)
{
    struct user_state state = {.user = {.decided_ms = (BASE + 5) * 1000}};
    ck_assert_int_eq(settle(&state, 10).expire_ms, (BASE + 5 + FREEZING_REMEMBERED_S) * 1000);
}
END_TEST

START_TEST(tombstones_are_forgotten_in_time_and_do_not_pile_up)
{
    enum { MANY = 150 };
    struct tombstone_entry *tombstones = calloc(MANY, sizeof(*tombstones));
    struct user_state state = {.tombstones = tombstones, .tombstone_count = MANY};
    for (int i = 0; i < MANY; i++) {
        token_new_session_id((BASE + i) * 1000, tombstones[i].id);
        tombstones[i].tombstone.forget_s = BASE + (i == 149 ? 200 : 100000);
    }
    struct edit edit = settle(&state, 300);
    ck_assert_uint_eq(edit.delete_count, 2 * (50 + 1)); /* record and touch of each */
    ck_assert_mem_eq(edit.deletes[0].data, tombstones[0].id, SESSION_ID);
    free(tombstones);
}
END_TEST

/* --- What callers are shown ------------------------------------------------------------------ */

START_TEST(the_device_is_cut_out_of_any_text_that_callers_can_send)
{
    static const char hostile[] = "x\",\"device\":{\"id\":\"forged\"},\\";
    struct text roles[] = {text_of(hostile)};
    struct login login = {.tenant = TEXT("acme"),
                          .user_id = text_of(hostile),
                          .roles = roles,
                          .role_count = 1,
                          .device = {.id = text_of(hostile), .name = TEXT("}{\"")},
                          .attributes = TEXT("{\"device\":{\"id\":\"forged\"}}")};
    struct buffer session_json = {0};
    session_json_write(&session_json, &login);
    struct text device = session_json_device(buffer_text(&session_json));
    struct text id = session_json_device_member(&arena, device, "id");
    struct text name = session_json_device_member(&arena, device, "name");
    ck_assert(text_equal(id, text_of(hostile)));
    ck_assert(text_equal(name, TEXT("}{\"")));
    ck_assert_ptr_null(session_json_device_member(&arena, device, "type").data);
    buffer_free(&session_json);
}
END_TEST

START_TEST(shown_members_are_completed_from_the_session_id)
{
    struct session session = make(0, 0);
    struct login login = {.tenant = TEXT("acme"), .user_id = TEXT("u")};
    struct buffer session_json = {0};
    char expected[300], id[17] = "";
    session_json_write(&session_json, &login);
    text_to_hex(id, session.id, SESSION_ID);
    struct text complete =
        session_json_complete(&arena, buffer_text(&session_json), session.id, BASE);
    snprintf(expected, sizeof(expected),
             "\"tenant\":\"acme\",\"user_id\":\"u\",\"roles\":[],\"device\":{},\"attributes\":{},"
             "\"session_id\":\"%s\",\"created_at\":1800000000",
             id);
    ck_assert(text_equal(complete, text_of(expected)));
    buffer_free(&session_json);
}
END_TEST

static bool outlived_at(const struct session *session, int64_t at)
{
    const struct operation operation = {.now_ms = (BASE + at) * 1000};
    return operation_outlived(&operation, session->id, usual.absolute_timeout);
}

START_TEST(a_token_is_too_old_only_when_no_clock_denies_it)
{
    const int64_t over = usual.absolute_timeout;
    const struct session session = make(0, 0);
    clock_fake((BASE + over) * 1000); /* agreed */
    ck_assert(outlived_at(&session, over));
    ck_assert(!outlived_at(&session, over - 1));
    clock_fake((BASE + over - 1) * 1000);
    ck_assert(!outlived_at(&session, over));
    clock_fake_boot(over * 1000); /* alone, and nothing bears it out */
    ck_assert(!outlived_at(&session, over));
    clock_fake(0);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

/* A node whose clock is wrong. */
static void add_wrong_clock(TCase *life)
{
    tcase_add_test(life, a_login_behind_a_cutoff_of_a_wrong_clock_lives_as_long_as_any_other);
    tcase_add_test(life, behind_a_cutoff_of_a_wrong_clock_logouts_and_logins_go_on_in_their_order);
    tcase_add_test(
        life, a_session_that_redis_lost_at_the_order_of_the_cutoff_is_ended_by_the_next_logout);
    tcase_add_test(life, a_cutoff_that_no_id_can_hold_kills_no_later_login);
    tcase_add_test(life,
                   the_end_of_a_tenant_ends_sessions_whose_ids_lie_ahead_and_spares_later_ones);
    tcase_add_test(life, no_life_is_longer_than_now_and_the_policy_whatever_is_written);
    tcase_add_test(life, a_token_is_too_old_only_when_no_clock_denies_it);
}

static Suite *rules_suite(void)
{
    Suite *suite = suite_create("rules");
    TCase *life = tcase_create("life"), *tokens = tcase_create("tokens");
    TCase *admission = tcase_create("admission"), *settling = tcase_create("settling");
    add_wrong_clock(life);
    tcase_add_test(life, a_session_lives_to_the_end_of_the_second_that_is_shown_as_its_idle_end);
    tcase_add_loop_test(life, a_session_is_idle_for_its_whole_timeout_before_it_ends_for_it, 0, 6);
    tcase_add_test(life, with_fixed_renewal_use_does_not_move_the_idle_end);
    tcase_add_test(life, a_remembered_session_has_no_idle_end_but_ends_with_its_refresh_token);
    tcase_add_test(life, activity_and_refresh_do_not_carry_a_session_past_its_absolute_end);
    tcase_add_test(life, a_shorter_policy_holds_for_living_sessions_and_a_longer_one_too);
    tcase_add_test(life, sessions_older_than_not_before_are_revoked_but_for_the_exempt_one);
    tcase_add_test(life, a_freeze_holds_until_its_end_or_for_ever);
    tcase_add_test(life, versions_grow_when_the_clock_goes_back_and_when_the_hash_was_gone);
    tcase_add_test(life,
                   a_login_on_a_node_whose_clock_is_behind_is_not_killed_by_the_logout_before_it);
    tcase_add_test(life, logout_all_ends_sessions_that_a_node_ahead_of_us_created);
    tcase_add_test(tokens, the_access_token_ends_before_its_session);
    tcase_add_test(tokens, the_access_token_before_the_refresh_lives_for_the_grace_window);
    tcase_add_test(tokens, an_access_token_that_was_over_gets_no_grace_from_the_refresh);
    tcase_add_test(tokens, without_a_previous_pair_its_empty_hash_opens_nothing);
    tcase_add_test(
        tokens, without_a_grace_window_no_refresh_is_a_repetition_not_even_in_the_same_millisecond);
    tcase_add_loop_test(tokens, a_refresh_token_rotates_repeats_or_betrays_its_session, 0,
                        ROWS(refresh_cases));
    tcase_add_test(tokens, a_repetition_is_late_only_when_every_clock_says_so);
    tcase_add_test(tokens,
                   a_token_of_a_forgotten_session_is_expired_when_it_is_old_and_unknown_when_not);
    tcase_add_test(tokens, touches_are_coalesced_to_a_tenth_of_the_idle_timeout_at_most_a_minute);
    tcase_add_loop_test(admission, a_login_takes_the_place_of_the_sessions_that_the_policy_names, 0,
                        ROWS(admissions));
    tcase_add_test(admission,
                   the_idlest_is_the_one_that_cannot_have_been_used_as_recently_as_the_others);
    tcase_add_test(admission, dead_sessions_take_no_place);
    tcase_add_test(admission, devices_without_an_id_do_not_replace_each_other);
    tcase_add_checked_fixture(settling, setup, teardown);
    tcase_add_test(settling, times_that_lie_ahead_are_brought_down_with_the_next_change);
    tcase_add_test(settling, each_time_that_lies_ahead_is_brought_down_alone);
    tcase_add_test(settling, what_a_freeze_keeps_from_use_is_neither_buried_nor_forgotten);
    tcase_add_test(settling,
                   while_clocks_disagree_nothing_is_tidied_away_that_one_of_them_says_is_alive);
    tcase_add_test(settling, before_any_server_has_told_its_time_nothing_is_tidied_away);
    tcase_add_test(settling, settling_buries_the_idle_forgets_the_expired_and_spares_the_living);
    tcase_add_test(settling, the_cutoff_outlives_every_session_that_it_kills);
    tcase_add_test(settling, what_cannot_be_read_is_kept_as_long_as_it_may_matter);
    tcase_add_test(settling, wrong_codes_are_kept_for_their_hour);
    tcase_add_test(settling, a_freeze_never_expires);
    tcase_add_test(settling, a_freeze_that_ends_by_itself_is_kept_until_then);
    tcase_add_test(settling,
                   that_a_user_was_unfrozen_is_remembered_as_long_as_an_older_freeze_may_turn_up);
    tcase_add_test(settling, tombstones_are_forgotten_in_time_and_do_not_pile_up);
    tcase_add_test(settling, the_device_is_cut_out_of_any_text_that_callers_can_send);
    tcase_add_test(settling, shown_members_are_completed_from_the_session_id);
    suite_add_tcase(suite, life);
    suite_add_tcase(suite, tokens);
    suite_add_tcase(suite, admission);
    suite_add_tcase(suite, settling);
    return suite;
}

int main(void)
{
    return support_run(rules_suite());
}
