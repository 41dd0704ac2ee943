/* Boot order of the daemon: what is started first and stopped last. Private to daemon.c.
 *
 * All signals that the daemon handles are blocked before the first thread starts, so no other
 * thread ever runs a handler. */
#pragma once

#include <signal.h>

#include "conf.h"

struct daemon {
    const char *path; /* of the configuration file */
    char node_name[256];
    struct file_locks *locks;
    struct keyring *keyring;
    struct audit *audit;
    struct audit_lane *record; /* for lines about the service itself */
    size_t steps_up;           /* of the boot order */
    bool serving;              /* all of them: the stop gets an audit line */
    struct alerts *alerts;
    struct store *store;
    struct journal *journal;
    struct cache *cache;
    struct tenants *tenants;
    struct session_service *sessions;
    struct cache_saver *saver;
    struct http_server *server;
    sigset_t signals;
    int64_t watchdog_ms; /* interval; 0: none */
    bool stuck;          /* a worker is; logged once */
};

/* Hides the memory, raises the descriptor limit, blocks the signals in daemon->signals and reads
 * the watchdog's interval. Before any thread starts. */
void boot_prepare_process(struct daemon *daemon);
/* Sets node_name: the configured one, else the host's. */
void boot_name_node(struct daemon *daemon, const struct conf *conf);

/* Starts all parts in order by the published configuration, until one fails. False, with the
 * failure logged and audited, if one did. boot_stop() is due either way. */
bool boot_start(struct daemon *daemon);
/* Stops the parts that were started, in reverse. Does not return if a worker is stuck: then it
 * exits with EXIT_RUNTIME. */
void boot_stop(struct daemon *daemon);

/* Logs the risks that this machine and the configuration take. */
void boot_warn_of_risks(const struct conf *conf);
/* Logs each line of `messages` as an error with this event name. */
void boot_log_messages(const char *event, struct text messages);
