/* Faults of a server by its INFO. */
#include "redis/topology/fitness.h"

#include <check.h>
#include <string.h>

#include "support_run.h"

#define SERVER(version, cluster, policy, replicas)                                      \
    "# Server\r\nredis_version:" version "\r\nredis_mode:x\r\n# Memory\r\n"             \
    "maxmemory_policy:" policy "\r\n# Replication\r\nconnected_slaves:" replicas "\r\n" \
    "# Cluster\r\ncluster_enabled:" cluster "\r\n"

static const struct row {
    const char *info;
    enum redis_mode mode;
    int64_t wait_ms;
    const char *why;
    bool unfit;
} rows[] = {
    {SERVER("7.0.15", "1", "noeviction", "1"), REDIS_CLUSTER, 100, "", false},
    {SERVER("10.1.0", "1", "noeviction", "2"), REDIS_CLUSTER, 100, "", false},
    {SERVER("6.2.14", "1", "noeviction", "1"), REDIS_CLUSTER, 100, "Redis 6.2.14 is older than 7.0",
     true},
    {SERVER("7.2.4", "0", "noeviction", "1"), REDIS_CLUSTER, 100, "", false},
    {SERVER("7.2.4", "1", "noeviction", "1"), REDIS_STANDALONE, 100,
     "is a cluster node, but redis.mode is not cluster", true},
    {SERVER("7.2.4", "1", "noeviction", "1"), REDIS_SENTINEL, 100,
     "is a cluster node, but redis.mode is not cluster", true},
    {SERVER("7.2.4", "0", "volatile-ttl", "1"), REDIS_SENTINEL, 100,
     "maxmemory-policy is volatile-ttl, which drops sessions; it must be noeviction", false},
    {SERVER("7.2.4", "0", "noeviction", "0"), REDIS_STANDALONE, 100,
     "has no replica; if that is meant, set redis.wait_timeout = 0", false},
    {SERVER("7.2.4", "0", "noeviction", "0"), REDIS_STANDALONE, 0, "", false},
    {SERVER("5.0.1", "0", "allkeys-lru", "1"), REDIS_STANDALONE, 100,
     "Redis 5.0.1 is older than 7.0; maxmemory-policy is allkeys-lru, which drops sessions; it "
     "must "
     "be noeviction",
     true},
    {SERVER("6\x1b[31m\"", "1", "noeviction", "1"), REDIS_CLUSTER, 100,
     "Redis 6?[31m? is older than 7.0", true},
    /* Lines that a server leaves out are no fault. */
    {"", REDIS_CLUSTER, 100, "", false},
    {"redis_version", REDIS_CLUSTER, 100, "", false},
    {"redis_version:", REDIS_CLUSTER, 100, "", false},
    {"xredis_version:5.0\r\nredis_version_old:5.0", REDIS_CLUSTER, 100, "", false},
    {"redis_version:5.0", REDIS_CLUSTER, 100, "Redis 5.0 is older than 7.0", true},
};

START_TEST(a_server_is_judged_by_its_own_words)
{
    const struct row *row = &rows[_i];
    const struct settings settings = {.mode = row->mode, .wait_timeout_ms = row->wait_ms};
    char why[FITNESS_WHY_MAX];
    ck_assert_int_eq(fitness_check(text_of(row->info), &settings, why), row->unfit);
    ck_assert_str_eq(why, row->why);
}
END_TEST

static Suite *fitness_suite(void)
{
    Suite *suite = suite_create("fitness");
    TCase *tests = tcase_create("info");
    tcase_add_loop_test(tests, a_server_is_judged_by_its_own_words, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    return support_run(fitness_suite());
}
