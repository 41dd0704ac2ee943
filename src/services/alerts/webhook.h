/* Private to alerts, and the only door to libcurl: one POST at a time to the webhook, in the form
 * of the Standard Webhooks specification (https://www.standardwebhooks.com): headers webhook-id,
 * webhook-timestamp, webhook-signature ("v1," and base64 of HMAC-SHA-256 over
 * "id.timestamp.body").
 *
 * One thread uses it, and sleeps in webhook_wait(); any thread may wake it. Certificates are
 * verified, redirects are not followed, proxies of the environment are not used, and an attempt
 * takes at most 5 seconds. An answer counts by its status, once its head is whole: its body is read
 * for the connection's sake, if it is small and soon over. */
#pragma once

#include "text.h"

struct webhook;
/* Sets libcurl up. NULL if it is not usable. */
struct webhook *webhook_create(void);
void webhook_destroy(struct webhook **webhook);
/* Who may vouch for the receivers from now on: certificates (PEM), which must stay; empty: the
 * system's authorities. Between attempts. */
void webhook_trust(struct webhook *webhook, struct text authorities);

struct webhook_message {
    const char *url;
    struct text secret; /* the key itself */
    struct text id, body;
    int64_t now_s; /* of this attempt */
};
/* Begins an attempt, after the one before has ended. Everything is copied but for the body, which
 * must stay until the end. */
void webhook_send(struct webhook *webhook, const struct webhook_message *message);

enum webhook_state {
    WEBHOOK_IDLE,
    WEBHOOK_SENDING,
    WEBHOOK_DELIVERED, /* 2xx */
    WEBHOOK_REFUSED,   /* a 4xx that says nothing of another time, as 408, 425 and 429 do */
    WEBHOOK_FAILED     /* all else */
};
/* Of an attempt that failed: what was wrong, in words, partly the receiver's or libcurl's; and the
 * seconds after which to try again, 0 if the receiver has not said. */
struct webhook_outcome {
    char why[256];
    int64_t retry_after_s;
};
/* Works as far as it can without waiting. The last three are told once: the attempt has ended. */
enum webhook_state webhook_turn(struct webhook *webhook, struct webhook_outcome *outcome);
/* Gives an attempt up. */
void webhook_cancel(struct webhook *webhook);

/* Until something happens, webhook_wake() is or was called, or the time is over. */
void webhook_wait(struct webhook *webhook, int64_t milliseconds);
void webhook_wake(struct webhook *webhook);
