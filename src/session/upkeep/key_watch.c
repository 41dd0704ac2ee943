/* When marks are read and written, and how the verdict is published. */
#include "key_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "container_of.h"
#include "key_marks.h"
#include "log.h"
#include "metrics.h"
#include "record.h"
#include "session/model/keys.h"

enum {
    UNANSWERED_PAUSE_MS = 500, /* while Redis has not answered about these keys */
    FOREIGN_PAUSE_MS = 5 * 1000,
    MISSING_PAUSE_MS = 10 * 1000,
    ROUND_MS = 60 * 1000,
    CONFIRM_EVERY = 5, /* comparisons: the others only read */
    /* How long a foreign node leaves it to the others to write marks that Redis has lost. Each of
     * them looks within ROUND_MS. */
    YIELD_MS = ROUND_MS + FOREIGN_PAUSE_MS
};

struct key_watch {
    const struct session_context *context;
    uv_timer_t timer;
    struct store_call call;
    char name[KEYS_MARKS_MAX];
    bool stopped, under_way;
    bool again;    /* keys changed during a comparison */
    bool answered; /* Redis has answered about these keys */
    bool wrote;    /* the call in flight writes */
    unsigned comparisons;
    char store[KEY_MARKS_STORE + 1]; /* the digits of this Redis; "": unknown */
    int64_t lost_ms; /* since when a foreign node finds no marks, clock_monotonic_ms(); 0: it finds
                        them */
};

static void compare_keys(struct key_watch *watch);

static void on_compare_timer(uv_timer_t *timer)
{
    compare_keys(timer->data);
}

static void schedule_comparison(struct key_watch *watch, uint64_t pause_ms)
{
    if (!watch->stopped)
        uv_timer_start(&watch->timer, on_compare_timer, pause_ms, 0);
}

/* --- the verdict --- */

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

static void log_keys(enum session_keys state, uint64_t ids)
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

static void publish_keys(struct key_watch *watch, enum session_keys state, uint64_t ids)
{
    struct session_service *service = watch->context->worker->service;
    enum session_keys before = atomic_load(&service->keys_state);
    bool changed = before != state || atomic_load(&service->keys_ids) != ids;
    atomic_store(&service->keys_ids, ids);
    atomic_store(&service->keys_state, state);
    bool well = state == SESSION_KEYS_AGREE || state == SESSION_KEYS_UNKNOWN;
    bool was_well = before <= SESSION_KEYS_AGREE;
    if (changed && !(well && was_well))
        log_keys(state, ids);
    metrics_gauge_set(METRIC_KEYS_FOREIGN, state == SESSION_KEYS_FOREIGN);
    metrics_gauge_set(METRIC_KEYS_MISSING, state == SESSION_KEYS_MISSING ? count_bits(ids) : 0);
}

/* Records of a later format would be unknown to a node that does not read it. */
static void publish_format(struct key_watch *watch, unsigned format)
{
    struct session_service *service = watch->context->worker->service;
    if (atomic_exchange(&service->record_format, format) == format)
        return;
    metrics_gauge_set(METRIC_RECORD_FORMAT, format);
    log_info("record_format", "written=%u reads=%d hint=\"%s\"", format, RECORD_FORMAT_MAX,
             format < RECORD_FORMAT_MAX ? "a node of an earlier version was seen"
                                        : "all nodes on this Redis read it");
}

/* --- comparing --- */

static void on_answer(struct store_call *call, enum err err, const struct store_reply *reply);

static void ask_marks(struct key_watch *watch, bool write)
{
    const struct session_context *context = watch->context;
    struct key_marks_write marks;
    struct conf *conf = conf_current();
    struct text name = keys_marks(conf, watch->name);
    watch->call = (struct store_call){
        .key = name,
        .flags = STORE_REPEATABLE,
        .deadline_ms = clock_monotonic_ms() + conf->redis_timeout,
        .done = on_answer,
    };
    conf_unref(&conf);
    watch->wrote = write;
    watch->under_way = true;
    const struct text read[] = {TEXT("HGETALL"), name};
    if (write) {
        key_marks_write(context->keyring, clock_common_ms() / 1000, watch->store, &marks,
                        &watch->call);
    } else {
        watch->call.arguments = read;
        watch->call.argument_count = 2;
    }
    store_send(context->worker->link, &watch->call);
}

static void compare_keys(struct key_watch *watch)
{
    if (watch->under_way)
        return;
    struct session_service *service = watch->context->worker->service;
    bool foreign = atomic_load(&service->keys_state) == SESSION_KEYS_FOREIGN;
    bool confirms = watch->comparisons % CONFIRM_EVERY == 0 && !(foreign && watch->answered);
    ask_marks(watch, confirms);
}

/* A foreign node does not write its keys when Redis has lost the right ones: a right node does so
 * within a minute. */
static bool yields(struct key_watch *watch)
{
    struct session_service *service = watch->context->worker->service;
    int64_t now_ms = clock_monotonic_ms();
    if (atomic_load(&service->keys_state) != SESSION_KEYS_FOREIGN || !watch->answered)
        return false;
    if (watch->lost_ms == 0)
        watch->lost_ms = now_ms;
    return now_ms - watch->lost_ms < YIELD_MS;
}

/* An empty cluster gets digits of its own from our node. Without cluster only the names secret is
 * compared: an emptied server cannot be told from another one. */
static void remember_store(struct key_watch *watch, const struct key_marks *marks)
{
    struct store_mark mark = {.field = "store"};
    struct conf *conf = conf_current();
    snprintf(mark.key, sizeof(mark.key), "%s", watch->name);
    memcpy(watch->store, marks->store, sizeof(watch->store));
    memcpy(mark.digits, marks->store, sizeof(marks->store));
    if (conf->redis_mode != REDIS_CLUSTER) {
        snprintf(mark.field, sizeof(mark.field), "names");
        text_to_hex(mark.digits, keyring_mark(watch->context->keyring, 0), KEY_MARK);
        mark.digits[2 * KEY_MARK] = '\0';
    }
    conf_unref(&conf);
    store_set_mark(watch->context->worker->service->store, &mark);
}

static void judge_marks(struct key_watch *watch, const struct key_marks *marks)
{
    struct key_verdict verdict;
    key_marks_judge(marks, watch->context->keyring, &verdict);
    bool unmarked = verdict.unmarked || !marks->store[0];
    if (verdict.foreign) {
        watch->lost_ms = 0;
        publish_keys(watch, SESSION_KEYS_FOREIGN, verdict.foreign);
        schedule_comparison(watch, FOREIGN_PAUSE_MS);
    } else if (unmarked && !watch->wrote && yields(watch)) {
        schedule_comparison(watch, FOREIGN_PAUSE_MS);
        return;
    } else if (unmarked && !watch->wrote) {
        ask_marks(watch, true);
        return;
    } else if (verdict.missing) {
        publish_keys(watch, SESSION_KEYS_MISSING, verdict.missing);
        schedule_comparison(watch, MISSING_PAUSE_MS);
    } else {
        publish_keys(watch, SESSION_KEYS_AGREE, 0);
        schedule_comparison(watch, ROUND_MS);
    }
    if (!verdict.foreign && marks->store[0])
        remember_store(watch, marks);
    if (!verdict.foreign)
        publish_format(watch, key_marks_format(marks));
    watch->answered = true;
    watch->comparisons++;
}

/* The last verdict holds while Redis does not answer. After a change of keys it is unknown, since
 * they may be right. */
static void leave_open(struct key_watch *watch)
{
    struct session_service *service = watch->context->worker->service;
    if (!watch->answered || atomic_load(&service->keys_state) == SESSION_KEYS_UNASKED)
        publish_keys(watch, SESSION_KEYS_UNKNOWN, 0);
    schedule_comparison(watch, watch->answered ? ROUND_MS : UNANSWERED_PAUSE_MS);
}

static void on_answer(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct key_watch *watch = container_of(call, struct key_watch, call);
    struct key_marks marks;
    watch->under_way = false;
    if (watch->stopped)
        return;
    if (watch->again) {
        watch->again = false;
        compare_keys(watch);
    } else if (err == ERR_OK && key_marks_read(reply, &marks)) {
        judge_marks(watch, &marks);
    } else {
        log_debug("keys_not_compared", "reason=%s", err_code(err));
        leave_open(watch);
    }
}

/* --- lifetime --- */

struct key_watch *key_watch_create(const struct session_context *context, uv_loop_t *loop)
{
    struct key_watch *watch = xcalloc(1, sizeof(*watch));
    watch->context = context;
    uv_timer_init(loop, &watch->timer);
    watch->timer.data = watch;
    compare_keys(watch);
    return watch;
}

void key_watch_rekeyed(struct key_watch *watch)
{
    watch->answered = false;
    watch->comparisons = 0;
    watch->lost_ms = 0;
    watch->again = watch->under_way;
    if (!watch->under_way && !watch->stopped)
        compare_keys(watch);
}

void key_watch_stop(struct key_watch *watch)
{
    watch->stopped = true;
    uv_close((uv_handle_t *)&watch->timer, NULL);
}

void key_watch_destroy(struct key_watch **watch)
{
    free(*watch);
    *watch = NULL;
}
