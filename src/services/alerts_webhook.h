/* Private to alerts, and the only door to libcurl: one POST at a time to the webhook, in the form
 * of the Standard Webhooks specification (https://www.standardwebhooks.com): headers webhook-id,
 * webhook-timestamp, webhook-signature ("v1," and base64 of HMAC-SHA-256 over
 * "id.timestamp.body").
 *
 * One thread uses it, and sleeps in webhook_wait(); any thread may wake it. Certificates are
 * verified, redirects are not followed, proxies of the environment are not used, and an attempt
 * takes at most 5 seconds. */
#pragma once

#include "text.h"

struct webhook;
/* Sets libcurl up. NULL if it is not usable. */
struct webhook *webhook_create(void);
void webhook_destroy(struct webhook **webhook);

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
/* Works as far as it can without waiting. The last three are told once: the attempt has ended;
 * `why` says in words what was wrong. */
enum webhook_state webhook_turn(struct webhook *webhook, char *why, size_t size);
/* Gives an attempt up. */
void webhook_cancel(struct webhook *webhook);

/* Until something happens, webhook_wake() is or was called, or the time is over. */
void webhook_wait(struct webhook *webhook, int64_t milliseconds);
void webhook_wake(struct webhook *webhook);
