/* Private to alerts, and the only door to libcurl: one POST at a time to the webhook, in the form
 * of the Standard Webhooks specification (https://www.standardwebhooks.com): headers webhook-id,
 * webhook-timestamp, webhook-signature ("v1," and base64 of HMAC-SHA-256 over "id.timestamp.body").
 *
 * One thread uses it, and sleeps in webhook_wait(); any thread may wake it. Certificates are
 * verified, redirects are not followed, proxies of the environment are not used, and an attempt
 * takes at most 5 seconds. A response counts by its status once its headers are complete; its body
 * is read only to keep the connection, if it is small and quick. */
#pragma once

#include "text.h"

struct webhook;
/* Sets libcurl up. NULL if it is not usable. */
struct webhook *webhook_create(void);
void webhook_destroy(struct webhook **webhook);
/* Sets the CAs that receivers are verified with: certificates (PEM), which must stay valid; empty:
 * the system's CAs. Between attempts. */
void webhook_trust(struct webhook *webhook, struct text authorities);

struct webhook_message {
    const char *url;
    struct text secret; /* the key itself */
    struct text id, body;
    int64_t now_s; /* of this attempt */
};
/* Begins an attempt after the previous one has ended. Everything is copied but the body, which must
 * stay valid until the attempt ends. */
void webhook_send(struct webhook *webhook, const struct webhook_message *message);

enum webhook_state {
    WEBHOOK_IDLE,
    WEBHOOK_SENDING,
    WEBHOOK_DELIVERED, /* 2xx */
    WEBHOOK_REFUSED,   /* a final 4xx; 408, 425 and 429 ask for another attempt */
    WEBHOOK_FAILED     /* anything else */
};
/* The reason of a failed attempt in words, partly the receiver's or libcurl's, and the seconds
 * until the next attempt, 0 if the receiver gave none. */
struct webhook_outcome {
    char why[256];
    int64_t retry_after_s;
};
/* Progresses without waiting. Each of the last three states is returned once: the attempt has
 * ended. */
enum webhook_state webhook_turn(struct webhook *webhook, struct webhook_outcome *outcome);
/* Cancels an attempt. */
void webhook_cancel(struct webhook *webhook);

/* Waits for network activity, a call of webhook_wake() (now or before), or the time. */
void webhook_wait(struct webhook *webhook, int64_t milliseconds);
void webhook_wake(struct webhook *webhook);
