/* The store's interface (include/store.h) without a server, a refresher without a thread, libuv's
 * time without a kernel: this file's functions are linked before those of the library and of libuv.
 */
#include "support_session.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "redis/protocol/reply.h"
#include "session/engine/service.h"
#include "session/model/keys.h"
#include "support_keys.h"

struct session_rig rig;

/* --- libuv --- */

enum { PATIENCE_S = 20 }; /* for the journal's thread, on a busy machine */

/* True while libuv asks for the time on the thread that calls it here: it then gets the fake
 * clock's time. */
static _Thread_local bool stepping;

/* libuv's own function of this name. */
static void *of_libuv(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    ck_assert_ptr_nonnull(found);
    return found;
}

/* Callbacks of libuv ask for themselves, and get the time that other threads use. */
static bool is_in_libuv(const void *code)
{
    Dl_info libuv, info;
    return dladdr(of_libuv("uv_loop_init"), &libuv) && dladdr(code, &info) &&
           info.dli_fbase == libuv.dli_fbase;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (!stepping || (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE) ||
        !is_in_libuv(__builtin_return_address(0)))
        return (int)syscall(SYS_clock_gettime, id, now);
    int64_t ms = clock_monotonic_ms();
    *now = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    return 0;
}

int uv_loop_init(uv_loop_t *loop)
{
    int (*real)(uv_loop_t *);
    *(void **)&real = of_libuv("uv_loop_init");
    stepping = true;
    int failure = real(loop);
    stepping = false;
    return failure;
}

void uv_update_time(uv_loop_t *loop)
{
    void (*real)(uv_loop_t *);
    bool inside = stepping;
    *(void **)&real = of_libuv("uv_update_time");
    stepping = true;
    real(loop);
    stepping = inside;
}

/* The refreshers' loops, at the number that stands for their thread. */
static uv_loop_t *refresher_loops[RIG_NODES];
static uv_loop_t **opening; /* of the refresher being started */

static int run_loop(uv_loop_t *loop, uv_run_mode mode)
{
    static int (*real)(uv_loop_t *, uv_run_mode);
    if (!real)
        *(void **)&real = of_libuv("uv_run");
    stepping = true;
    int left = real(loop, mode);
    stepping = false;
    return left;
}

/* The refresher's thread would stay in its loop. Here the loop is remembered, and the test turns
 * it. */
int uv_run(uv_loop_t *loop, uv_run_mode mode)
{
    if (!opening)
        return run_loop(loop, mode);
    *opening = loop;
    opening = NULL;
    return 0;
}

int uv_thread_create(uv_thread_t *thread, uv_thread_cb entry, void *argument)
{
    size_t number = 0;
    while (refresher_loops[number])
        number++;
    ck_assert_uint_lt(number, RIG_NODES);
    opening = &refresher_loops[number];
    *thread = number;
    entry(argument);
    return 0;
}

int uv_thread_join(uv_thread_t *thread)
{
    run_loop(refresher_loops[*thread], UV_RUN_DEFAULT);
    refresher_loops[*thread] = NULL;
    return 0;
}

/* --- the store --- */

struct store {
    struct store_listener watcher;
    uint32_t generation; /* of all slots; 0: not tracked */
    bool deaf;
    struct buffer unheard; /* lines of keys */
};

struct store_link {
    struct store *store;
    bool closing, of_refresher;
};

/* A call that is not done yet. */
struct sent {
    struct sent *next;
    struct store_link *link;
    struct store_call *call;
    struct text *arguments; /* copies, as store_send() promises */
    struct arena arena;
    char name[32];
    bool held, ran;      /* ran: its reply is there */
    bool forgotten;      /* its deadline does not end it */
    struct buffer reply; /* bytes */
};

struct plan {
    struct plan *next;
    char name[32];
    enum fate fate;
    void (*hook)(void);
};

static struct {
    struct sent *first, **end;
    struct plan *plans;
    char served[65536]; /* "name\n" for each */
    size_t served_length;
    uint32_t generations;
    int64_t proofs_ms[64]; /* of generations that have ended */
    struct act *acts;
} seam;

static void forget_sent(struct sent *sent)
{
    struct sent **at = &seam.first;
    while (*at != sent)
        at = &(*at)->next;
    *at = sent->next;
    if (seam.end == &sent->next)
        seam.end = at;
    sent->next = NULL;
}

static void free_sent(struct sent *sent)
{
    arena_free(&sent->arena);
    buffer_free(&sent->reply);
    free(sent);
}

static void append_sent(struct sent *sent)
{
    *seam.end = sent;
    seam.end = &sent->next;
}

/* The call must be in no list any more: `done` may free it and send others. */
static void end_call(struct sent *sent, enum err err)
{
    struct reply_reader reader = {0};
    const struct store_reply *reply = NULL;
    struct store_call *call = sent->call;
    if (err == ERR_OK) {
        reply_reader_open(&reader);
        ck_assert(reply_reader_feed(&reader, sent->reply.data, sent->reply.length));
        ck_assert_int_eq(reply_reader_next(&reader, &reply), REPLY_READY);
        call->replicas = call->flags & STORE_DURABLE ? rig.replicas : 0;
    }
    call->done(call, err, reply);
    if (err == ERR_OK)
        reply_reader_close(&reader);
    free_sent(sent);
}

struct store_link *store_link_open(struct store *store, uv_loop_t *loop)
{
    (void)loop;
    struct store_link *link = xcalloc(1, sizeof(*link));
    link->store = store;
    link->of_refresher = opening != NULL;
    return link;
}

void store_send(struct store_link *link, struct store_call *call)
{
    struct sent *sent = xcalloc(1, sizeof(*sent));
    sent->link = link;
    sent->call = call;
    sent->arguments = arena_alloc(&sent->arena, (call->argument_count + 1) * sizeof(struct text));
    for (size_t i = 0; i < call->argument_count; i++)
        sent->arguments[i] = arena_copy(&sent->arena, call->arguments[i]);
    snprintf(sent->name, sizeof(sent->name), "%s%s", link->of_refresher ? "refresher:" : "",
             redis_model_name(call->script, call->arguments));
    call->replicas = 0;
    append_sent(sent);
}

void store_flush(struct store_link *link)
{
    (void)link;
}

static struct sent *find_of_link(const struct store_link *link)
{
    struct sent *sent = seam.first;
    while (sent && sent->link != link)
        sent = sent->next;
    return sent;
}

size_t store_link_pending(const struct store_link *link)
{
    size_t count = 0;
    for (const struct sent *sent = seam.first; sent; sent = sent->next)
        count += sent->link == link;
    return count;
}

void store_link_close(struct store_link **link)
{
    struct sent *sent;
    while ((sent = find_of_link(*link))) {
        forget_sent(sent);
        end_call(sent, ERR_SHUTTING_DOWN);
    }
    free(*link);
    *link = NULL;
}

void store_listen(struct store *store, const struct store_listener *watcher)
{
    store->watcher = watcher ? *watcher : (struct store_listener){0};
}

void store_set_mark(struct store *store, const struct store_mark *mark)
{
    (void)store;
    (void)mark;
}

uint32_t store_generation(const struct store *store, unsigned slot)
{
    (void)slot;
    return store->generation;
}

uint32_t store_link_generation(const struct store_link *link, unsigned slot)
{
    return store_generation(link->store, slot);
}

/* A tracking connection that is up was pinged just now. */
int64_t store_proof_ms(const struct store *store, uint32_t generation)
{
    if (generation == store->generation && generation != 0)
        return clock_boot_ms();
    return generation < 64 ? seam.proofs_ms[generation] : INT64_MIN;
}

/* --- tracking --- */

static void doubt_all(struct store *store)
{
    uint8_t slots[SLOT_COUNT / 8];
    memset(slots, 0xff, sizeof(slots));
    store->watcher.doubted(store->watcher.user, slots, false);
}

void rig_watch(struct rig_node *node, bool up)
{
    struct store *store = node->store;
    if (store->generation != 0)
        seam.proofs_ms[store->generation] = clock_boot_ms();
    store->generation = up ? ++seam.generations : 0;
    ck_assert_uint_lt(seam.generations, 64);
    if (up)
        doubt_all(store);
}

void rig_tell(struct rig_node *node, struct text key)
{
    node->store->watcher.changed(node->store->watcher.user, key);
}

void rig_doubt(struct rig_node *node, const char *user, bool owner_changed)
{
    uint8_t slots[SLOT_COUNT / 8] = {0};
    unsigned slot = store_slot(rig_user_key(user, 'u'));
    slots[slot / 8] = (uint8_t)(1u << slot % 8);
    node->store->watcher.doubted(node->store->watcher.user, slots, owner_changed);
}

static void tell(struct store *store, struct text key)
{
    bool watched =
        key.length > 5 && (memcmp(key.data, "sd:e:", 5) == 0 || memcmp(key.data, "sd:p:", 5) == 0);
    if (!watched || store->generation == 0 || !store->watcher.changed)
        return;
    if (!store->deaf) {
        store->watcher.changed(store->watcher.user, key);
        return;
    }
    buffer_add_text(&store->unheard, key);
    buffer_add_char(&store->unheard, '\n');
}

static void on_changed(void *user, struct text key)
{
    (void)user;
    for (size_t i = 0; i < RIG_NODES; i++)
        if (rig.nodes[i].up)
            tell(rig.nodes[i].store, key);
}

void rig_deafen(struct rig_node *node, bool deaf)
{
    node->store->deaf = deaf;
    struct text unheard = buffer_text(&node->store->unheard);
    while (!deaf && unheard.length > 0)
        tell(node->store, text_take(&unheard, '\n'));
    if (!deaf)
        node->store->unheard.length = 0;
}

/* --- serving --- */

void rig_plan_after(const char *name, enum fate fate, void (*hook)(void))
{
    struct plan *plan = xcalloc(1, sizeof(*plan)), **at = &seam.plans;
    snprintf(plan->name, sizeof(plan->name), "%s", name);
    plan->fate = fate;
    plan->hook = hook;
    while (*at)
        at = &(*at)->next;
    *at = plan;
}

void rig_plan(const char *name, enum fate fate)
{
    rig_plan_after(name, fate, NULL);
}

void rig_forget_plans(void)
{
    while (seam.plans) {
        struct plan *plan = seam.plans;
        seam.plans = plan->next;
        free(plan);
    }
}

static enum fate take_plan(const char *name)
{
    struct plan **at = &seam.plans;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    struct plan *plan = *at;
    if (!plan)
        return rig.fate;
    enum fate fate = plan->fate;
    void (*hook)(void) = plan->hook;
    *at = plan->next;
    free(plan);
    if (hook)
        hook();
    return fate;
}

static void run_call(struct sent *sent)
{
    const struct store_call *call = sent->call;
    sent->reply.length = 0;
    sent->ran = true;
    redis_model_run(rig.redis, call->script, call->key, sent->arguments, call->argument_count,
                    &sent->reply);
    if (rig.mirror)
        rig.mirror(call->script, call->key, sent->arguments, call->argument_count, &sent->reply);
}

static void hold(struct sent *sent)
{
    sent->held = true;
    append_sent(sent);
}

static void wait_for_deadline(const struct store_call *call)
{
    int64_t left_ms = call->deadline_ms - clock_monotonic_ms();
    if (left_ms > 0)
        clock_fake_pass(left_ms);
}

/* As in the store: sent again if it is repeatable. */
static void cut(struct sent *sent)
{
    if (!(sent->call->flags & STORE_REPEATABLE)) {
        end_call(sent, ERR_STORE_UNAVAILABLE);
        return;
    }
    sent->ran = false;
    append_sent(sent);
}

static const char *const strange_replies[] = {
    [FATE_STRANGE] = "+STRANGE\r\n",
    [FATE_TWO_NUMBERS] = "*2\r\n:1\r\n:2\r\n",
    [FATE_FIVE_NUMBERS] = "*5\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n",
};

static const enum err refusals[] = {
    [FATE_AWAY] = ERR_STORE_UNAVAILABLE,
    [FATE_DENIED] = ERR_STORE_DENIED,
    [FATE_UNFIT] = ERR_STORE_UNFIT,
    [FATE_REFUSED] = ERR_STORE_REFUSED,
};

static void meet(struct sent *sent, enum fate fate)
{
    if (fate == FATE_CUT_AFTER || fate == FATE_LATE_AFTER || fate == FATE_HOLD_REPLY ||
        fate == FATE_ANSWER)
        run_call(sent);
    switch (fate) {
    case FATE_STRANGE:
    case FATE_TWO_NUMBERS:
    case FATE_FIVE_NUMBERS:
        buffer_add_text(&sent->reply, text_of(strange_replies[fate]));
        end_call(sent, ERR_OK);
        break;
    case FATE_ANSWER:
        end_call(sent, ERR_OK);
        break;
    case FATE_CUT_BEFORE:
    case FATE_CUT_AFTER:
        cut(sent);
        break;
    case FATE_LATE_BEFORE:
    case FATE_LATE_AFTER:
        wait_for_deadline(sent->call);
        end_call(sent, ERR_STORE_TIMEOUT);
        break;
    case FATE_AWAY:
    case FATE_DENIED:
    case FATE_UNFIT:
    case FATE_REFUSED:
        end_call(sent, refusals[fate]);
        break;
    case FATE_FORGET:
        sent->forgotten = true;
        hold(sent);
        break;
    case FATE_HOLD:
    case FATE_HOLD_REPLY:
        hold(sent);
        break;
    }
}

static void note_served(const char *name)
{
    int length = snprintf(seam.served + seam.served_length,
                          sizeof(seam.served) - seam.served_length, "%s\n", name);
    seam.served_length += (size_t)length;
    if (seam.served_length > sizeof(seam.served) - 64)
        seam.served_length = 0;
}

unsigned rig_served(const char *name)
{
    struct text served = {seam.served, seam.served_length};
    unsigned count = 0;
    while (served.length > 0)
        count += text_equal(text_take(&served, '\n'), text_of(name));
    return count;
}

void rig_recount(void)
{
    seam.served_length = 0;
}

static bool is_late(const struct sent *sent)
{
    return !sent->forgotten && clock_monotonic_ms() >= sent->call->deadline_ms;
}

static struct sent *find_due(void)
{
    struct sent *sent = seam.first;
    while (sent && sent->held && !is_late(sent))
        sent = sent->next;
    return sent;
}

static bool serve(void)
{
    struct sent *sent = find_due();
    if (!sent)
        return false;
    forget_sent(sent);
    note_served(sent->name);
    if (is_late(sent))
        end_call(sent, ERR_STORE_TIMEOUT);
    else if (sent->ran)
        end_call(sent, ERR_OK);
    else
        meet(sent, take_plan(sent->name));
    return true;
}

bool rig_holds(const char *name)
{
    for (const struct sent *sent = seam.first; sent; sent = sent->next)
        if (sent->held && strcmp(sent->name, name) == 0)
            return true;
    return false;
}

void rig_release(void)
{
    for (struct sent *sent = seam.first; sent; sent = sent->next)
        sent->held = false;
}

/* --- turning --- */

static void turn(void)
{
    for (size_t i = 0; i < RIG_NODES; i++) {
        struct rig_node *node = &rig.nodes[i];
        if (!node->worker)
            continue;
        session_worker_flush(node->worker);
        run_loop(&node->loop, UV_RUN_NOWAIT);
    }
    for (size_t i = 0; i < RIG_NODES; i++)
        if (refresher_loops[i])
            run_loop(refresher_loops[i], UV_RUN_NOWAIT);
}

/* Work that goes on in the next turn. */
static bool has_turns(void)
{
    bool any = false;
    for (size_t i = 0; i < RIG_NODES; i++)
        any = any || (rig.nodes[i].worker && rig.nodes[i].worker->turns);
    return any;
}

bool rig_step(void)
{
    turn();
    return serve() || has_turns();
}

/* Serves the calls that turning caused; what they leave to do takes another turn. */
void rig_run(void)
{
    for (int quiet = 0; quiet < 3;)
        quiet = rig_step() ? 0 : quiet + 1;
}

/* In steps, so that timers fire in order. */
void rig_pass(int64_t ms)
{
    while (ms > 0) {
        int64_t step_ms = ms < 50 ? ms : 50;
        clock_fake_pass(step_ms);
        ms -= step_ms;
        rig_run();
    }
}

static void wait_for_journal(void)
{
    struct pollfd loops[2 * RIG_NODES];
    nfds_t count = 0;
    for (size_t i = 0; i < RIG_NODES; i++) {
        if (rig.nodes[i].worker)
            loops[count++] = (struct pollfd){uv_backend_fd(&rig.nodes[i].loop), POLLIN, 0};
        if (refresher_loops[i])
            loops[count++] = (struct pollfd){uv_backend_fd(refresher_loops[i]), POLLIN, 0};
    }
    ck_assert_msg(poll(loops, count, PATIENCE_S * 1000) > 0, "nothing goes on");
}

/* --- lifetime --- */

static void set_text(char **option, const char *value)
{
    free(*option);
    *option = xstrdup(value);
}

/* In memory if possible, so no test waits for a disk. */
static void make_directory(void)
{
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(rig.directory, sizeof(rig.directory), "%s/check_session.XXXXXX", parent);
    ck_assert_ptr_nonnull(mkdtemp(rig.directory));
}

void rig_set_up(void)
{
    clock_fake(RIG_NOW);
    rig = (struct session_rig){.replicas = 1};
    seam.end = &seam.first;
    rig.redis = redis_model_create();
    redis_model_watch(rig.redis, on_changed, NULL);
    rig.keyring = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1);
    rig.conf = conf_defaults();
    set_text(&rig.conf->cache_snapshot, "");
    log_set_level(LOG_LEVEL_ERROR);
    conf_publish(rig.conf);
    make_directory();
    session_prepare();
}

TCase *rig_case(Suite *suite, const char *name, void (*set_up)(void))
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, set_up, rig_tear_down);
    tcase_set_timeout(tcase, 2 * PATIENCE_S);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static struct journal *open_journal(struct rig_node *node)
{
    struct buffer error = {0};
    node->journal_conf = *rig.conf;
    node->journal_conf.journal_file = xmalloc(96);
    snprintf(node->journal_conf.journal_file, 96, "%s/journal-%zu", rig.directory,
             (size_t)(node - rig.nodes));
    struct journal *journal = journal_open(&node->journal_conf, rig.keyring, &error);
    ck_assert_msg(journal, "%.*s", (int)error.length, error.data ? error.data : "");
    return journal;
}

struct rig_node *rig_start_with(size_t number, struct keyring *keyring)
{
    struct rig_node *node = &rig.nodes[number];
    *node = (struct rig_node){.up = true};
    node->store = xcalloc(1, sizeof(*node->store));
    node->cache = cache_create(rig.conf);
    node->tenants = tenants_create((size_t)rig.conf->cache_policy_bytes);
    node->journal = open_journal(node);
    node->service =
        session_service_start(node->store, node->cache, node->tenants, node->journal, keyring);
    uv_loop_init(&node->loop);
    node->worker = session_worker_open(node->service, &node->loop);
    node->context =
        (struct session_context){.worker = node->worker, .keyring = keyring_ref(keyring)};
    rig_run();
    return node;
}

struct rig_node *rig_start(size_t number)
{
    return rig_start_with(number, rig.keyring);
}

struct rig_node *rig_start_newer(size_t number)
{
    struct keyring *both = support_keyring(SUPPORT_NAMES SUPPORT_KEY_1 SUPPORT_KEY_2);
    struct rig_node *node = rig_start_with(number, both);
    keyring_unref(&both);
    return node;
}

void rig_stop(struct rig_node *node)
{
    session_worker_close(&node->worker);
    run_loop(&node->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&node->loop), 0);
    session_service_stop(&node->service);
    keyring_unref(&node->context.keyring);
    journal_close(&node->journal);
    tenants_destroy(&node->tenants);
    cache_destroy(&node->cache);
    buffer_free(&node->store->unheard);
    free(node->store);
    free(node->journal_conf.journal_file);
    node->up = false;
}

void rig_break_disk(bool broken)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = broken ? 0 : limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void remove_directory(void)
{
    DIR *directory = fdopendir(open(rig.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
    rmdir(rig.directory);
}

static void free_acts(void)
{
    while (seam.acts) {
        struct act *act = seam.acts;
        seam.acts = act->next;
        ck_assert_uint_eq(act->done, 1);
        arena_free(&act->arena);
        free(act);
    }
}

void rig_tear_down(void)
{
    for (size_t i = 0; i < RIG_NODES; i++)
        if (rig.nodes[i].up)
            rig_stop(&rig.nodes[i]);
    ck_assert_ptr_null(seam.first);
    ck_assert_msg(!seam.plans, "no call met its fate: %s", seam.plans ? seam.plans->name : "");
    free_acts();
    redis_model_destroy(&rig.redis);
    keyring_unref(&rig.keyring);
    remove_directory();
    clock_fake(0);
}

/* --- operations --- */

static void on_done(struct operation *operation)
{
    ((struct act *)operation->owner)->done++;
}

struct act *act_of(struct rig_node *node)
{
    struct act *act = xcalloc(1, sizeof(*act));
    act->next = seam.acts;
    seam.acts = act;
    act->base = (struct operation){
        .context = &node->context,
        .arena = &act->arena,
        .conf = rig.conf,
        .now_ms = clock_common_ms(),
        .deadline_ms = clock_monotonic_ms() + rig.conf->redis_timeout,
        .done = on_done,
        .owner = act,
        .actor = TEXT("support"),
    };
    return act;
}

bool act_is_done(const struct act *act)
{
    return act->done > 0;
}

enum err act_finish(struct act *act)
{
    while (!act_is_done(act))
        if (!rig_step() && !act_is_done(act))
            wait_for_journal();
    rig_run();
    return act->base.out.err;
}

struct act *act_login(struct rig_node *node, const char *user, const char *device)
{
    struct act *act = act_of(node);
    act->login.tenant = RIG_TENANT;
    act->login.user_id = arena_copy(&act->arena, text_of(user));
    act->login.device = (struct device){.id = arena_copy(&act->arena, text_of(device)),
                                        .type = TEXT("phone"),
                                        .name = TEXT("A phone")};
    session_login(&act->login);
    return act;
}

struct act *act_validate(struct rig_node *node, struct text token)
{
    struct act *act = act_of(node);
    act->validate.token = arena_copy(&act->arena, token);
    act->validate.max_age_s = -1;
    session_validate(&act->validate);
    return act;
}

struct act *act_refresh(struct rig_node *node, struct text token)
{
    struct act *act = act_of(node);
    act->refresh.refresh_token = arena_copy(&act->arena, token);
    session_refresh(&act->refresh);
    return act;
}

struct act *act_logout(struct rig_node *node, struct text token)
{
    struct act *act = act_of(node);
    act->end.token = arena_copy(&act->arena, token);
    act->end.scope = END_OWN;
    act->end.why = TEXT(REASON_LOGGED_OUT);
    session_end(&act->end);
    return act;
}

struct act *act_kick(struct rig_node *node, const char *user, struct text session_id)
{
    struct act *act = act_of(node);
    act->end.tenant = RIG_TENANT;
    act->end.user_id = arena_copy(&act->arena, text_of(user));
    act->end.scope = END_ONE;
    act->end.target = arena_copy(&act->arena, session_id);
    act->end.why = TEXT(REASON_KICKED);
    session_end(&act->end);
    return act;
}

struct act *act_logout_all(struct rig_node *node, const char *user)
{
    struct act *act = act_of(node);
    act->end.tenant = RIG_TENANT;
    act->end.user_id = arena_copy(&act->arena, text_of(user));
    act->end.scope = END_ALL;
    act->end.why = TEXT(REASON_REVOKED);
    session_end(&act->end);
    return act;
}

struct act *act_freeze(struct rig_node *node, const char *user, bool lift)
{
    struct act *act = act_of(node);
    act->freeze.tenant = RIG_TENANT;
    act->freeze.user_id = arena_copy(&act->arena, text_of(user));
    act->freeze.lift = lift;
    act->freeze.why = TEXT("fraud");
    session_freeze(&act->freeze);
    return act;
}

static struct act *act_tenant(struct rig_node *node, enum tenant_action action, struct text given)
{
    struct act *act = act_of(node);
    act->tenant.tenant = RIG_TENANT;
    act->tenant.action = action;
    act->tenant.given = given;
    act->tenant.why = TEXT(REASON_REVOKED);
    session_tenant(&act->tenant);
    return act;
}

struct act *act_policy(struct rig_node *node, const char *json)
{
    return act_tenant(node, TENANT_PUT, text_of(json));
}

struct act *act_end_tenant(struct rig_node *node)
{
    return act_tenant(node, TENANT_END_ALL, (struct text){0});
}

struct act *act_list(struct rig_node *node, const char *user)
{
    struct act *act = act_of(node);
    act->list.tenant = RIG_TENANT;
    act->list.user_id = text_of(user);
    session_list(&act->list);
    return act;
}

struct act *act_users(struct rig_node *node)
{
    struct act *act = act_of(node);
    act->users.tenant = RIG_TENANT;
    act->users.page_size = 10;
    session_list_tenant(&act->users);
    return act;
}

struct act *act_explain(struct rig_node *node, struct text token)
{
    struct act *act = act_of(node);
    act->explain.token = arena_copy(&act->arena, token);
    session_explain(&act->explain);
    return act;
}

struct act *act_attributes(struct rig_node *node, struct text token, enum attributes_action action,
                           const char *given)
{
    struct act *act = act_of(node);
    act->attributes.token = arena_copy(&act->arena, token);
    act->attributes.action = action;
    act->attributes.given = text_of(given);
    session_attributes(&act->attributes);
    return act;
}

static struct rig_session rig_finish_login(struct act *act)
{
    struct rig_session session;
    ck_assert_act(act, ERR_OK);
    memcpy(session.access, act->login.pair.access_token, TOKEN_LENGTH);
    memcpy(session.refresh, act->login.pair.refresh_token, TOKEN_LENGTH);
    ck_assert_uint_eq(act->base.facts.session_id.length, sizeof(session.id));
    memcpy(session.id, act->base.facts.session_id.data, sizeof(session.id));
    return session;
}

struct rig_session rig_login(struct rig_node *node, const char *user)
{
    static unsigned devices;
    char device[32];
    snprintf(device, sizeof(device), "device-%u", ++devices);
    return rig_finish_login(act_login(node, user, device));
}

struct rig_session rig_login_from(struct rig_node *node, const char *user, const char *ip,
                                  const char *fingerprint)
{
    struct act *act = act_of(node);
    act->login.tenant = RIG_TENANT;
    act->login.user_id = text_of(user);
    act->login.device = (struct device){
        .id = TEXT("d"), .type = TEXT("phone"), .fingerprint = text_of(fingerprint)};
    act->login.ip = text_of(ip);
    act->base.claims =
        (struct client_claims){.ip = text_of(ip), .fingerprint = text_of(fingerprint)};
    session_login(&act->login);
    return rig_finish_login(act);
}

struct act *act_validate_from(struct rig_node *node, const struct rig_session *session,
                              const char *ip, const char *fingerprint)
{
    struct act *act = act_of(node);
    act->validate.token = arena_copy(&act->arena, rig_access(session));
    act->base.claims =
        (struct client_claims){.ip = text_of(ip), .fingerprint = text_of(fingerprint)};
    act->validate.max_age_s = -1;
    session_validate(&act->validate);
    return act;
}

void rig_seal_anew(struct rig_node *node, struct text access_token)
{
    ck_assert_act(act_attributes(node, access_token, ATTRIBUTES_PUT, "{\"sealed\":1}"), ERR_OK);
}

struct text rig_access(const struct rig_session *session)
{
    return (struct text){session->access, TOKEN_LENGTH};
}

struct text rig_refresh(const struct rig_session *session)
{
    return (struct text){session->refresh, TOKEN_LENGTH};
}

struct text rig_id(const struct rig_session *session)
{
    return (struct text){session->id, sizeof(session->id)};
}

enum err rig_validate(struct rig_node *node, const struct rig_session *session)
{
    return act_finish(act_validate(node, rig_access(session)));
}

size_t rig_unconfirmed(const struct rig_node *node)
{
    struct journal_usage usage;
    journal_usage(node->journal, &usage);
    return usage.unconfirmed;
}

struct text rig_user_key(const char *user, char prefix)
{
    static char keys[2][KEYS_USER_LENGTH];
    char *key = keys[prefix == 'e'];
    struct user_tag owner;
    token_tag_user(rig.keyring, RIG_TENANT, text_of(user), &owner);
    keys_user(&owner, (enum keys_kind)prefix, key);
    return (struct text){key, KEYS_USER_LENGTH};
}
