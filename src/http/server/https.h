/* TLS of the service's listener: certificate, key and client CAs, and what a connection has of
 * them. The only door to GnuTLS, which libmicrohttpd uses.
 *
 * libmicrohttpd makes a session for each connection. https_begin() gives it the credentials in
 * force, which the connection keeps: a reload changes what later connections get, and none that
 * exists. Sessions are never resumed: there are neither tickets nor a cache of them, so a handshake
 * always checks the client's certificate. */
#pragma once

#include <microhttpd.h>

#include "conf.h"
#include "http.h"

struct client;

/* Another reference. */
struct https *https_ref(struct https *https);
/* True if those in force ask for certificates of other CAs: a connection that began before must
 * end. Both may be NULL. */
bool https_is_replaced(const struct https *https, const struct https *in_force);

/* The days before the certificate's end on which to warn. */
enum { HTTPS_WARN_DAYS = 14 };
/* Seconds until the first certificate of the chain expires, negative since then; INT64_MAX without
 * TLS. */
int64_t https_expires_in(const struct https *https, int64_t now_s);
/* Keeps the metric of that up to date, and warns once a day. One thread. */
struct https_watch {
    int64_t warned_s;
};
void https_watch(struct https_watch *watch, const struct https *https);

/* Options of the libmicrohttpd daemon that serves TLS: TLS 1.2 and 1.3 alone, credentials from
 * https_begin(). */
struct MHD_OptionItem *https_options(void);

/* Prepares the session of a connection that libmicrohttpd has just announced, whose socket context
 * is its client. The client takes a reference. */
void https_begin(struct https *https, struct MHD_Connection *connection, struct client *client);
/* The state of a handshake, asked right after libmicrohttpd has run: a connection that failed is
 * gone then. */
enum https_state { HTTPS_WAITS_TO_READ, HTTPS_WAITS_TO_WRITE, HTTPS_ESTABLISHED };
enum https_state https_state(const struct client *client);
/* Sends bytes as libmicrohttpd does, for an answer that it cannot build; false if the socket did
 * not accept all of them. */
bool https_send(struct MHD_Connection *connection, const void *data, size_t length);
