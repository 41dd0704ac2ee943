/* Boot order: prepares the process, starts each part in order, stops them in reverse. */
#include "boot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "alerts.h"
#include "audit.h"
#include "cache.h"
#include "command.h"
#include "file_locks.h"
#include "http.h"
#include "journal.h"
#include "lifecycle.h"
#include "location.h"
#include "log.h"
#include "risks.h"
#include "session.h"
#include "session/model/keys.h"
#include "store.h"

enum {
    DESCRIPTORS_BESIDE_CONNECTIONS = 256 /* Redis connections, loops, files */
};

/* --- the process --- */

/* Memory holds keys and tokens, so it must be neither dumped nor read through ptrace. Sanitizers
 * need ptrace. */
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

void boot_prepare_process(struct daemon *daemon)
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

void boot_warn_of_risks(const struct conf *conf)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)conf->server_max_connections + DESCRIPTORS_BESIDE_CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        log_warning("descriptor_limit_low", "limit=%llu wanted=%llu",
                    (unsigned long long)limit.rlim_cur, (unsigned long long)wanted);
    }
    risks_warn(conf);
}

void boot_name_node(struct daemon *daemon, const struct conf *conf)
{
    if (conf->server_node_name[0] != '\0')
        snprintf(daemon->node_name, sizeof(daemon->node_name), "%s", conf->server_node_name);
    else if (gethostname(daemon->node_name, sizeof(daemon->node_name) - 1) != 0)
        snprintf(daemon->node_name, sizeof(daemon->node_name), "unknown");
}

/* --- messages --- */

/* Lower layers quote with ', which log_quote() would take for the end of the value. Within our
 * double quotes it may stay. */
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

void boot_log_messages(const char *event, struct text messages)
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

/* --- the steps, each beside the function that undoes it --- */

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
    if (daemon->keyring != NULL && !command_check_signing(conf, daemon->keyring, error))
        keyring_unref(&daemon->keyring);
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
    daemon->store = store_start(conf, &keys_of_store, error);
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
    struct location_db *locations = location_db_open(conf, error);
    location_db_publish(locations);
    return locations != NULL;
}

static void places_down(struct daemon *daemon)
{
    (void)daemon;
    location_db_publish(NULL);
}

/* Starts without a foreign or damaged snapshot: the cache fills again. */
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
        boot_log_messages("snapshot_ignored", buffer_text(&problems));
    log_info("snapshot_loaded", "entries=%zu", loaded);
    return true;
}

static void cache_down(struct daemon *daemon)
{
    cache_destroy(&daemon->cache);
}

/* The last known policies and cutoffs of tenants; a bad snapshot is ignored as in cache_up(). */
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
        boot_log_messages("snapshot_ignored", buffer_text(&problems));
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

/* The saver stops first: its last save asks the service how old entries are. */
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
    daemon->server = http_server_start(conf, &services, &http_handlers, error);
    return daemon->server != NULL;
}

/* A stuck worker may still use everything below it. So the cache and the audit log are written, and
 * the process exits without the other steps. */
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
    {"locks", locks_up, locks_down}, /* before any locked file is read */
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

bool boot_start(struct daemon *daemon)
{
    SCOPED(conf_unref) struct conf *conf = conf_current();
    SCOPED(buffer_free) struct buffer error = {0};
    struct text failed = {0};
    while (daemon->steps_up < STEPS && steps[daemon->steps_up].up(daemon, conf, &error))
        daemon->steps_up++;
    daemon->serving = daemon->steps_up == STEPS;
    if (!daemon->serving) {
        failed = text_of(steps[daemon->steps_up].name);
        log_error("start_failed", "step=%s", steps[daemon->steps_up].name);
        boot_log_messages("start_failed", buffer_text(&error));
    }
    if (daemon->record != NULL)
        lifecycle_record_start(daemon->record, failed);
    return daemon->serving;
}

void boot_stop(struct daemon *daemon)
{
    while (daemon->steps_up > 0)
        steps[--daemon->steps_up].down(daemon);
}
