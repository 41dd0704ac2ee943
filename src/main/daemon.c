/* The running service: waits for signals, reloads on SIGHUP, reopens the audit log on SIGUSR1,
 * pings the watchdog, and drains on SIGTERM.
 *
 * The main thread does nothing else. The only signal handler lets a second SIGTERM cut a drain
 * short. */
#include "boot.h"
#include "command.h"

#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "alerts.h"
#include "audit.h"
#include "cache.h"
#include "clock.h"
#include "http.h"
#include "journal.h"
#include "lifecycle.h"
#include "location.h"
#include "log.h"
#include "metrics.h"
#include "reload.h"
#include "session.h"
#include "store.h"

enum {
    STOP_SLACK_SECONDS = 10, /* beyond drain_timeout: last audit lines, joining threads */
    LOG_PATIENCE_MS = 1000   /* at the end, for a reader of stderr that is slow or gone */
};

/* --- reload: everything is read and checked before anything is changed --- */

/* A reload may add and drop keys but not change their digits. Every key name and stored hash
 * depends on the names secret, and a numbered key's tokens and records on that key: all of them
 * would become unknown. A node whose keys are foreign answers every call with 503, so it may get
 * other digits. */
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
    if (keyring != NULL &&
        (!check_digits(daemon, keyring, error) || !command_check_signing(conf, keyring, error)))
        keyring_unref(&keyring);
    if (keyring != NULL && !keyring_has(keyring, keyring_newest(daemon->keyring))) {
        log_warning("key_gone", "id=%u effect=\"its tokens and records are dead\"",
                    keyring_newest(daemon->keyring));
    }
    return keyring;
}

/* The new configuration, or NULL with messages if it is invalid or needs a restart. */
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

/* Publishes conf and locations, and hands conf, keys and TLS credentials to the running parts.
 * Consumes all references. */
static void apply_reload(struct daemon *daemon, struct conf *conf, struct keyring *keyring,
                         struct location_db *locations, struct https *https)
{
    keyring_succeed(keyring, daemon->keyring);
    location_db_publish(locations);
    log_set_level(conf->log_level);
    boot_warn_of_risks(conf);
    audit_reload(daemon->audit, conf);
    alerts_reload(daemon->alerts, conf);
    journal_reload(daemon->journal, conf);
    journal_rekey(daemon->journal, keyring);
    cache_resize(daemon->cache, conf);
    conf_publish(conf);
    https_publish(https);
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
    struct location_db *locations = keyring != NULL ? location_db_open(conf, error) : NULL;
    struct https *https = NULL;
    if (locations == NULL || !https_load(conf, &https, error) || !alerts_check(conf, error) ||
        !store_reload(daemon->store, conf, error)) {
        https_unref(&https);
        location_db_unref(&locations);
        keyring_unref(&keyring);
        conf_unref(&conf);
        return false;
    }
    struct conf *before = conf_current();
    lifecycle_record_reload(daemon->record, daemon->path, before, conf, (struct text){0});
    lifecycle_record_keys(daemon->record, daemon->keyring, keyring);
    conf_unref(&before);
    apply_reload(daemon, conf, keyring, locations, https);
    return true;
}

static void refuse_reload(const struct daemon *daemon, struct text reasons)
{
    boot_log_messages("config_refused", reasons);
    lifecycle_record_reload(daemon->record, daemon->path, NULL, NULL, reasons);
}

/* Reloads on SIGHUP and reports the outcome to systemd, the log and the sender. sd_notify(3) wants
 * microseconds of CLOCK_MONOTONIC, not before the signal. */
static void reload_and_report(struct daemon *daemon, const siginfo_t *asked)
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

/* --- signals and the watchdog --- */

/* A worker counts as stuck when its loop turn lasts half the watchdog's interval; pings go out
 * every quarter. So a stuck worker is logged before the watchdog fires, and a slow one is not
 * mistaken for it. */
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

/* Waits for the next signal and returns its number. Returns 0 when a ping is due, or after
 * `most_ms` (0: no such bound). */
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

/* Handles signals until one stops the service. */
static void serve(struct daemon *daemon)
{
    siginfo_t sender;
    int number = 0;
    while (number != SIGTERM && number != SIGINT) {
        ping_watchdog(daemon);
        number = next_signal(daemon, 0, &sender);
        if (number == SIGHUP)
            reload_and_report(daemon, &sender);
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

/* Keeps serving for drain_delay while /readyz answers 503, so that load balancers notice before
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

/* Drains, then lets SIGTERM and SIGINT exit at once: from here on the main thread is busy with
 * stopping, and a second signal cuts that short. */
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

int daemon_run(const struct arguments *arguments)
{
    struct daemon daemon = {.path = arguments->config ? arguments->config : DEFAULT_CONFIG};
    struct conf *conf = command_load_config(daemon.path);
    if (conf == NULL)
        return EXIT_USAGE;
    log_set_level(conf->log_level);
    boot_prepare_process(&daemon);
    int error = log_start();
    if (error != 0)
        log_warning("log_unbuffered", "reason=\"%s\"", strerrordesc_np(error));
    http_prepare();
    session_prepare();
    boot_warn_of_risks(conf);
    boot_name_node(&daemon, conf);
    conf_publish(conf);

    bool started = boot_start(&daemon);
    if (started) {
        log_info("started", "version=%s revision=%s node=%s", SESSIOND_VERSION, SESSIOND_REVISION,
                 daemon.node_name);
        sd_notify(0, "READY=1\nSTATUS=Serving");
        serve(&daemon);
        begin_stop(&daemon);
    }
    boot_stop(&daemon);
    conf_publish(NULL);
    if (started)
        log_info("stopped", "version=%s", SESSIOND_VERSION);
    log_flush(LOG_PATIENCE_MS);
    return started ? EXIT_DONE : EXIT_RUNTIME;
}
