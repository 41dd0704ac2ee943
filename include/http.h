/* The HTTP server as main sees it. */
#pragma once

#include "alerts.h"
#include "audit.h"
#include "conf.h"
#include "crypto.h"
#include "session.h"
#include "store.h"

/* The services that the server uses; borrowed, must outlive it. */
struct http_services {
    struct audit *audit;
    struct alerts *alerts;
    struct store *store;
    struct cache *cache;
    struct journal *journal;
    struct session_service *sessions;
    struct keyring *keyring;
    const char *node_name;
};

/* The handlers of all calls, in the order of tbl/routes.h. */
struct http_handlers;
extern const struct http_handlers http_handlers;

struct http_server;

/* The credentials of the TLS listener: certificate, key, client CAs. Immutable, counted. */
struct https;
/* Reads the files of the configuration: *ret is NULL if it has none, else the caller's reference.
 * False with *error, a line that names option, file and reason. A certificate out of date is
 * refused only if it is to replace another one that is published. */
bool https_load(const struct conf *conf, struct https **ret, struct buffer *error);
void https_unref(struct https **https);
/* Returns those of new connections, with a reference for the caller; NULL without TLS. Any thread.
 */
struct https *https_current(void);
/* Publishes what https_load() has returned; the caller's reference goes with it.
 * http_server_reload() makes workers use it. */
void https_publish(struct https *https);

/* Defines the routes for the metrics; once, before any thread is started. */
void http_prepare(void);
/* Opens the listeners (systemd's sockets, LISTEN_FDS, named "http", "https", "unix", "ops"; without
 * any those of the configuration), starts acceptor and workers. NULL with *error. */
struct http_server *http_server_start(const struct conf *conf, const struct http_services *services,
                                      const struct http_handlers *handlers, struct buffer *error);
/* Makes the workers reload conf_current() and https_current(). Connections keep the certificate
 * that they began with; but if the client CAs are others, they end with their next answer, when
 * they are idle, or after drain_timeout. Any thread. */
void http_server_reload(struct http_server *server);
/* Hands every worker a new keyring; the server takes references of its own. Requests in progress
 * keep the one that they began with. Any thread. */
void http_server_rekey(struct http_server *server, struct keyring *keyring);
/* True if every worker has turned its loop within the last `milliseconds`. Any thread. */
bool http_server_alive(const struct http_server *server, int64_t milliseconds);
/* Makes /readyz answer 503 from now on, so that no new callers are sent here; calls are served as
 * before. Any thread. */
void http_server_announce_stop(struct http_server *server);
/* Stops accepting (the ops listener goes on, /readyz answers 503), finishes the requests in
 * progress, waits at most drain_timeout, cuts the rest, joins the threads, frees, clears the
 * pointer. False if a worker was stuck and abandoned: it may still use the services. */
bool http_server_stop(struct http_server **server);
