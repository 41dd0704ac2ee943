/* When marks are read and written, and who is told what they say. */
#include "key_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "container_of.h"
#include "key_marks.h"
#include "log.h"
#include "metrics.h"

enum {
    UNANSWERED_PAUSE_MS = 500, /* while Redis has not said anything of these keys */
    FOREIGN_PAUSE_MS = 5 * 1000,
    MISSING_PAUSE_MS = 10 * 1000,
    PAUSE_MS = 60 * 1000,
    CONFIRM_EVERY = 5, /* comparisons: the others only read */
    /* So long a foreign node leaves it to the others to write marks that Redis has lost: each of
     * them looks within PAUSE_MS. */
    YIELD_MS = PAUSE_MS + FOREIGN_PAUSE_MS
};

struct key_watch {
    const struct session_context *context;
    uv_timer_t timer;
    struct store_call call;
    char name[KEY_MARKS_NAME];
    bool stopped, under_way;
    bool again;    /* keys came while a comparison was under way */
    bool answered; /* Redis has said something of these keys */
    bool wrote;    /* the call under way writes */
    unsigned comparisons;
    char store[KEY_MARKS_STORE + 1]; /* the digits of this Redis; "": not known */
    int64_t lost_ms; /* since when a foreign node finds no marks, clock_monotonic_ms(); 0: not so */
};

static void compare(struct key_watch *tracking);

static void on_timer(uv_timer_t *timer)
{
    compare(timer->data);
}

static void wait_for(struct key_watch *tracking, uint64_t pause_ms)
{
    if (!tracking->stopped)
        uv_timer_start(&tracking->timer, on_timer, pause_ms, 0);
}

/* --- telling --- */

static int count_bits(uint64_t ids)
{
    return __builtin_popcountll(ids);
}

void session_keys_name(uint64_t ids, char *out, size_t size)
{
    size_t length = 0;
    out[0] = '\0';
    for (unsigned id = 0; id < KEY_MARKS && length < size; id++) {
        if (!(ids >> id & 1))
            continue;
        const char *comma = length > 0 ? ", " : "";
        int added = id == 0 ? snprintf(out + length, size - length, "%sthe names secret", comma)
                            : snprintf(out + length, size - length, "%skey %u", comma, id);
        length += (size_t)added;
    }
}

static void tell(enum session_keys state, uint64_t ids)
{
    char names[SESSION_KEYS_NAMES];
    session_keys_name(ids, names, sizeof(names));
    if (state == SESSION_KEYS_FOREIGN)
        log_error("keys_foreign",
                  "differing=\"%s\" effect=\"calls get 503\" hint=\"another key file than that of "
                  "the other nodes on this Redis\"",
                  names);
    else if (state == SESSION_KEYS_MISSING)
        log_warning("keys_missing", "missing=\"%s\" hint=\"other nodes have them\"", names);
    else if (state == SESSION_KEYS_AGREE)
        log_info("keys_agree", "hint=\"as the other nodes on this Redis\"");
}

static void publish(struct key_watch *tracking, enum session_keys state, uint64_t ids)
{
    struct session_service *service = tracking->context->worker->service;
    enum session_keys before = atomic_load(&service->keys_state);
    bool changed = before != state || atomic_load(&service->keys_ids) != ids;
    atomic_store(&service->keys_ids, ids);
    atomic_store(&service->keys_state, state);
    bool well = state == SESSION_KEYS_AGREE || state == SESSION_KEYS_UNKNOWN;
    bool was_well = before <= SESSION_KEYS_AGREE;
    if (changed && !(well && was_well))
        tell(state, ids);
    metrics_gauge_set(METRIC_KEYS_FOREIGN, state == SESSION_KEYS_FOREIGN);
    metrics_gauge_set(METRIC_KEYS_MISSING, state == SESSION_KEYS_MISSING ? count_bits(ids) : 0);
}

/* --- comparing --- */

static void on_answer(struct store_call *call, enum err err, const struct store_reply *reply);

static void ask(struct key_watch *tracking, bool write)
{
    const struct session_context *context = tracking->context;
    struct key_marks_write marks;
    struct conf *conf = conf_current();
    struct text name = key_marks_name(conf, tracking->name);
    tracking->call = (struct store_call){
        .key = name,
        .flags = STORE_REPEATABLE,
        .deadline_ms = clock_monotonic_ms() + conf->redis_timeout,
        .done = on_answer,
    };
    conf_unref(&conf);
    tracking->wrote = write;
    tracking->under_way = true;
    const struct text read[] = {TEXT("HGETALL"), name};
    if (write) {
        key_marks_write(context->keyring, clock_common_ms() / 1000, tracking->store, &marks,
                        &tracking->call);
    } else {
        tracking->call.arguments = read;
        tracking->call.argument_count = 2;
    }
    store_send(context->worker->link, &tracking->call);
}

static void compare(struct key_watch *tracking)
{
    if (tracking->under_way)
        return;
    struct session_service *service = tracking->context->worker->service;
    bool foreign = atomic_load(&service->keys_state) == SESSION_KEYS_FOREIGN;
    bool confirms = tracking->comparisons % CONFIRM_EVERY == 0 && !(foreign && tracking->answered);
    ask(tracking, confirms);
}

/* A node that was told that its keys are foreign does not write them because Redis has lost the
 * right ones: a right node will be there within a minute. */
static bool yields(struct key_watch *tracking)
{
    struct session_service *service = tracking->context->worker->service;
    int64_t now_ms = clock_monotonic_ms();
    if (atomic_load(&service->keys_state) != SESSION_KEYS_FOREIGN || !tracking->answered)
        return false;
    if (tracking->lost_ms == 0)
        tracking->lost_ms = now_ms;
    return now_ms - tracking->lost_ms < YIELD_MS;
}

/* A cluster that a node of ours found empty gets digits of its own. Without cluster the names
 * secret has to do: an emptied server cannot be told from another one. */
static void remember_store(struct key_watch *tracking, const struct key_marks *marks)
{
    struct store_mark mark = {.field = "store"};
    struct conf *conf = conf_current();
    snprintf(mark.key, sizeof(mark.key), "%s", tracking->name);
    memcpy(tracking->store, marks->store, sizeof(tracking->store));
    memcpy(mark.digits, marks->store, sizeof(marks->store));
    if (conf->redis_mode != REDIS_CLUSTER) {
        snprintf(mark.field, sizeof(mark.field), "names");
        text_to_hex(mark.digits, keyring_mark(tracking->context->keyring, 0), KEY_MARK);
        mark.digits[2 * KEY_MARK] = '\0';
    }
    conf_unref(&conf);
    store_set_mark(tracking->context->worker->service->store, &mark);
}

static void judge(struct key_watch *tracking, const struct key_marks *marks)
{
    struct key_verdict verdict;
    key_marks_judge(marks, tracking->context->keyring, &verdict);
    bool unmarked = verdict.unmarked || !marks->store[0];
    if (verdict.foreign) {
        tracking->lost_ms = 0;
        publish(tracking, SESSION_KEYS_FOREIGN, verdict.foreign);
        wait_for(tracking, FOREIGN_PAUSE_MS);
    } else if (unmarked && !tracking->wrote && yields(tracking)) {
        wait_for(tracking, FOREIGN_PAUSE_MS);
        return;
    } else if (unmarked && !tracking->wrote) {
        ask(tracking, true);
        return;
    } else if (verdict.missing) {
        publish(tracking, SESSION_KEYS_MISSING, verdict.missing);
        wait_for(tracking, MISSING_PAUSE_MS);
    } else {
        publish(tracking, SESSION_KEYS_AGREE, 0);
        wait_for(tracking, PAUSE_MS);
    }
    if (!verdict.foreign && marks->store[0])
        remember_store(tracking, marks);
    tracking->answered = true;
    tracking->comparisons++;
}

/* What Redis said of these keys holds while it says nothing. New keys may be right: nobody knows.
 */
static void leave_open(struct key_watch *tracking)
{
    struct session_service *service = tracking->context->worker->service;
    if (!tracking->answered || atomic_load(&service->keys_state) == SESSION_KEYS_UNASKED)
        publish(tracking, SESSION_KEYS_UNKNOWN, 0);
    wait_for(tracking, tracking->answered ? PAUSE_MS : UNANSWERED_PAUSE_MS);
}

static void on_answer(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct key_watch *tracking = container_of(call, struct key_watch, call);
    struct key_marks marks;
    tracking->under_way = false;
    if (tracking->stopped)
        return;
    if (tracking->again) {
        tracking->again = false;
        compare(tracking);
    } else if (err == ERR_OK && key_marks_read(reply, &marks)) {
        judge(tracking, &marks);
    } else {
        log_debug("keys_not_compared", "reason=%s", err_code(err));
        leave_open(tracking);
    }
}

/* --- life --- */

struct key_watch *key_watch_create(const struct session_context *context, uv_loop_t *loop)
{
    struct key_watch *tracking = xcalloc(1, sizeof(*tracking));
    tracking->context = context;
    uv_timer_init(loop, &tracking->timer);
    tracking->timer.data = tracking;
    compare(tracking);
    return tracking;
}

void key_watch_rekeyed(struct key_watch *tracking)
{
    tracking->answered = false;
    tracking->comparisons = 0;
    tracking->lost_ms = 0;
    tracking->again = tracking->under_way;
    if (!tracking->under_way && !tracking->stopped)
        compare(tracking);
}

void key_watch_stop(struct key_watch *tracking)
{
    tracking->stopped = true;
    uv_close((uv_handle_t *)&tracking->timer, NULL);
}

void key_watch_destroy(struct key_watch **tracking)
{
    free(*tracking);
    *tracking = NULL;
}
