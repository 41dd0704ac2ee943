/* The table of tenants: what is found, when it is void, how much it takes, and the file. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "metrics.h"
#include "tenants.h"

#include "support_keys.h"
#include "support_run.h"

enum { PLENTY = 128 << 20, MANY = 100000 };

static struct tenants *tenants;
static struct tenants_view *view;
static struct conf *conf;

static void set_up(void)
{
    crypto_init();
    tenants = tenants_create(PLENTY);
    view = tenants_view_create(tenants);
    conf = conf_defaults();
}

static void tear_down(void)
{
    clock_fake(0);
    tenants_view_destroy(&view);
    tenants_destroy(&tenants);
    conf_unref(&conf);
    ck_assert_int_eq(metrics_read(METRIC_TENANTS), 0);
    ck_assert_int_eq(metrics_read(METRIC_TENANTS_BYTES), 0);
}

struct tag {
    uint8_t bytes[TENANT_TAG];
};

static struct tag tag_of(uint32_t number)
{
    struct tag tag = {{0xa5}};
    memcpy(tag.bytes + 1, &number, sizeof(number));
    return tag;
}

static struct tenant *tenant_of_version(int64_t version)
{
    return tenant_state_create(&(struct tenant){.version = version, .ended_s = 2 * version});
}

/* Puts a state that is known to be true now. */
static bool put(uint32_t number, int64_t version, uint32_t generation)
{
    struct tag tag = tag_of(number);
    struct tenant *tenant = tenant_of_version(version);
    bool behind;
    bool stored = tenants_put(tenants, tag.bytes, tenant, generation, clock_boot_ms(),
                              tenants_lease(tenants, tag.bytes), &behind);
    ck_assert(stored != behind);
    tenant_state_unref(&tenant);
    return stored;
}

static bool find(uint32_t number, struct tenant_row *ret)
{
    return tenants_find(view, tag_of(number).bytes, ret);
}

static void assert_found(uint32_t number, int64_t version, uint32_t generation)
{
    struct tenant_row row;
    ck_assert(find(number, &row));
    ck_assert_int_eq(row.tenant->version, version);
    ck_assert_int_eq(row.tenant->ended_s, 2 * version);
    ck_assert_uint_eq(row.generation, generation);
}

/* While no other thread stores; operators see the same. */
static struct tenants_usage usage(void)
{
    struct tenants_usage usage;
    tenants_usage(tenants, &usage);
    ck_assert_int_eq(metrics_read(METRIC_TENANTS), (int64_t)usage.rows);
    ck_assert_int_eq(metrics_read(METRIC_TENANTS_BYTES), (int64_t)usage.bytes);
    return usage;
}

/* --- states --- */

START_TEST(a_state_has_its_own_copies)
{
    char word[] = "incident", who[] = "alice";
    struct tenant content = {
        .version = 5, .reason = text_of(word), .actor = text_of(who), .ended_s = 7};
    struct tenant *tenant = tenant_state_create(&content);
    struct tenant *same = tenant_state_ref(tenant);
    memset(word, 'x', sizeof(word) - 1);
    memset(who, 'x', sizeof(who) - 1);
    tenant_state_unref(&tenant);
    ck_assert_ptr_null(tenant);
    ck_assert(text_equal(same->reason, TEXT("incident")));
    ck_assert(text_equal(same->actor, TEXT("alice")));
    ck_assert_int_eq(same->ended_s, 7);
    tenant_state_unref(&same);
    tenant_state_unref(&same);
}
END_TEST

START_TEST(nothing_is_never_freed)
{
    struct tenant *nothing = tenant_state_ref(tenant_state_nothing());
    ck_assert_ptr_eq(nothing, tenant_state_nothing());
    for (int i = 0; i < 3; i++) {
        struct tenant *given = tenant_state_nothing();
        tenant_state_unref(&given);
        ck_assert_ptr_null(given);
    }
    ck_assert_int_eq(nothing->version, 0);
    ck_assert_int_eq(nothing->not_before_ms, 0);
    ck_assert_ptr_null(nothing->policy);
}
END_TEST

/* --- finding and storing --- */

START_TEST(what_was_put_is_found_and_replaced)
{
    struct tenant_row row;
    ck_assert(!find(1, &row));
    ck_assert(put(1, 10, 3));
    assert_found(1, 10, 3);
    assert_found(1, 10, 3);
    ck_assert(!find(2, &row));
    ck_assert(put(1, 11, 4));
    assert_found(1, 11, 4);
    ck_assert_uint_eq(usage().rows, 1);
}
END_TEST

START_TEST(a_change_is_seen_by_every_view_at_once)
{
    struct tenants_view *other = tenants_view_create(tenants);
    struct tenant_row row;
    for (int64_t version = 1; version < 300; version++) {
        ck_assert(put(1, version, 1));
        for (int i = 0; i < 3; i++) {
            assert_found(1, version, 1);
            ck_assert(tenants_find(other, tag_of(1).bytes, &row));
            ck_assert_int_eq(row.tenant->version, version);
        }
    }
    tenants_view_destroy(&other);
}
END_TEST

START_TEST(a_view_keeps_what_it_gave_until_its_next_call)
{
    struct tenant_row row;
    ck_assert(put(1, 1, 1));
    ck_assert(find(1, &row));
    struct tenant *kept = tenant_state_ref(row.tenant);
    ck_assert(put(1, 2, 1));
    ck_assert_int_eq(row.tenant->version, 1);
    assert_found(1, 2, 1);
    ck_assert_int_eq(kept->version, 1);
    tenant_state_unref(&kept);
}
END_TEST

START_TEST(what_was_forgotten_stays_as_last_known)
{
    ck_assert(put(1, 10, 3));
    ck_assert(put(2, 20, 3));
    assert_found(1, 10, 3);
    tenants_forget(tenants, tag_of(1).bytes);
    assert_found(1, 10, 0);
    assert_found(2, 20, 3);
    ck_assert(put(1, 12, 4));
    assert_found(1, 12, 4);
}
END_TEST

START_TEST(what_was_read_before_it_was_forgotten_is_not_stored)
{
    struct tag tag = tag_of(1);
    struct tenant *tenant = tenant_of_version(10);
    struct tenant_row row;
    bool behind = true;
    uint32_t lease = tenants_lease(tenants, tag.bytes);
    tenants_forget(tenants, tag.bytes);
    ck_assert(!tenants_put(tenants, tag.bytes, tenant, 1, 0, lease, &behind));
    ck_assert(!behind);
    ck_assert(!find(1, &row));
    ck_assert(put(1, 9, 1));
    ck_assert(!tenants_put(tenants, tag.bytes, tenant, 1, 0, lease, &behind));
    assert_found(1, 9, 1);
    tenant_state_unref(&tenant);
}
END_TEST

START_TEST(a_put_leaves_the_tickets_of_others_good)
{
    struct tag tag = tag_of(1);
    struct tenant *tenant = tenant_of_version(10);
    bool behind;
    uint32_t lease = tenants_lease(tenants, tag.bytes);
    ck_assert(put(1, 10, 1));
    ck_assert(tenants_put(tenants, tag.bytes, tenant, 2, 0, lease, &behind));
    assert_found(1, 10, 2);
    tenant_state_unref(&tenant);
}
END_TEST

START_TEST(a_lower_version_waits_a_minute)
{
    clock_fake(1000000);
    ck_assert(put(1, 10, 1));
    tenants_forget(tenants, tag_of(1).bytes);
    clock_fake(1059999);
    ck_assert(!put(1, 9, 2));
    assert_found(1, 10, 0);
    clock_fake(1060000);
    ck_assert(put(1, 9, 2));
    assert_found(1, 9, 2);
    ck_assert(!put(1, 0, 2));
}
END_TEST

/* Yesterday's backup does not bring back logged-out sessions. */
START_TEST(a_lower_cutoff_is_behind_however_old_the_row)
{
    struct tag tag = tag_of(1);
    bool behind;
    struct tenant *ended =
        tenant_state_create(&(struct tenant){.version = 10, .not_before_ms = 5000});
    struct tenant *restored = tenant_state_create(&(struct tenant){.version = 9});
    clock_fake(1000000);
    ck_assert(tenants_put(tenants, tag.bytes, ended, 1, clock_boot_ms(),
                          tenants_lease(tenants, tag.bytes), &behind));
    clock_fake(1000000000);
    ck_assert(!tenants_put(tenants, tag.bytes, restored, 2, clock_boot_ms(),
                           tenants_lease(tenants, tag.bytes), &behind));
    ck_assert(behind);
    tenant_state_unref(&ended);
    tenant_state_unref(&restored);
}
END_TEST

/* --- memory --- */

START_TEST(tenants_without_a_policy_cost_less_than_a_hundred_bytes)
{
    struct tenant_row row;
    bool behind;
    for (uint32_t i = 0; i < MANY; i++) {
        struct tag tag = tag_of(i);
        ck_assert(tenants_put(tenants, tag.bytes, tenant_state_nothing(), 1, 0,
                              tenants_lease(tenants, tag.bytes), &behind));
    }
    ck_assert_uint_eq(usage().rows, MANY);
    ck_assert_uint_lt(usage().bytes, 100 * MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        ck_assert(find(i, &row));
        ck_assert_ptr_eq(row.tenant, tenant_state_nothing());
    }
}
END_TEST

static struct tenant *tenant_with_policy(const char *json, int64_t version)
{
    struct buffer error = {0};
    struct policy_document *policy = policy_parse(conf, text_of(json), &error);
    ck_assert_msg(policy != NULL, "%.*s", (int)error.length, error.data);
    buffer_free(&error);
    return tenant_state_create(&(struct tenant){.policy = policy, .version = version});
}

START_TEST(a_hundred_thousand_small_policies_fit)
{
    for (uint32_t i = 0; i < MANY; i++) {
        struct tag tag = tag_of(i);
        char json[64];
        bool behind;
        snprintf(json, sizeof(json), "{\"idle_timeout\":%u,\"max_devices\":3}", 600 + i % 3000);
        struct tenant *tenant = tenant_with_policy(json, 1);
        ck_assert(tenants_put(tenants, tag.bytes, tenant, 1, 0, tenants_lease(tenants, tag.bytes),
                              &behind));
        tenant_state_unref(&tenant);
    }
    ck_assert_uint_eq(usage().rows, MANY);
    ck_assert_uint_lt(usage().bytes, 64 << 20);
}
END_TEST

START_TEST(the_bound_holds_and_what_is_in_use_stays)
{
    enum { BOUND = 1 << 20, USED = 20 };
    tenants_view_destroy(&view);
    tenants_destroy(&tenants);
    tenants = tenants_create(BOUND);
    view = tenants_view_create(tenants);
    for (uint32_t i = 0; i < MANY; i++) {
        ck_assert(put(i, 1 + i, 1));
        ck_assert_uint_le(usage().bytes, BOUND);
        for (uint32_t j = 0; j < USED && j < i && i % 8 == 0; j++)
            assert_found(j, 1 + j, 1);
    }
    ck_assert_uint_gt(usage().bytes, BOUND - 4096);
    struct tenant_row row;
    size_t rows = 0;
    for (uint32_t i = 0; i < MANY; i++)
        rows += find(i, &row);
    ck_assert_uint_ge(rows, usage().rows);
    ck_assert_uint_le(rows, usage().rows + 512); /* that the view still has */
}
END_TEST

/* --- threads --- */

enum { THREADS = 4, ROUNDS = 20000, SHARED = 8 };
static _Atomic int64_t published[SHARED];
static atomic_bool over;

/* A reader never sees an older state than one that was published before it looked. */
static void *read_always(void *unused)
{
    struct tenants_view *own = tenants_view_create(tenants);
    intptr_t wrong = 0;
    for (uint32_t i = 0; !atomic_load(&over); i++) {
        uint32_t number = i % SHARED;
        int64_t least = atomic_load(&published[number]);
        struct tenant_row row;
        if (!tenants_find(own, tag_of(number).bytes, &row))
            wrong += least > 0;
        else if (row.tenant->version < least || row.tenant->ended_s != 2 * row.tenant->version)
            wrong++;
    }
    tenants_view_destroy(&own);
    (void)unused;
    return (void *)wrong;
}

static void change_always(void)
{
    for (int64_t version = 1; version <= ROUNDS; version++) {
        uint32_t number = (uint32_t)version % SHARED;
        tenants_forget(tenants, tag_of(number).bytes);
        ck_assert(put(number, version, 1));
        atomic_store(&published[number], version);
        ck_assert(put(1000 + (uint32_t)version, 1, 1)); /* others come and go meanwhile */
    }
}

START_TEST(no_view_goes_back_behind_a_change)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_always, NULL), 0);
    change_always();
    atomic_store(&over, true);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
}
END_TEST

static void *put_and_find(void *user)
{
    struct tenants_view *own = tenants_view_create(tenants);
    uint64_t state = (uint64_t)(intptr_t)user;
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t number = (uint32_t)(support_next(&state) % 9000);
        struct tenant_row row;
        struct tag tag = tag_of(number);
        struct tenant *tenant = tenant_of_version(i);
        bool behind;
        tenants_put(tenants, tag.bytes, tenant, 1, 0, tenants_lease(tenants, tag.bytes), &behind);
        tenant_state_unref(&tenant);
        if (tenants_find(own, tag_of(number / 2).bytes, &row) && row.tenant->version % 16 == 0)
            tenants_forget(tenants, tag.bytes);
    }
    tenants_view_destroy(&own);
    return NULL;
}

START_TEST(many_threads_in_a_small_table_keep_the_count)
{
    tenants_view_destroy(&view);
    tenants_destroy(&tenants);
    tenants = tenants_create(1 << 18);
    view = tenants_view_create(tenants);
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, put_and_find, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_le(usage().bytes, 1 << 18);
    struct tenant_row row;
    size_t rows = 0;
    for (uint32_t i = 0; i < 9000; i++)
        rows += find(i, &row);
    ck_assert_uint_eq(rows, usage().rows);
}
END_TEST

/* --- the file --- */

static char directory[] = "/tmp/check_tenants.XXXXXX";
static char path[64];
static struct keyring *keyring;
static struct buffer error;
static size_t loaded;

static void set_up_file(void)
{
    set_up();
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/tenants", directory);
    keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
}

/* Nothing but the file is left. */
static void tear_down_file(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
    keyring_unref(&keyring);
    buffer_free(&error);
    tear_down();
}

static void save(void)
{
    bool saved = tenants_save(tenants, keyring, path, &error);
    ck_assert_msg(saved, "%.*s", (int)error.length, error.data);
}

static bool load(void)
{
    tenants_view_destroy(&view);
    tenants_destroy(&tenants);
    tenants = tenants_create(PLENTY);
    view = tenants_view_create(tenants);
    error.length = 0;
    return tenants_load(tenants, keyring, path, &loaded, &error);
}

static void assert_refuses(const char *why)
{
    ck_assert(!load());
    buffer_add_char(&error, '\0');
    ck_assert_msg(strstr(error.data, path) && strstr(error.data, why), "%s", error.data);
}

static void put_state(uint32_t number, struct tenant *tenant, int64_t verified_ms)
{
    struct tag tag = tag_of(number);
    bool behind;
    ck_assert(tenants_put(tenants, tag.bytes, tenant, 5, verified_ms,
                          tenants_lease(tenants, tag.bytes), &behind));
    tenant_state_unref(&tenant);
}

START_TEST(a_restart_finds_everything_again_and_nothing_true_for_sure)
{
    struct tenant_row row;
    int64_t now_ms = INT64_C(1700000000000);
    clock_fake(now_ms);
    put_state(1, tenant_state_nothing(), now_ms - 5000);
    put_state(2,
              tenant_state_create(&(struct tenant){.version = now_ms,
                                                   .not_before_ms = now_ms + 1,
                                                   .reason = TEXT("incident"),
                                                   .actor = TEXT("Алиса"),
                                                   .ended_s = now_ms / 1000}),
              now_ms);
    put_state(3, tenant_with_policy("{\"idle_timeout\":7200}", 9), now_ms - 86400000);
    save();
    clock_fake(now_ms + 2000);
    ck_assert(load());
    ck_assert_uint_eq(loaded, 3);
    ck_assert(find(1, &row));
    ck_assert_ptr_eq(row.tenant, tenant_state_nothing());
    ck_assert_uint_eq(row.generation, 0);
    ck_assert_int_eq(row.verified_ms, now_ms - 5000);
    ck_assert(find(2, &row));
    ck_assert_int_eq(row.tenant->version, now_ms);
    ck_assert_int_eq(row.tenant->not_before_ms, now_ms + 1);
    ck_assert_int_eq(row.tenant->ended_s, now_ms / 1000);
    ck_assert(text_equal(row.tenant->reason, TEXT("incident")));
    ck_assert(text_equal(row.tenant->actor, TEXT("Алиса")));
    ck_assert(find(3, &row));
    ck_assert_int_eq(row.verified_ms, now_ms - 86400000);
    struct text json = policy_json(row.tenant->policy);
    ck_assert(text_equal(json, TEXT("{\"idle_timeout\":7200}")));
    ck_assert_uint_eq(row.generation, 0);
}
END_TEST

START_TEST(many_chunks_come_back)
{
    for (uint32_t i = 0; i < 5000; i++)
        ck_assert(put(i, 1 + i, 1));
    save();
    ck_assert(load());
    ck_assert_uint_eq(loaded, 5000);
    for (uint32_t i = 0; i < 5000; i++)
        assert_found(i, 1 + i, 0);
}
END_TEST

START_TEST(a_file_does_not_replace_what_is_there)
{
    ck_assert(put(1, 10, 1));
    ck_assert(put(2, 10, 1));
    save();
    ck_assert(load());
    ck_assert(put(1, 12, 7));
    tenants_forget(tenants, tag_of(2).bytes);
    ck_assert(tenants_load(tenants, keyring, path, &loaded, &error));
    ck_assert_uint_eq(loaded, 0);
    assert_found(1, 12, 7);
}
END_TEST

START_TEST(a_missing_file_is_no_error_and_an_empty_one_is)
{
    ck_assert(load());
    ck_assert_uint_eq(loaded, 0);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    assert_refuses("is not a snapshot of the tenants");
    save();
    ck_assert(load());
}
END_TEST

START_TEST(a_file_of_another_keyring_is_refused)
{
    ck_assert(put(1, 10, 1));
    save();
    keyring_unref(&keyring);
    keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_2);
    assert_refuses("key 1, which the keyring does not have");
    ck_assert_uint_eq(loaded, 0);
}
END_TEST

START_TEST(a_flipped_bit_anywhere_is_found)
{
    char bytes[4096];
    struct stat status;
    ck_assert(put(1, 10, 1));
    save();
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode, S_IFREG | 0600);
    int fd = open(path, O_RDWR);
    ssize_t length = read(fd, bytes, sizeof(bytes));
    ck_assert_int_gt(length, 0);
    for (off_t i = 0; i < length; i++) {
        char flipped = (char)(bytes[i] ^ 1 << i % 8);
        ck_assert_int_eq(pwrite(fd, &flipped, 1, i), 1);
        assert_refuses("");
        ck_assert_int_eq(pwrite(fd, &bytes[i], 1, i), 1);
    }
    close(fd);
    ck_assert(load());
    ck_assert_uint_eq(loaded, 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("tenants");
    TCase *table = tcase_create("table");
    tcase_add_checked_fixture(table, set_up, tear_down);
    tcase_set_timeout(table, 60);
    tcase_add_test(table, a_state_has_its_own_copies);
    tcase_add_test(table, nothing_is_never_freed);
    tcase_add_test(table, what_was_put_is_found_and_replaced);
    tcase_add_test(table, a_change_is_seen_by_every_view_at_once);
    tcase_add_test(table, a_view_keeps_what_it_gave_until_its_next_call);
    tcase_add_test(table, what_was_forgotten_stays_as_last_known);
    tcase_add_test(table, what_was_read_before_it_was_forgotten_is_not_stored);
    tcase_add_test(table, a_put_leaves_the_tickets_of_others_good);
    tcase_add_test(table, a_lower_version_waits_a_minute);
    tcase_add_test(table, a_lower_cutoff_is_behind_however_old_the_row);
    tcase_add_test(table, tenants_without_a_policy_cost_less_than_a_hundred_bytes);
    tcase_add_test(table, a_hundred_thousand_small_policies_fit);
    tcase_add_test(table, the_bound_holds_and_what_is_in_use_stays);
    suite_add_tcase(suite, table);
    TCase *threads = tcase_create("threads");
    tcase_add_checked_fixture(threads, set_up, tear_down);
    tcase_set_timeout(threads, 60);
    tcase_add_test(threads, no_view_goes_back_behind_a_change);
    tcase_add_test(threads, many_threads_in_a_small_table_keep_the_count);
    suite_add_tcase(suite, threads);
    TCase *file = tcase_create("file");
    tcase_add_checked_fixture(file, set_up_file, tear_down_file);
    tcase_set_timeout(file, 60);
    tcase_add_test(file, a_restart_finds_everything_again_and_nothing_true_for_sure);
    tcase_add_test(file, many_chunks_come_back);
    tcase_add_test(file, a_file_does_not_replace_what_is_there);
    tcase_add_test(file, a_missing_file_is_no_error_and_an_empty_one_is);
    tcase_add_test(file, a_file_of_another_keyring_is_refused);
    tcase_add_test(file, a_flipped_bit_anywhere_is_found);
    suite_add_tcase(suite, file);
    return suite;
}

int main(void)
{
    return support_run(suite());
}
