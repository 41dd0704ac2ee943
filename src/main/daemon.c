/* The life of the service: start in order, wait for signals, stop in reverse.
 *
 * The main thread does nothing but wait for signals. All signals it handles are blocked before the
 * first thread starts, so that no other thread ever runs a handler; there are no handlers but the
 * one that lets a second SIGTERM cut a drain short. */
#include "command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "alerts.h"
#include "audit.h"
#include "cache.h"
#include "clock.h"
#include "file_locks.h"
#include "http.h"
#include "journal.h"
#include "lifecycle.h"
#include "log.h"
#include "metrics.h"
#include "location.h"
#include "reload.h"
#include "risks.h"
#include "session.h"
#include "store.h"

enum {
    DESCRIPTORS_BESIDE_CONNECTIONS = 256, /* Redis connections, loops, files */
    STOP_SLACK_SECONDS = 10, /* beyond drain_timeout: last audit lines, joining threads */
    LOG_PATIENCE_MS = 1000   /* at the end, for a reader of stderr that is slow or gone */
};

struct daemon {
    const char *path; /* of the configuration */
    char node_name[256];
    struct file_locks *locks;
    struct keyring *keyring;
    struct audit *audit;
    struct audit_lane *record; /* for lines about the service itself */
    bool serving;              /* it has started, and its stop is worth a line */
    struct alerts *alerts;
    struct store *store;
    struct journal *journal;
    struct cache *cache;
    struct tenants *tenants;
    struct session_service *sessions;
    struct cache_saver *saver;
    struct http_server *server;
    sigset_t signals;
    int64_t watchdog_ms; /* 0: nobody watches */
    bool stuck;          /* a worker is; said once */
};

/* The process itself. */

/* Memory holds keys and tokens: it must neither be dumped nor read through ptrace. Sanitizers work
 * through ptrace. */
static void hide_memory(void)
{
    struct rlimit none = {0, 0};
    bool hidden = setrlimit(RLIMIT_CORE, &none) == 0;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    hidden = prctl(PR_SET_DUMPABLE, 0) == 0 && hidden;
#endif
    if (!hidden)
        log_warning("core_dumps_on", "error=\"%s\"", strerror(errno));
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    bool raised = getrlimit(RLIMIT_NOFILE, &limit) == 0;
    limit.rlim_cur = limit.rlim_max;
    raised = raised && setrlimit(RLIMIT_NOFILE, &limit) == 0;
    if (!raised)
        log_warning("descriptor_limit_not_raised", "error=\"%s\"", strerror(errno));
}

static void prepare_process(struct daemon *daemon)
{
    hide_memory();
    raise_descriptor_limit();
    umask(0077);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&daemon->signals);
    sigaddset(&daemon->signals, SIGTERM);
    sigaddset(&daemon->signals, SIGINT);
    sigaddset(&daemon->signals, SIGHUP);
    sigaddset(&daemon->signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &daemon->signals, NULL);
    uint64_t microseconds = 0;
    if (sd_watchdog_enabled(0, &microseconds) > 0)
        daemon->watchdog_ms = (int64_t)(microseconds / 1000);
}

/* What is allowed and yet worth a word, of this machine and of the configuration. */
static void warn_of_risks(const struct conf *conf)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)conf->server_max_connections + DESCRIPTORS_BESIDE_CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        log_warning("descriptor_limit_low", "limit=%llu wanted=%llu",
                    (unsigned long long)limit.rlim_cur, (unsigned long long)wanted);
    }
    risks_warn(conf);
}

/* Messages of the lower layers quote with ', which log_quote() would take for the end of the value;
 * within our double quotes it may stay. */
static void quote_message(char *out, size_t size, struct text message)
{
    size_t length = message.length < size - 1 ? message.length : size - 1;
    for (size_t i = 0; i < length; i++) {
        out[i] = message.data[i];
        if (out[i] == '"')
            out[i] = '\'';
        else if (out[i] < ' ' || out[i] > '~' || out[i] == '\\')
            out[i] = '?';
    }
    out[length] = '\0';
}

/* Logs messages that come one a line. */
static void log_messages(const char *event, struct text messages)
{
    char quoted[1024];
    while (messages.length > 0) {
        const char *end = memchr(messages.data, '\n', messages.length);
        size_t length = end ? (size_t)(end - messages.data) : messages.length;
        quote_message(quoted, sizeof(quoted), (struct text){messages.data, length});
        log_error(event, "reason=\"%s\"", quoted);
        size_t taken = end ? length + 1 : length;
        messages = (struct text){messages.data + taken, messages.length - taken};
    }
}

/* The steps of the start; each is undone by the function beside it. */

static bool locks_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    daemon->locks = file_locks_take(conf, error);
    return daemon->locks != NULL;
}

static void locks_down(struct daemon *daemon)
{
    file_locks_release(&daemon->locks);
}

static bool keys_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    daemon->keyring = command_load_keys(conf, true, error);
    return daemon->keyring != NULL;
}

static void keys_down(struct daemon *daemon)
{
    keyring_unref(&daemon->keyring);
}

static bool audit_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    daemon->audit = audit_start(conf, daemon->node_name, error);
    if (daemon->audit != NULL)
        daemon->record = audit_lane_create(daemon->audit, NULL, NULL);
    return daemon->audit != NULL;
}

static void audit_down(struct daemon *daemon)
{
    if (daemon->serving)
        lifecycle_record_stop(daemon->record, false);
    audit_lane_destroy(&daemon->record);
    audit_stop(&daemon->audit);
}

static bool alerts_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    daemon->alerts = alerts_start(conf, daemon->audit, daemon->node_name, error);
    return daemon->alerts != NULL;
}

static void alerts_down(struct daemon *daemon)
{
    alerts_stop(&daemon->alerts);
}

static bool store_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    daemon->store = store_start(conf, error);
    return daemon->store != NULL;
}

static void store_down(struct daemon *daemon)
{
    store_stop(&daemon->store);
}

static bool journal_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    daemon->journal = journal_open(conf, daemon->keyring, error);
    return daemon->journal != NULL;
}

static void journal_down(struct daemon *daemon)
{
    journal_close(&daemon->journal);
}

static bool places_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    (void)daemon;
    struct locations *locations = locations_open(conf, error);
    locations_publish(locations);
    return locations != NULL;
}

static void places_down(struct daemon *daemon)
{
    (void)daemon;
    locations_publish(NULL);
}

/* A snapshot that is not ours, or damaged, is no reason not to start: the cache fills again. */
static bool cache_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    SCOPED(buffer_free) struct buffer problems = {0};
    size_t loaded = 0;
    (void)error;
    daemon->cache = cache_create(conf);
    if (conf->cache_snapshot[0] == '\0')
        return true;
    if (!cache_load(daemon->cache, daemon->keyring, conf->cache_snapshot, conf->outage_grace * 1000,
                    &loaded, &problems))
        log_messages("snapshot_ignored", buffer_text(&problems));
    log_info("snapshot_loaded", "entries=%zu", loaded);
    return true;
}

static void cache_down(struct daemon *daemon)
{
    cache_destroy(&daemon->cache);
}

/* The same for the tenants: what was known last of their policies and cutoffs. */
static bool tenants_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    SCOPED(buffer_free) struct buffer path = {0}, problems = {0};
    size_t loaded = 0;
    (void)error;
    daemon->tenants = tenants_create((size_t)conf->cache_policy_bytes);
    if (conf->cache_snapshot[0] == '\0')
        return true;
    buffer_addf(&path, "%s%s", conf->cache_snapshot, TENANTS_SUFFIX);
    buffer_add_char(&path, '\0');
    if (!tenants_load(daemon->tenants, daemon->keyring, path.data, &loaded, &problems))
        log_messages("snapshot_ignored", buffer_text(&problems));
    log_info("tenants_loaded", "tenants=%zu", loaded);
    return true;
}

static void tenants_down(struct daemon *daemon)
{
    tenants_destroy(&daemon->tenants);
}

static bool sessions_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    (void)conf;
    (void)error;
    daemon->sessions = session_service_start(daemon->store, daemon->cache, daemon->tenants,
                                             daemon->journal, daemon->keyring);
    daemon->saver = cache_saver_start(daemon->cache, daemon->tenants, daemon->keyring,
                                      session_entry_verified, daemon->sessions);
    return true;
}

/* The saver asks the service how old entries are, the last time when it stops. */
static void sessions_down(struct daemon *daemon)
{
    cache_saver_stop(&daemon->saver);
    session_service_stop(&daemon->sessions);
}

static bool http_up(struct daemon *daemon, const struct conf *conf, struct buffer *error)
{
    struct http_services services = {.audit = daemon->audit,
                                     .alerts = daemon->alerts,
                                     .store = daemon->store,
                                     .cache = daemon->cache,
                                     .journal = daemon->journal,
                                     .sessions = daemon->sessions,
                                     .keyring = daemon->keyring,
                                     .node_name = daemon->node_name};
    daemon->server = http_server_start(conf, &services, error);
    return daemon->server != NULL;
}

/* What is stuck may still use everything that is below it: what is worth keeping is written, the
 * rest ends with the process. */
static void http_down(struct daemon *daemon)
{
    if (http_server_stop(&daemon->server))
        return;
    cache_saver_stop(&daemon->saver);
    lifecycle_record_stop(daemon->record, true);
    audit_stop(&daemon->audit);
    log_error("stopped_by_force", "reason=\"a worker is stuck\"");
    _exit(EXIT_RUNTIME);
}

static const struct step {
    const char *name;
    bool (*up)(struct daemon *daemon, const struct conf *conf, struct buffer *error);
    void (*down)(struct daemon *daemon);
} steps[] = {
    {"locks", locks_up, locks_down}, /* of files, before any of them is read */
    {"keys", keys_up, keys_down},
    {"audit", audit_up, audit_down},
    {"alerts", alerts_up, alerts_down},
    {"store", store_up, store_down},
    {"journal", journal_up, journal_down},
    {"cache", cache_up, cache_down},
    {"tenants", tenants_up, tenants_down},
    {"places", places_up, places_down},
    {"sessions", sessions_up, sessions_down},
    {"http", http_up, http_down},
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

/* Number of steps that were taken. */
static size_t start(struct daemon *daemon)
{
    SCOPED(conf_unref) struct conf *conf = conf_current();
    SCOPED(buffer_free) struct buffer error = {0};
    size_t taken = 0;
    while (taken < STEPS && steps[taken].up(daemon, conf, &error))
        taken++;
    if (taken < STEPS) {
        log_error("start_failed", "step=%s", steps[taken].name);
        log_messages("start_failed", buffer_text(&error));
    }
    daemon->serving = taken == STEPS;
    struct text failed = {0};
    if (taken < STEPS)
        failed = text_of(steps[taken].name);
    if (daemon->record != NULL)
        lifecycle_record_start(daemon->record, failed);
    return taken;
}

static void stop(struct daemon *daemon, size_t taken)
{
    while (taken > 0)
        steps[--taken].down(daemon);
}

/* Reload: everything is read and checked before anything is changed. */

/* The names secret is in every key name and every stored hash, a numbered key in its tokens and
 * records: with other digits all that was made with them would be unknown. Only a node whose keys
 * are foreign, which says 503 to every call, may get others. */
static bool check_digits(const struct daemon *daemon, const struct keyring *keyring,
                         struct buffer *error)
{
    if (session_keys(daemon->sessions, NULL) == SESSION_KEYS_FOREIGN)
        return true;
    for (unsigned id = 0; id <= KEY_ID_MAX; id++) {
        const uint8_t *running = keyring_mark(daemon->keyring, (uint8_t)id);
        const uint8_t *wanted = keyring_mark(keyring, (uint8_t)id);
        if (!running || !wanted || memcmp(running, wanted, KEY_MARK) == 0)
            continue;
        if (id == 0)
            buffer_add_literal(error, "the names secret in the key file must never change\n");
        else
            buffer_addf(error,
                        "key %u in the key file has other digits than before; a new key "
                        "takes a new number\n",
                        id);
        return false;
    }
    return true;
}

static struct keyring *load_new_keys(const struct daemon *daemon, const struct conf *conf,
                                     struct buffer *error)
{
    struct keyring *keyring = command_load_keys(conf, false, error);
    if (keyring != NULL && !check_digits(daemon, keyring, error))
        keyring_unref(&keyring);
    if (keyring != NULL && !keyring_has(keyring, keyring_newest(daemon->keyring))) {
        log_warning("key_gone", "id=%u effect=\"its tokens and records are dead\"",
                    keyring_newest(daemon->keyring));
    }
    return keyring;
}

/* A new configuration that may be taken over, or NULL with messages. */
static struct conf *load_new_conf(const struct daemon *daemon, struct buffer *error)
{
    struct conf *wanted = conf_load(daemon->path, error);
    if (wanted == NULL)
        return NULL;
    struct conf *running = conf_current();
    const char *frozen = conf_frozen_difference(running, wanted);
    conf_unref(&running);
    if (frozen != NULL) {
        buffer_addf(error, "%s: %s changes with a restart only\n", daemon->path, frozen);
        conf_unref(&wanted);
    }
    return wanted;
}

/* Publishes conf and places, whose references are taken over, and hands conf and keys to those who
 * run. */
static void take_over(struct daemon *daemon, struct conf *conf, struct keyring *keyring,
                      struct locations *locations)
{
    locations_publish(locations);
    log_set_level(conf->log_level);
    warn_of_risks(conf);
    audit_reload(daemon->audit, conf);
    alerts_reload(daemon->alerts, conf);
    journal_reload(daemon->journal, conf);
    journal_rekey(daemon->journal, keyring);
    cache_resize(daemon->cache, conf);
    conf_publish(conf);
    http_server_reload(daemon->server);
    http_server_rekey(daemon->server, keyring);
    session_service_rekey(daemon->sessions, keyring);
    if (daemon->saver != NULL)
        cache_saver_rekey(daemon->saver, keyring);
    keyring_unref(&daemon->keyring);
    daemon->keyring = keyring;
}

static bool reload(struct daemon *daemon, struct buffer *error)
{
    struct conf *conf = load_new_conf(daemon, error);
    if (conf == NULL)
        return false;
    struct keyring *keyring = load_new_keys(daemon, conf, error);
    struct locations *locations = keyring != NULL ? locations_open(conf, error) : NULL;
    if (locations == NULL || !alerts_check(conf, error) ||
        !store_reload(daemon->store, conf, error)) {
        locations_unref(&locations);
        keyring_unref(&keyring);
        conf_unref(&conf);
        return false;
    }
    struct conf *before = conf_current();
    lifecycle_record_reload(daemon->record, daemon->path, before, conf, (struct text){0});
    lifecycle_record_keys(daemon->record, daemon->keyring, keyring);
    conf_unref(&before);
    take_over(daemon, conf, keyring, locations);
    return true;
}

static void refuse_reload(const struct daemon *daemon, struct text reasons)
{
    log_messages("config_refused", reasons);
    lifecycle_record_reload(daemon->record, daemon->path, NULL, NULL, reasons);
}

/* SIGHUP, told to systemd (sd_notify(3): microseconds of CLOCK_MONOTONIC, not before the signal),
 * to the log and to whoever asked. */
static void reload_and_tell(struct daemon *daemon, const siginfo_t *asked)
{
    SCOPED(buffer_free) struct buffer error = {0};
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_monotonic_ns() / 1000));
    bool taken = reload(daemon, &error);
    if (taken)
        log_info("config_reloaded", "file=%s", daemon->path);
    else
        refuse_reload(daemon, buffer_text(&error));
    metrics_add(taken ? METRIC_CONFIG_RELOADS : METRIC_CONFIG_RELOAD_ERRORS, 1);
    sd_notifyf(0, "READY=1\nSTATUS=%s",
               taken ? "Serving" : "Serving; the last reload was refused, see the log");
    reload_answer(asked, taken);
}

/* The wait for signals. */

/* Half the watchdog's interval is the bound for a worker's loop turn, a quarter the pace of pings:
 * a stuck worker is found before the watchdog ends, a slow one is not mistaken for it. */
static void ping_watchdog(struct daemon *daemon)
{
    if (daemon->watchdog_ms == 0)
        return;
    bool alive = http_server_alive(daemon->server, daemon->watchdog_ms / 2);
    if (alive)
        sd_notify(0, "WATCHDOG=1");
    else if (!daemon->stuck)
        log_error("worker_stuck", "milliseconds=%lld", (long long)(daemon->watchdog_ms / 2));
    daemon->stuck = !alive;
}

/* The next signal, 0 when it is time for a ping or `most_ms` have passed; 0: no such bound. */
static int next_signal(const struct daemon *daemon, int64_t most_ms, siginfo_t *ret)
{
    int64_t pause_ms = daemon->watchdog_ms / 4;
    if (most_ms > 0 && (pause_ms == 0 || most_ms < pause_ms))
        pause_ms = most_ms;
    struct timespec pause = {.tv_sec = pause_ms / 1000, .tv_nsec = pause_ms % 1000 * 1000000};
    int number = pause_ms > 0 ? sigtimedwait(&daemon->signals, ret, &pause)
                              : sigwaitinfo(&daemon->signals, ret);
    return number > 0 ? number : 0;
}

/* Returns when the service is to stop. */
static void serve(struct daemon *daemon)
{
    siginfo_t sender;
    int number = 0;
    while (number != SIGTERM && number != SIGINT) {
        ping_watchdog(daemon);
        number = next_signal(daemon, 0, &sender);
        if (number == SIGHUP)
            reload_and_tell(daemon, &sender);
        else if (number == SIGUSR1)
            audit_reopen(daemon->audit);
    }
    log_info("stopping", "signal=%s", number == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void ignore_reload(const siginfo_t *asked)
{
    log_warning("reload_ignored", "reason=\"the service stops\"");
    reload_answer(asked, false);
}

/* Serves on for drain_delay while /readyz says 503: who sends calls here is to notice before
 * connections are refused. Another SIGTERM or SIGINT ends the wait. */
static void delay_drain(struct daemon *daemon, int64_t seconds)
{
    int64_t end_ms = clock_monotonic_ms() + seconds * 1000;
    int64_t left_ms = seconds * 1000;
    siginfo_t sender;
    int number = 0;
    http_server_announce_stop(daemon->server);
    while (left_ms > 0 && number != SIGTERM && number != SIGINT) {
        ping_watchdog(daemon);
        number = next_signal(daemon, left_ms, &sender);
        if (number == SIGUSR1)
            audit_reopen(daemon->audit);
        else if (number == SIGHUP)
            ignore_reload(&sender);
        left_ms = end_ms - clock_monotonic_ms();
    }
}

static void exit_at_once(int number)
{
    (void)number;
    _exit(EXIT_RUNTIME);
}

/* Told to stop: from the return on the main thread is busy with stopping. */
static void begin_stop(struct daemon *daemon)
{
    struct conf *conf = conf_current();
    long long delay = conf->server_drain_delay;
    long long patience = conf->server_drain_timeout + STOP_SLACK_SECONDS;
    conf_unref(&conf);
    sd_notifyf(0, "STOPPING=1\nSTATUS=Draining\nEXTEND_TIMEOUT_USEC=%lld000000", delay + patience);
    delay_drain(daemon, delay);
    sd_notifyf(0, "WATCHDOG_USEC=%lld000000", patience);
    struct sigaction at_once = {.sa_handler = exit_at_once};
    sigset_t stopping;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTERM);
    sigaddset(&stopping, SIGINT);
    sigaction(SIGTERM, &at_once, NULL);
    sigaction(SIGINT, &at_once, NULL);
    pthread_sigmask(SIG_UNBLOCK, &stopping, NULL);
}

/* The name in the configuration, else the host's. */
static void name_node(struct daemon *daemon, const struct conf *conf)
{
    if (conf->server_node_name[0] != '\0')
        snprintf(daemon->node_name, sizeof(daemon->node_name), "%s", conf->server_node_name);
    else if (gethostname(daemon->node_name, sizeof(daemon->node_name) - 1) != 0)
        snprintf(daemon->node_name, sizeof(daemon->node_name), "unknown");
}

int daemon_run(const struct arguments *arguments)
{
    struct daemon daemon = {.path = arguments->config ? arguments->config : DEFAULT_CONFIG};
    struct conf *conf = command_load_config(daemon.path);
    if (conf == NULL)
        return EXIT_USAGE;
    log_set_level(conf->log_level);
    prepare_process(&daemon);
    int error = log_start();
    if (error != 0)
        log_warning("log_unbuffered", "reason=\"%s\"", strerrordesc_np(error));
    http_prepare();
    session_prepare();
    warn_of_risks(conf);
    name_node(&daemon, conf);
    conf_publish(conf);

    size_t taken = start(&daemon);
    bool started = taken == STEPS;
    if (started) {
        log_info("started", "version=%s revision=%s node=%s", SESSIOND_VERSION, SESSIOND_REVISION,
                 daemon.node_name);
        sd_notify(0, "READY=1\nSTATUS=Serving");
        serve(&daemon);
        begin_stop(&daemon);
    }
    stop(&daemon, taken);
    conf_publish(NULL);
    if (started)
        log_info("stopped", "version=%s", SESSIOND_VERSION);
    log_flush(LOG_PATIENCE_MS);
    return started ? EXIT_DONE : EXIT_RUNTIME;
}
