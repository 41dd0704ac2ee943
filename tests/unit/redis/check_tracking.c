/* Tracking connections: their invalidations, generations and proofs, and what ends them. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "redis/state/store_state.h"
#include "support_clock.h"
#include "support_run.h"
#include "support_store.h"

static struct store_rig rig;
static struct redis_node *first, *second;

/* --- what the watcher heard --- */

static struct {
    pthread_mutex_t lock;
    char keys[256];     /* joined by commas */
    unsigned doubts[2]; /* calls without and with another owner */
    unsigned slots[2];  /* of the latest such call */
    unsigned lowest[2];
} told = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_changed(void *user, struct text key)
{
    ck_assert_ptr_eq(user, &told);
    pthread_mutex_lock(&told.lock);
    size_t length = strlen(told.keys);
    snprintf(told.keys + length, sizeof(told.keys) - length, "%.*s,", (int)key.length, key.data);
    pthread_mutex_unlock(&told.lock);
}

static void on_doubted(void *user, const uint8_t slots[16384 / 8], bool owner_changed)
{
    ck_assert_ptr_eq(user, &told);
    pthread_mutex_lock(&told.lock);
    told.doubts[owner_changed]++;
    told.slots[owner_changed] = 0;
    for (unsigned slot = 16384; slot-- > 0;) {
        if (!(slots[slot / 8] & (1 << (slot % 8))))
            continue;
        told.slots[owner_changed]++;
        told.lowest[owner_changed] = slot;
    }
    pthread_mutex_unlock(&told.lock);
}

static const struct store_listener watcher = {&told, on_changed, on_doubted};

static unsigned doubts(bool owner_changed, unsigned *slots)
{
    pthread_mutex_lock(&told.lock);
    unsigned count = told.doubts[owner_changed];
    if (slots)
        *slots = told.slots[owner_changed];
    pthread_mutex_unlock(&told.lock);
    return count;
}

static bool was_told(const char *keys)
{
    pthread_mutex_lock(&told.lock);
    bool same = strcmp(told.keys, keys) == 0;
    pthread_mutex_unlock(&told.lock);
    return same;
}

/* --- helpers --- */

static void start(void)
{
    first = redis_node_start(0);
    redis_node_allow_watch(first);
    rig_open_standalone(&rig, first);
    store_listen(rig.store, &watcher);
}

static void stop(void)
{
    rig_close(&rig);
    redis_node_stop(&first);
    ck_assert_int_eq(metrics_read(METRIC_WATCHES), 0);
}

static void set_owner(unsigned end, bool of_second)
{
    char map[256];
    snprintf(map, sizeof(map),
             "*2\r\n*3\r\n:0\r\n:%u\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n"
             "*3\r\n:%u\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n",
             end - 1, redis_node_port(of_second ? second : first), end, redis_node_port(second));
    redis_node_slots(first, map);
    redis_node_slots(second, map);
}

/* Slots below `end` are the first's, others the second's. */
static void start_two(unsigned end)
{
    first = redis_node_start(0);
    second = redis_node_start(0);
    redis_node_allow_watch(first);
    redis_node_allow_watch(second);
    set_owner(end, false);
    rig_open_cluster(&rig, (struct redis_node *[]){first, second}, 2);
    store_listen(rig.store, &watcher);
}

static void stop_two(void)
{
    stop();
    redis_node_stop(&second);
}

static uint32_t generation(unsigned slot)
{
    return store_generation(rig.store, slot);
}

/* The slots of a master follow one by one. */
static void expect_generation(unsigned slot, uint32_t number)
{
    for (int i = 0; i < 600 && generation(slot) != number; i++)
        rig_run(&rig, 5);
    ck_assert_msg(generation(slot) == number, "slot %u has generation %u, not %u", slot,
                  generation(slot), number);
}

static void expect_doubts(bool owner_changed, unsigned *slots, unsigned count)
{
    for (int i = 0; i < 600 && doubts(owner_changed, slots) != count; i++)
        rig_run(&rig, 5);
    ck_assert_uint_eq(doubts(owner_changed, slots), count);
}

/* Waits until the slot has a generation other than this one. */
static uint32_t wait_for_generation(unsigned slot, uint32_t other_than)
{
    for (int i = 0; i < 600 && (generation(slot) == 0 || generation(slot) == other_than); i++)
        rig_run(&rig, 5);
    ck_assert_uint_ne(generation(slot), 0);
    ck_assert_uint_ne(generation(slot), other_than);
    return generation(slot);
}

static int64_t losses; /* when wait_for_loss() saw one; a server that stays silent causes more */

/* Returns how long it took by support_clock_ms(). */
static int64_t wait_for_loss(unsigned slot)
{
    int64_t begun_ms = support_clock_ms();
    for (int i = 0; i < 800 && generation(slot) != 0; i++)
        rig_run(&rig, 5);
    losses = metrics_read(METRIC_WATCHES_LOST);
    ck_assert_uint_eq(generation(slot), 0);
    return support_clock_ms() - begun_ms;
}

/* Without what the machine has kept this program waiting since the first test's first look. */
static int64_t proof_age(uint32_t number)
{
    static int64_t behind_ms = INT64_MAX;
    int64_t waited_ms = clock_monotonic_ms() - support_clock_ms();
    behind_ms = waited_ms < behind_ms ? waited_ms : behind_ms;
    return clock_boot_ms() - store_proof_ms(rig.store, number) - (waited_ms - behind_ms);
}

static void fetch_map(void)
{
    int64_t before = metrics_read(METRIC_STORE_MAP_REFRESHES);
    store_state_want_refresh(rig.store);
    for (int i = 0; i < 500 && metrics_read(METRIC_STORE_MAP_REFRESHES) == before; i++)
        rig_run(&rig, 5);
    rig_run(&rig, 30);
}

/* --- up --- */

START_TEST(a_watch_that_is_up_is_a_generation_whose_proof_stays_young)
{
    unsigned slots;
    start();
    uint32_t number = wait_for_generation(0, 0);
    expect_generation(16383, number);
    for (int i = 0; i < 8; i++) {
        rig_run(&rig, 100);
        ck_assert_int_le(store_proof_ms(rig.store, number), clock_boot_ms());
        ck_assert_int_lt(proof_age(number), 450);
    }
    expect_generation(5, number);
    ck_assert_int_eq(metrics_read(METRIC_BREAKER_OPENED), 0);
    expect_doubts(true, &slots, 1);
    ck_assert_uint_eq(slots, 16384);
    expect_doubts(false, NULL, 0);
    ck_assert_int_eq(metrics_read(METRIC_WATCHES), 1);
    struct store_node_health health;
    ck_assert_uint_eq(store_nodes(rig.store, &health, 1), 1);
    ck_assert(health.tracked);
    stop();
}
END_TEST

START_TEST(a_proof_is_as_old_as_the_host_has_slept)
{
    start();
    uint32_t number = wait_for_generation(0, 0);
    redis_node_mute(first, true);
    clock_fake_sleep(20 * 60 * 1000);
    ck_assert_int_ge(clock_boot_ms() - store_proof_ms(rig.store, number), 20 * 60 * 1000);
    redis_node_mute(first, false);
    for (int i = 0; i < 500 && proof_age(generation(0)) >= 450; i++)
        rig_run(&rig, 10);
    ck_assert_int_lt(proof_age(generation(0)), 450);
    stop();
}
END_TEST

START_TEST(without_a_watcher_nothing_is_watched)
{
    first = redis_node_start(0);
    redis_node_allow_watch(first);
    rig_open_standalone(&rig, first);
    rig_run(&rig, 300);
    ck_assert_uint_eq(redis_node_watches(first), 0);
    expect_generation(0, 0);
    stop();
}
END_TEST

START_TEST(who_is_told_no_more_is_told_no_more_and_nothing_passes_for_watched)
{
    start();
    uint32_t before = wait_for_generation(0, 0);
    store_listen(rig.store, NULL);
    redis_node_publish(first, "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
                              "*1\r\n$8\r\nsd:e:{c}\r\n");
    wait_for_loss(0);
    ck_assert(was_told(""));
    store_listen(rig.store, &watcher);
    wait_for_generation(0, before);
    expect_doubts(true, NULL, 2);
    stop();
}
END_TEST

START_TEST(changed_keys_are_told_one_by_one)
{
    start();
    wait_for_generation(0, 0);
    redis_node_publish(first, "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
                              "*2\r\n$8\r\nsd:e:{a}\r\n$6\r\nsd:p:b\r\n"
                              "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
                              "*1\r\n$8\r\nsd:e:{c}\r\n");
    for (int i = 0; i < 200 && !was_told("sd:e:{a},sd:p:b,sd:e:{c},"); i++)
        rig_run(&rig, 5);
    ck_assert(was_told("sd:e:{a},sd:p:b,sd:e:{c},"));
    ck_assert_int_eq(metrics_read(METRIC_CACHE_INVALIDATIONS), 3);
    ck_assert_int_eq(metrics_read(METRIC_WATCHES_LOST), 0);
    stop();
}
END_TEST

START_TEST(a_server_that_was_emptied_begins_a_new_generation_and_is_doubted)
{
    unsigned slots;
    start();
    uint32_t before = wait_for_generation(0, 0);
    redis_node_publish(first, "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*-1\r\n");
    ck_assert_uint_gt(wait_for_generation(0, before), before);
    expect_doubts(true, &slots, 2);
    ck_assert_uint_eq(slots, 16384);
    ck_assert(was_told(""));
    stop();
}
END_TEST

/* --- ends --- */

START_TEST(a_watch_that_is_cut_comes_back_with_a_new_generation_and_its_slots_are_doubted)
{
    unsigned slots;
    start();
    uint32_t before = wait_for_generation(0, 0);
    redis_node_drop_watches(first);
    uint32_t after = wait_for_generation(0, before);
    ck_assert_uint_gt(after, before);
    ck_assert_int_eq(metrics_read(METRIC_WATCHES_LOST), 1);
    expect_doubts(false, &slots, 1);
    ck_assert_uint_eq(slots, 16384);
    expect_doubts(true, NULL, 1);
    /* An ended generation has its last proof. */
    ck_assert_int_ne(store_proof_ms(rig.store, before), INT64_MIN);
    ck_assert_int_lt(store_proof_ms(rig.store, before), store_proof_ms(rig.store, after));
    stop();
}
END_TEST

START_TEST(a_silent_server_trips_its_breaker_and_then_loses_its_generation)
{
    start();
    wait_for_generation(0, 0);
    redis_node_mute(first, true);
    struct store_node_health health = {0};
    int64_t began_ms = clock_monotonic_ms(), begun_ms = support_clock_ms();
    for (int i = 0; i < 600 && health.breaker == BREAKER_CLOSED; i++) {
        rig_run(&rig, 5);
        store_nodes(rig.store, &health, 1);
    }
    ck_assert_int_eq(health.breaker, BREAKER_OPEN);
    ck_assert_int_ge(clock_monotonic_ms() - began_ms, 480);
    ck_assert_int_le(support_clock_ms() - begun_ms, 850);
    int64_t lost_ms = support_clock_ms() - begun_ms + wait_for_loss(0);
    ck_assert_int_ge(clock_monotonic_ms() - began_ms, 980);
    ck_assert_int_le(lost_ms, 1400);
    ck_assert_int_eq(losses, 1);
    redis_node_mute(first, false);
    wait_for_generation(0, 0);
    stop();
}
END_TEST

START_TEST(a_late_answer_keeps_the_watch_and_gives_the_node_back)
{
    start();
    uint32_t number = wait_for_generation(0, 0);
    redis_node_mute(first, true);
    struct store_node_health health = {0};
    for (int i = 0; i < 300 && health.breaker != BREAKER_OPEN; i++) {
        rig_run(&rig, 5);
        store_nodes(rig.store, &health, 1);
    }
    /* Its pause alone would not end in this test. */
    struct endpoint endpoint = {"127.0.0.1", redis_node_port(first)};
    atomic_fetch_add(&breakers_find(rig.store, &endpoint)->breaker.open_until_ms, 60000);
    redis_node_mute(first, false);
    redis_node_publish(first, "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    for (int i = 0; i < 60 && health.breaker == BREAKER_OPEN; i++) {
        rig_run(&rig, 5);
        store_nodes(rig.store, &health, 1);
    }
    ck_assert_int_eq(health.breaker, BREAKER_HALF_OPEN);
    expect_generation(0, number);
    ck_assert_int_eq(metrics_read(METRIC_WATCHES_LOST), 0);
    stop();
}
END_TEST

START_TEST(a_frozen_server_loses_its_generation_and_gets_it_back)
{
    start();
    uint32_t before = wait_for_generation(0, 0);
    redis_node_freeze(first, true);
    ck_assert_int_le(wait_for_loss(0), 1400);
    redis_node_freeze(first, false);
    wait_for_generation(0, before);
    stop();
}
END_TEST

START_TEST(garbage_ends_a_watch)
{
    start();
    uint32_t before = wait_for_generation(0, 0);
    redis_node_publish(first, _i ? "+what\r\n" : "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    wait_for_generation(0, before);
    ck_assert_int_eq(metrics_read(METRIC_WATCHES_LOST), 1);
    stop();
}
END_TEST

/* --- servers that cannot be watched --- */

/* A server that does not tell its run is tracked all the same. */
#define INTRODUCED EXPECT("INFO server"), SEND("-NOPERM no permissions\r\n")

static const struct {
    struct redis_step steps[8];
    size_t count;
} refusal_rows[] = {
    {{INTRODUCED, EXPECT("CLIENT ID"), SEND("-ERR unknown subcommand\r\n")}, 4},
    {{INTRODUCED, EXPECT("CLIENT ID"), SEND(":5\r\n"), EXPECT("CLIENT TRACKING ON REDIRECT 5 *"),
      SEND("-NOPERM no permissions\r\n")},
     6},
    {{INTRODUCED, EXPECT("CLIENT ID"), SEND(":5\r\n"), EXPECT("CLIENT TRACKING *"), SEND("+OK\r\n"),
      EXPECT("SUBSCRIBE __redis__:invalidate"), SEND("-NOPERM no permissions\r\n")},
     8},
};

START_TEST(a_server_that_refuses_is_used_without_a_watch)
{
    static struct store_probe probe;
    first = redis_node_start(0);
    redis_node_script(first, refusal_rows[_i].steps, refusal_rows[_i].count);
    rig_open_standalone(&rig, first);
    store_listen(rig.store, &watcher);
    rig_run(&rig, 300);
    expect_generation(0, 0);
    redis_node_script(first, SCRIPT(EXPECT("GET foo"), SEND("+OK\r\n")));
    rig_call(&rig, &probe, "GET foo", 0, 2000);
    ck_assert_int_eq(probe.err, ERR_OK);
    struct store_node_health health;
    ck_assert_uint_eq(store_nodes(rig.store, &health, 1), 1);
    ck_assert(!health.tracked);
    ck_assert_int_eq(health.breaker, BREAKER_CLOSED);
    stop();
}
END_TEST

/* --- maps --- */

START_TEST(each_master_has_a_generation_and_loses_only_its_own)
{
    start_two(8192);
    uint32_t a = wait_for_generation(0, 0), b = wait_for_generation(16383, 0);
    ck_assert_uint_ne(a, b);
    expect_generation(8191, a);
    expect_generation(8192, b);
    ck_assert_int_eq(metrics_read(METRIC_WATCHES), 2);
    redis_node_freeze(first, true);
    wait_for_loss(0);
    expect_generation(8191, 0);
    expect_generation(8192, b);
    redis_node_freeze(first, false);
    wait_for_generation(0, a);
    stop_two();
}
END_TEST

/* It hears of no change any more, but answers pings. */
static const char *const unfit_rows[] = {
    "-CLUSTERDOWN The cluster is down\r\n",
    "-MOVED 866 127.0.0.1:1\r\n",
};

/* It may have read an old dump: all that is known of its slots is to be held against it. */
START_TEST(a_server_that_was_started_anew_is_doubted_as_another_one)
{
    static const char *const introductions[] = {
        "$47\r\nrun_id:2222222222222222222222222222222222222222\r\n",
        "$12\r\nrun_id:11111\r\n",
        "-NOPERM no permissions\r\n",
    };
    unsigned slots;
    start();
    uint32_t before = wait_for_generation(0, 0);
    expect_doubts(true, NULL, 1);
    redis_node_answer(first, "INFO server", introductions[_i]);
    redis_node_drop_watches(first);
    wait_for_generation(0, before);
    expect_doubts(true, &slots, 2);
    ck_assert_uint_eq(slots, 16384);
    expect_doubts(false, NULL, 0);
    stop();
}
END_TEST

START_TEST(a_master_that_does_not_serve_has_no_generation)
{
    unsigned slots;
    start_two(8192);
    uint32_t a = wait_for_generation(0, 0), b = wait_for_generation(16383, 0);
    redis_node_answer(first, PINGED_BY, unfit_rows[_i]);
    ck_assert_int_le(wait_for_loss(0), 1500);
    expect_generation(16383, b);
    rig_run(&rig, 1200);
    expect_generation(0, 0);
    redis_node_answer(first, PINGED_BY, "$-1\r\n");
    ck_assert_uint_gt(wait_for_generation(0, a), b);
    expect_doubts(true, &slots, 2);
    ck_assert_uint_eq(slots, 8192);
    stop_two();
}
END_TEST

static void set_claims(const char *slots)
{
    char line[256], reply[300];
    snprintf(line, sizeof(line),
             "aa 127.0.0.1:1@2 master - 0 1 2 connected 0-16383\n"
             "bb 127.0.0.1:3@4 myself,master - 0 1 3 connected %s\n",
             slots);
    snprintf(reply, sizeof(reply), "$%zu\r\n%s\r\n", strlen(line), line);
    redis_node_answer(first, "CLUSTER NODES", reply);
}

START_TEST(slots_that_a_master_does_not_claim_have_no_generation)
{
    unsigned slots;
    start_two(8192);
    uint32_t a = wait_for_generation(0, 0), b = wait_for_generation(16383, 0);
    /* The last goes over to another node, and nobody has moved in the map. */
    set_claims("0-99 200 300-8191 [8191->-cc] [12000-<-cc]");
    ck_assert_int_le(wait_for_loss(8191), 1300);
    expect_generation(0, a);
    expect_generation(99, a);
    expect_generation(100, 0);
    expect_generation(199, 0);
    expect_generation(200, a);
    expect_generation(201, 0);
    expect_generation(8190, a);
    expect_generation(12000, b);
    rig_run(&rig, 400);
    expect_generation(8191, 0);
    expect_doubts(false, NULL, 0);
    /* It thought better of it. */
    set_claims("0-8191");
    ck_assert_uint_gt(wait_for_generation(8191, 0), b);
    expect_generation(100, generation(8191));
    expect_generation(0, a);
    expect_doubts(false, &slots, 1);
    ck_assert_uint_eq(slots, 100 + 99 + 1);
    /* Through a loss and after it, what is not claimed is not watched. */
    set_claims("0-8190");
    wait_for_loss(8191);
    redis_node_drop_watches(first);
    wait_for_generation(0, a);
    expect_generation(8191, 0);
    stop_two();
}
END_TEST

/* The slot's generation is proven by a ping that was sent later. */
static void wait_for_proof(unsigned slot, int64_t since_ms)
{
    for (int i = 0; i < 200 && store_proof_ms(rig.store, generation(slot)) < since_ms; i++)
        rig_run(&rig, 50);
    ck_assert_int_ge(store_proof_ms(rig.store, generation(slot)), since_ms);
}

START_TEST(slots_that_move_get_a_generation_that_they_never_had)
{
    unsigned slots;
    start_two(8192);
    uint32_t a = wait_for_generation(0, 0), b = wait_for_generation(16383, 0);
    set_owner(8000, false);
    fetch_map();
    expect_generation(7999, a);
    expect_generation(8192, b);
    uint32_t moved = generation(8000);
    ck_assert_uint_gt(moved, b);
    ck_assert_uint_gt(moved, a);
    expect_generation(8191, moved);
    expect_doubts(true, &slots, 2);
    ck_assert_uint_eq(slots, 192);
    ck_assert_uint_eq(told.lowest[1], 8000);
    int64_t now_ms = clock_monotonic_ms();
    wait_for_proof(8000, now_ms);
    wait_for_proof(16383, now_ms);
    /* And back: not the one that they had before. */
    set_owner(8192, false);
    fetch_map();
    ck_assert_uint_gt(generation(8000), moved);
    expect_generation(0, a);
    stop_two();
}
END_TEST

START_TEST(many_migrations_do_not_use_the_generations_up)
{
    start_two(8192);
    wait_for_generation(0, 0);
    uint32_t last = wait_for_generation(16383, 0);
    for (unsigned i = 1; i <= 40; i++) {
        set_owner(8192 - i, false);
        fetch_map();
        ck_assert_uint_gt(generation(8192 - i), last);
        last = generation(8192 - i);
    }
    int64_t now_ms = clock_monotonic_ms();
    for (unsigned slot = 0; slot < 16384; slot += 3)
        wait_for_proof(slot, now_ms);
    stop_two();
}
END_TEST

START_TEST(a_master_that_owns_nothing_any_more_is_not_watched)
{
    start_two(8192);
    wait_for_generation(0, 0);
    wait_for_generation(16383, 0);
    set_owner(8192, true);
    fetch_map();
    ck_assert_int_eq(metrics_read(METRIC_WATCHES), 1);
    ck_assert_int_eq(metrics_read(METRIC_WATCHES_LOST), 0);
    ck_assert_uint_ne(generation(0), 0);
    ck_assert_uint_ne(generation(0), generation(16383));
    stop_two();
}
END_TEST

/* --- the table --- */

static struct generations generations;

START_TEST(a_place_that_is_used_again_is_never_taken_for_what_it_was)
{
    uint32_t old = generations_begin(&generations, 100),
             kept = generations_begin(&generations, 200);
    generations_end(&generations, old);
    ck_assert_int_eq(generations_proof(&generations, old), 100);
    for (unsigned i = 0; i < 3 * GENERATIONS_PLACES; i++) {
        uint32_t number = generations_begin(&generations, i);
        ck_assert_uint_ne(number, 0);
        ck_assert_int_eq(generations_proof(&generations, number), i);
        generations_end(&generations, number);
    }
    ck_assert_int_eq(generations_proof(&generations, old), INT64_MIN);
    ck_assert_int_eq(generations_proof(&generations, kept), 200);
    ck_assert_int_eq(generations_proof(&generations, 0), INT64_MIN);
    ck_assert_int_eq(generations_proof(&generations, kept + GENERATIONS_PLACES), INT64_MIN);
}
END_TEST

START_TEST(when_all_places_are_taken_there_is_no_generation)
{
    for (unsigned i = 0; i < GENERATIONS_PLACES; i++)
        ck_assert_uint_ne(generations_begin(&generations, 1), 0);
    ck_assert_uint_eq(generations_begin(&generations, 1), 0);
    generations_end(&generations, 77);
    ck_assert_uint_ne(generations_begin(&generations, 1), 0);
}
END_TEST

static atomic_bool enough;
static atomic_uint seen; /* proofs, by the reader */

/* Every proof says its number, so a torn one would show. */
static void *read_proofs(void *user)
{
    while (!atomic_load(&enough)) {
        uint32_t number = generations_of(&generations, 0);
        int64_t proof_ms = generations_proof(&generations, number);
        if (proof_ms == INT64_MIN)
            continue;
        ck_assert_int_eq(proof_ms / 1000, number);
        atomic_fetch_add(&seen, 1);
    }
    return user;
}

START_TEST(readers_never_see_a_proof_of_another)
{
    pthread_t reader;
    ck_assert_int_eq(pthread_create(&reader, NULL, read_proofs, NULL), 0);
    /* The reader may get its processor late. */
    for (unsigned i = 0; i < 60 * GENERATIONS_PLACES || atomic_load(&seen) < 1000; i++) {
        uint32_t number = generations_begin(&generations, (int64_t)(generations.last + 1) * 1000);
        generations_assign(&generations, 0, number);
        generations_prove(&generations, number, (int64_t)number * 1000 + 7);
        generations_end(&generations, number);
    }
    atomic_store(&enough, true);
    pthread_join(reader, NULL);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

static TCase *watch_case(void)
{
    TCase *tracker = tcase_create("watches");
    tcase_set_timeout(tracker, 30);
    tcase_add_test(tracker, a_watch_that_is_up_is_a_generation_whose_proof_stays_young);
    tcase_add_test(tracker, a_proof_is_as_old_as_the_host_has_slept);
    tcase_add_test(tracker, without_a_watcher_nothing_is_watched);
    tcase_add_test(tracker, who_is_told_no_more_is_told_no_more_and_nothing_passes_for_watched);
    tcase_add_test(tracker, changed_keys_are_told_one_by_one);
    tcase_add_loop_test(tracker, a_server_that_was_started_anew_is_doubted_as_another_one, 0, 3);
    tcase_add_test(tracker, a_server_that_was_emptied_begins_a_new_generation_and_is_doubted);
    tcase_add_test(tracker,
                   a_watch_that_is_cut_comes_back_with_a_new_generation_and_its_slots_are_doubted);
    tcase_add_test(tracker, a_silent_server_trips_its_breaker_and_then_loses_its_generation);
    tcase_add_test(tracker, a_late_answer_keeps_the_watch_and_gives_the_node_back);
    tcase_add_test(tracker, a_frozen_server_loses_its_generation_and_gets_it_back);
    tcase_add_loop_test(tracker, garbage_ends_a_watch, 0, 2);
    tcase_add_loop_test(tracker, a_server_that_refuses_is_used_without_a_watch, 0,
                        ROWS(refusal_rows));
    tcase_add_test(tracker, each_master_has_a_generation_and_loses_only_its_own);
    tcase_add_loop_test(tracker, a_master_that_does_not_serve_has_no_generation, 0,
                        ROWS(unfit_rows));
    tcase_add_test(tracker, slots_that_a_master_does_not_claim_have_no_generation);
    tcase_add_test(tracker, slots_that_move_get_a_generation_that_they_never_had);
    tcase_add_test(tracker, many_migrations_do_not_use_the_generations_up);
    tcase_add_test(tracker, a_master_that_owns_nothing_any_more_is_not_watched);
    return tracker;
}

int main(void)
{
    Suite *suite = suite_create("store_watch");
    suite_add_tcase(suite, watch_case());
    TCase *table = tcase_create("table");
    tcase_add_test(table, a_place_that_is_used_again_is_never_taken_for_what_it_was);
    tcase_add_test(table, when_all_places_are_taken_there_is_no_generation);
    tcase_add_test(table, readers_never_see_a_proof_of_another);
    suite_add_tcase(suite, table);
    return support_run(suite);
}
