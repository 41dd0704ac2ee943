/* The door to libcurl. Its multi interface is used for one transfer only, because it can be woken:
 * alerts raised during a slow attempt go to disk at once. */
#include "webhook.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "crypto.h"
#include "memory.h"

enum {
    TIMEOUT_MS = 5000,
    BODY_MS = 500, /* limits of a body, which is discarded */
    BODY_BYTES = 64 * 1024,
    MAC = 32,
    MAC_BASE64 = 44,
    HEADER_MAX = 256
};

struct webhook {
    CURLM *multi;
    CURL *transfer; /* kept with its connection */
    struct curl_slist *headers;
    bool sending;
    long status; /* of the response once its headers are complete; else 0 */
    int64_t answered_ms;
    size_t body_bytes;
    char error[CURL_ERROR_SIZE];
};

/* --- set up --- */

static size_t discard_body(char *data, size_t size, size_t count, void *user)
{
    struct webhook *webhook = user;
    (void)data;
    webhook->body_bytes += size * count;
    return size * count;
}

/* An empty line ends the headers. Those of a 1xx are followed by others. */
static size_t take_line(char *line, size_t size, size_t count, void *user)
{
    struct webhook *webhook = user;
    long status = 0;
    bool last = size * count <= 2 && (line[0] == '\r' || line[0] == '\n');
    if (last && curl_easy_getinfo(webhook->transfer, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK &&
        status >= 200) {
        webhook->status = status;
        webhook->answered_ms = clock_monotonic_ms();
    }
    return size * count;
}

static bool set_transfer_options(struct webhook *webhook)
{
    CURL *transfer = webhook->transfer;
    return curl_easy_setopt(transfer, CURLOPT_WRITEDATA, webhook) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_HEADERDATA, webhook) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_HEADERFUNCTION, take_line) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_ERRORBUFFER, webhook->error) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           /* A stop must not wait for a resolver. */
           curl_easy_setopt(transfer, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_USERAGENT, "sessiond/" SESSIOND_VERSION) ==
               CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_WRITEFUNCTION, discard_body) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_POST, 1L) == CURLE_OK;
}

struct webhook *webhook_create(void)
{
    struct webhook *webhook = xcalloc(1, sizeof(*webhook));
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        webhook->multi = curl_multi_init();
        webhook->transfer = curl_easy_init();
    }
    if (webhook->multi && webhook->transfer && set_transfer_options(webhook))
        return webhook;
    webhook_destroy(&webhook);
    return NULL;
}

void webhook_destroy(struct webhook **webhook)
{
    struct webhook *closing = *webhook;
    *webhook = NULL;
    if (!closing)
        return;
    webhook_cancel(closing);
    curl_easy_cleanup(closing->transfer);
    curl_multi_cleanup(closing->multi);
    free(closing);
    curl_global_cleanup();
}

void webhook_trust(struct webhook *webhook, struct text authorities)
{
    struct curl_blob blob = {(void *)authorities.data, authorities.length, CURL_BLOB_NOCOPY};
    assert(!webhook->sending);
    curl_easy_reset(webhook->transfer);
    bool good = set_transfer_options(webhook);
    if (authorities.length > 0)
        good = good &&
               curl_easy_setopt(webhook->transfer, CURLOPT_CAINFO_BLOB, &blob) == CURLE_OK &&
               curl_easy_setopt(webhook->transfer, CURLOPT_CAPATH, NULL) == CURLE_OK;
    assert(good); /* as it did in webhook_create() */
    (void)good;
}

/* --- an attempt --- */

static void add_header(struct webhook *webhook, const char *name, struct text value)
{
    char header[HEADER_MAX];
    int length = snprintf(header, sizeof(header), "%s: %.*s", name, (int)value.length, value.data);
    assert(length > 0 && (size_t)length < sizeof(header));
    (void)length;
    webhook->headers = curl_slist_append(webhook->headers, header);
}

static void sign(const struct webhook_message *message, struct text stamp, char out[3 + MAC_BASE64])
{
    const struct text parts[] = {message->id, TEXT("."), stamp, TEXT("."), message->body};
    uint8_t mac[MAC];
    crypto_hmac_sha256(mac, message->secret, parts, sizeof(parts) / sizeof(parts[0]));
    memcpy(out, "v1,", 3);
    text_to_base64(out + 3, mac, sizeof(mac));
}

static void add_message_headers(struct webhook *webhook, const struct webhook_message *message)
{
    char stamp[24], signature[3 + MAC_BASE64];
    int length = snprintf(stamp, sizeof(stamp), "%lld", (long long)message->now_s);
    struct text stamped = {stamp, (size_t)length};
    sign(message, stamped, signature);
    add_header(webhook, "Content-Type", TEXT("application/json"));
    add_header(webhook, "webhook-id", message->id);
    add_header(webhook, "webhook-timestamp", stamped);
    add_header(webhook, "webhook-signature", (struct text){signature, sizeof(signature)});
    /* A small body needs no "Expect"; a name without a value removes the header. */
    webhook->headers = curl_slist_append(webhook->headers, "Expect:");
}

static void end_attempt(struct webhook *webhook)
{
    curl_multi_remove_handle(webhook->multi, webhook->transfer);
    curl_slist_free_all(webhook->headers);
    webhook->headers = NULL;
    webhook->sending = false;
}

void webhook_send(struct webhook *webhook, const struct webhook_message *message)
{
    CURL *transfer = webhook->transfer;
    assert(!webhook->sending);
    webhook->status = 0;
    webhook->body_bytes = 0;
    webhook->error[0] = '\0';
    add_message_headers(webhook, message);
    curl_easy_setopt(transfer, CURLOPT_URL, message->url);
    curl_easy_setopt(transfer, CURLOPT_HTTPHEADER, webhook->headers);
    curl_easy_setopt(transfer, CURLOPT_POSTFIELDS, message->body.data);
    curl_easy_setopt(transfer, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)message->body.length);
    curl_multi_add_handle(webhook->multi, transfer);
    webhook->sending = true;
}

void webhook_cancel(struct webhook *webhook)
{
    if (webhook->sending)
        end_attempt(webhook);
}

static bool is_refusal(long status)
{
    return status >= 400 && status <= 499 && status != 408 && status != 425 && status != 429;
}

static int64_t retry_after(struct webhook *webhook)
{
    curl_off_t seconds = 0;
    curl_easy_getinfo(webhook->transfer, CURLINFO_RETRY_AFTER, &seconds);
    return seconds;
}

static enum webhook_state judge_response(struct webhook *webhook, CURLcode result,
                                         struct webhook_outcome *outcome)
{
    *outcome = (struct webhook_outcome){.retry_after_s = retry_after(webhook)};
    long status = webhook->status;
    if (status >= 200 && status <= 299)
        return WEBHOOK_DELIVERED;
    if (status > 0)
        snprintf(outcome->why, sizeof(outcome->why), "status %ld", status);
    else
        snprintf(outcome->why, sizeof(outcome->why), "%s",
                 webhook->error[0] ? webhook->error : curl_easy_strerror(result));
    return is_refusal(status) ? WEBHOOK_REFUSED : WEBHOOK_FAILED;
}

/* The next alert is worth more than the rest of a large or slow body. */
static bool is_enough(const struct webhook *webhook)
{
    return webhook->status > 0 && (webhook->body_bytes > BODY_BYTES ||
                                   clock_monotonic_ms() - webhook->answered_ms >= BODY_MS);
}

enum webhook_state webhook_turn(struct webhook *webhook, struct webhook_outcome *outcome)
{
    int left;
    if (!webhook->sending)
        return WEBHOOK_IDLE;
    curl_multi_perform(webhook->multi, &left);
    const CURLMsg *message = curl_multi_info_read(webhook->multi, &left);
    bool done = message && message->msg == CURLMSG_DONE;
    if (!done && !is_enough(webhook))
        return WEBHOOK_SENDING;
    enum webhook_state state =
        judge_response(webhook, done ? message->data.result : CURLE_OK, outcome);
    end_attempt(webhook);
    return state;
}

/* --- sleeping --- */

void webhook_wait(struct webhook *webhook, int64_t milliseconds)
{
    bool body = webhook->sending && webhook->status > 0;
    int64_t most_ms = body && milliseconds > BODY_MS ? BODY_MS : milliseconds;
    curl_multi_poll(webhook->multi, NULL, 0, (int)most_ms, NULL);
}

void webhook_wake(struct webhook *webhook)
{
    curl_multi_wakeup(webhook->multi);
}
