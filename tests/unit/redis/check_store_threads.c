/* Several workers on one store, while settings and maps change: for the thread sanitizer above all.
 */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "metrics.h"
#include "support_run.h"
#include "support_store.h"

enum { WORKERS = 3, RELOADS = 40 };

static atomic_bool enough;

struct worker {
    struct store_rig rig; /* with the store of the main rig */
    pthread_t thread;
    unsigned sent, answered;
};

/* Calls one after another, so that maps and settings change between them. */
static void *work(void *user)
{
    struct worker *worker = user;
    metrics_attach();
    while (!atomic_load(&enough)) {
        struct store_probe probe;
        worker->sent++;
        rig_send(&worker->rig, &probe, "GET foo", STORE_REPEATABLE, 5000);
        while (!probe.ended)
            uv_run(&worker->rig.loop, UV_RUN_ONCE);
        worker->answered += probe.err == ERR_OK;
    }
    rig_close_link(&worker->rig);
    return NULL;
}

START_TEST(workers_do_not_notice_reloads_and_new_maps)
{
    static struct worker workers[WORKERS];
    struct redis_node *nodes[2] = {redis_node_start(0), redis_node_start(0)};
    char maps[2][128];
    for (int i = 0; i < 2; i++) {
        redis_node_range(maps[i], 0, 16383, redis_node_port(nodes[i]));
        redis_node_script(nodes[i], SCRIPT(ALWAYS("+OK\r\n")));
    }
    redis_node_slots(nodes[0], maps[0]);
    redis_node_slots(nodes[1], maps[0]);
    struct store_rig rig;
    rig_open_cluster(&rig, nodes, 2);
    for (int i = 0; i < WORKERS; i++) {
        rig_open_link(&workers[i].rig, rig.store);
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < RELOADS; i++) {
        struct buffer error = {0};
        struct store_health health;
        redis_node_slots(nodes[0], maps[i % 2]);
        redis_node_slots(nodes[1], maps[i % 2]);
        ck_assert(store_reload(rig.store, rig.conf, &error));
        store_health(rig.store, &health);
        rig_run(&rig, 20);
    }
    atomic_store(&enough, true);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        ck_assert_uint_gt(workers[i].sent, 0);
        ck_assert_uint_eq(workers[i].answered, workers[i].sent);
    }
    ck_assert_uint_gt(redis_node_commands(nodes[0]), 0);
    ck_assert_uint_gt(redis_node_commands(nodes[1]), 0);
    rig_close(&rig);
    redis_node_stop(&nodes[0]);
    redis_node_stop(&nodes[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_threads");
    TCase *threads = tcase_create("threads");
    tcase_set_timeout(threads, 60);
    tcase_add_test(threads, workers_do_not_notice_reloads_and_new_maps);
    suite_add_tcase(suite, threads);
    return support_run(suite);
}
