/* The door to libcurl. Its multi interface is used for one transfer only, because it can be woken:
 * what is raised while a receiver keeps us waiting goes to disk at once. */
#include "alerts_webhook.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "memory.h"

enum { TIMEOUT_MS = 5000, MAC = 32, MAC_BASE64 = 44, HEADER_MAX = 256 };

struct webhook {
    CURLM *multi;
    CURL *transfer; /* kept, and with it the connection */
    struct curl_slist *headers;
    bool sending;
};

/* --- set up --- */

static size_t discard(char *data, size_t size, size_t count, void *user)
{
    (void)data;
    (void)user;
    return size * count;
}

static bool set_up(CURL *transfer)
{
    return curl_easy_setopt(transfer, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           /* A stop does not wait for a resolver. */
           curl_easy_setopt(transfer, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_USERAGENT, "sessiond/" SESSIOND_VERSION) ==
               CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_WRITEFUNCTION, discard) == CURLE_OK &&
           curl_easy_setopt(transfer, CURLOPT_POST, 1L) == CURLE_OK;
}

struct webhook *webhook_create(void)
{
    struct webhook *webhook = xcalloc(1, sizeof(*webhook));
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        webhook->multi = curl_multi_init();
        webhook->transfer = curl_easy_init();
    }
    if (webhook->multi && webhook->transfer && set_up(webhook->transfer))
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

static void add_headers(struct webhook *webhook, const struct webhook_message *message)
{
    char stamp[24], signature[3 + MAC_BASE64];
    int length = snprintf(stamp, sizeof(stamp), "%lld", (long long)message->now_s);
    struct text stamped = {stamp, (size_t)length};
    sign(message, stamped, signature);
    add_header(webhook, "Content-Type", TEXT("application/json"));
    add_header(webhook, "webhook-id", message->id);
    add_header(webhook, "webhook-timestamp", stamped);
    add_header(webhook, "webhook-signature", (struct text){signature, sizeof(signature)});
    /* A small body need not be asked for; a name without a value takes the header out. */
    webhook->headers = curl_slist_append(webhook->headers, "Expect:");
}

static void end(struct webhook *webhook)
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
    add_headers(webhook, message);
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
        end(webhook);
}

static bool is_refusal(long status)
{
    return status >= 400 && status <= 499 && status != 408 && status != 425 && status != 429;
}

static enum webhook_state judge(struct webhook *webhook, CURLcode result, char *why, size_t size)
{
    long status = 0;
    curl_easy_getinfo(webhook->transfer, CURLINFO_RESPONSE_CODE, &status);
    if (result == CURLE_OK && status >= 200 && status <= 299)
        return WEBHOOK_DELIVERED;
    if (result == CURLE_OK)
        snprintf(why, size, "status %ld", status);
    else
        snprintf(why, size, "%s", curl_easy_strerror(result));
    return result == CURLE_OK && is_refusal(status) ? WEBHOOK_REFUSED : WEBHOOK_FAILED;
}

enum webhook_state webhook_turn(struct webhook *webhook, char *why, size_t size)
{
    int left;
    if (!webhook->sending)
        return WEBHOOK_IDLE;
    curl_multi_perform(webhook->multi, &left);
    const CURLMsg *message = curl_multi_info_read(webhook->multi, &left);
    if (!message || message->msg != CURLMSG_DONE)
        return WEBHOOK_SENDING;
    enum webhook_state state = judge(webhook, message->data.result, why, size);
    end(webhook);
    return state;
}

/* --- sleeping --- */

void webhook_wait(struct webhook *webhook, int64_t milliseconds)
{
    curl_multi_poll(webhook->multi, NULL, 0, (int)milliseconds, NULL);
}

void webhook_wake(struct webhook *webhook)
{
    curl_multi_wakeup(webhook->multi);
}
