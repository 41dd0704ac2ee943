/* The loop is driven by hand: a prepare handle flushes as a worker does. */
#include "support_store.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "crypto.h"
#include "memory.h"

#include "support_clock.h"

enum { PATIENCE_MS = 5000 };

void rig_set_text(char **option, const char *value)
{
    free(*option);
    *option = xstrdup(value);
}

static void set_nodes(struct conf_list *list, const uint16_t *ports, size_t count)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    list->items = xrealloc(list->items, count * sizeof(list->items[0]));
    list->count = count;
    for (size_t i = 0; i < count; i++) {
        char address[32];
        snprintf(address, sizeof(address), "127.0.0.1:%u", ports[i]);
        list->items[i] = xstrdup(address);
    }
}

void rig_configure(struct store_rig *rig, enum redis_mode mode, const uint16_t *ports, size_t count)
{
    crypto_init();
    *rig = (struct store_rig){.conf = conf_defaults()};
    rig->conf->redis_mode = mode;
    rig->conf->redis_connect_timeout = 200;
    rig->conf->redis_reconnect_max = 100;
    set_nodes(&rig->conf->redis_nodes, ports, count);
}

static void on_prepare(uv_prepare_t *prepare)
{
    store_flush(((struct store_rig *)prepare->data)->link);
}

static const struct text tracked_prefixes[] = {{"sd:e:", 5}, {"sd:p:", 5}};

const struct store_keys rig_keys = {tracked_prefixes, 2, "sd:e:"};

void rig_open_link(struct store_rig *rig, struct store *store)
{
    rig->store = store;
    uv_loop_init(&rig->loop);
    rig->link = store_link_open(rig->store, &rig->loop);
    uv_prepare_init(&rig->loop, &rig->prepare);
    rig->prepare.data = rig;
    uv_prepare_start(&rig->prepare, on_prepare);
}

void rig_open(struct store_rig *rig)
{
    struct buffer error = {0};
    struct store *store = store_start(rig->conf, &rig_keys, &error);
    ck_assert_msg(store, "%.*s", (int)error.length, error.data ? error.data : "");
    rig_open_link(rig, store);
}

void rig_open_cluster(struct store_rig *rig, struct redis_node *const *nodes, size_t count)
{
    uint16_t ports[8];
    ck_assert_uint_le(count, 8);
    for (size_t i = 0; i < count; i++)
        ports[i] = redis_node_port(nodes[i]);
    rig_configure(rig, REDIS_CLUSTER, ports, count);
    rig_open(rig);
}

void rig_open_standalone(struct store_rig *rig, struct redis_node *node)
{
    uint16_t port = redis_node_port(node);
    rig_configure(rig, REDIS_STANDALONE, &port, 1);
    rig_open(rig);
}

void rig_close_link(struct store_rig *rig)
{
    uv_close((uv_handle_t *)&rig->prepare, NULL);
    store_link_close(&rig->link);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&rig->loop), 0);
}

void rig_close(struct store_rig *rig)
{
    rig_close_link(rig);
    store_stop(&rig->store);
    conf_unref(&rig->conf);
}

static void on_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct store_probe *probe = (struct store_probe *)call;
    probe->ended++;
    probe->err = err;
    probe->took_ms = clock_monotonic_ms() - probe->sent_ms;
    probe->own_ms = support_clock_ms() - probe->begun_ms;
    if (!reply)
        return;
    probe->type = store_reply_type(reply);
    (void)store_reply_int(reply, INT64_MIN, INT64_MAX, &probe->integer);
    if (store_reply_count(reply) > 0)
        reply = store_reply_element(reply, 0);
    struct text text = store_reply_text(reply);
    snprintf(probe->text, sizeof(probe->text), "%.*s", (int)text.length,
             text.data ? text.data : "");
}

static void send_probe(struct store_rig *rig, struct store_probe *probe, int64_t timeout_ms)
{
    probe->begun_ms = support_clock_ms();
    probe->sent_ms = clock_monotonic_ms();
    probe->call.deadline_ms = probe->sent_ms + timeout_ms;
    probe->call.done = on_done;
    store_send(rig->link, &probe->call);
    ck_assert_uint_eq(probe->ended, 0);
}

void rig_send(struct store_rig *rig, struct store_probe *probe, const char *command, unsigned flags,
              int64_t timeout_ms)
{
    *probe = (struct store_probe){.call.flags = flags};
    snprintf(probe->words, sizeof(probe->words), "%s", command);
    size_t count = 0;
    for (char *word = probe->words; word && count < 8; count++) {
        char *blank = strchr(word, ' ');
        probe->arguments[count] =
            (struct text){word, blank ? (size_t)(blank - word) : strlen(word)};
        word = blank ? blank + 1 : NULL;
    }
    probe->call.key = probe->arguments[1];
    probe->call.arguments = probe->arguments;
    probe->call.argument_count = count;
    send_probe(rig, probe, timeout_ms);
}

void rig_send_script(struct store_rig *rig, struct store_probe *probe,
                     const struct store_script *script, int64_t timeout_ms)
{
    *probe = (struct store_probe){.call.key = TEXT("foo"), .call.script = script};
    probe->arguments[0] = TEXT("one");
    probe->arguments[1] = TEXT("two");
    probe->call.arguments = probe->arguments;
    probe->call.argument_count = 2;
    send_probe(rig, probe, timeout_ms);
    /* The contract: they were copied. */
    probe->arguments[0] = probe->arguments[1] = TEXT("overwritten");
}

static void on_time(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static bool all_ended(const struct store_probe *probes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!probes[i].ended)
            return false;
    return true;
}

static void run_until(struct store_rig *rig, const struct store_probe *probes, size_t count,
                      int64_t most_ms)
{
    bool over = false;
    uv_timer_t timer;
    uv_timer_init(&rig->loop, &timer);
    timer.data = &over;
    uv_update_time(&rig->loop);
    uv_timer_start(&timer, on_time, (uint64_t)most_ms, 0);
    while (!over && !(count > 0 && all_ended(probes, count)))
        uv_run(&rig->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&rig->loop, UV_RUN_NOWAIT);
}

void rig_run(struct store_rig *rig, int64_t milliseconds)
{
    run_until(rig, NULL, 0, milliseconds);
}

void rig_wait_for_pings(struct store_rig *rig)
{
    for (int64_t left = PATIENCE_MS; clock_trust() == CLOCK_ALONE && left > 0; left -= 10)
        rig_run(rig, 10);
    ck_assert_int_ne(clock_trust(), CLOCK_ALONE);
}

void rig_wait(struct store_rig *rig, struct store_probe *probes, size_t count)
{
    run_until(rig, probes, count, PATIENCE_MS);
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(probes[i].ended == 1, "call %zu ended %u times", i, probes[i].ended);
}

void rig_call(struct store_rig *rig, struct store_probe *probe, const char *command, unsigned flags,
              int64_t timeout_ms)
{
    rig_send(rig, probe, command, flags, timeout_ms);
    rig_wait(rig, probe, 1);
}
