/* The bytes of a challenge, and its two scripts. */
#include "challenge.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "bytes.h"
#include "metrics.h"
#include "session/engine/service.h"
#include "session/model/expiry.h"
#include "session/model/keys.h"

/* Offsets of the parts. */
enum { AT_KIND, AT_METHOD, AT_ISSUED, AT_SECRET = AT_ISSUED + 6, HEAD = AT_SECRET + SECRET_LENGTH };

/* KEYS[1] the challenge. ARGV: sealed bytes, hash of the secret, attempts, expiry. Returns 1, or
 * attempts left and sealed bytes of a challenge that exists already. */
static struct store_script offer_script = {
    .source =
        EXPIRY_LUA "local found = redis.call('HGET', KEYS[1], 'r')\n"
                   "if found then return {redis.call('HGET', KEYS[1], 'n') or '0', found} end\n"
                   "redis.call('HSET', KEYS[1], 'r', ARGV[1], 's', ARGV[2], 'n', ARGV[3])\n"
                   "redis.call('PEXPIREAT', KEYS[1], expiry(ARGV[4]))\n"
                   "return 1\n",
};

/* KEYS[1] the challenge. ARGV: hash of the secret. Returns 0 if it is over, else attempts left and
 * sealed bytes. */
static struct store_script take_script = {
    .source = "local left = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')\n"
              "if left < 1 or redis.call('HGET', KEYS[1], 's') ~= ARGV[1] then return 0 end\n"
              "redis.call('HSET', KEYS[1], 'n', left - 1)\n"
              "return {tostring(left - 1), redis.call('HGET', KEYS[1], 'r')}\n",
};

void challenge_prepare(void)
{
    store_script_prepare(&offer_script);
    store_script_prepare(&take_script);
}

/* --- the bytes --- */

void challenge_write(const struct challenge *challenge, struct buffer *out)
{
    assert(challenge->kind == CHALLENGE_LOGIN || challenge->kind == CHALLENGE_SESSION);
    buffer_add_char(out, (char)challenge->kind);
    buffer_add_char(out, (char)challenge->method);
    bytes_add(out, (uint64_t)challenge->issued_ms, AT_SECRET - AT_ISSUED);
    buffer_add(out, challenge->secret, SECRET_LENGTH);
    buffer_add_text(out, challenge->body);
}

bool challenge_read(struct text bytes, struct challenge *ret)
{
    *ret = (struct challenge){0};
    if (bytes.length < HEAD)
        return false;
    char kind = bytes.data[AT_KIND], method = bytes.data[AT_METHOD];
    if ((kind != CHALLENGE_LOGIN && kind != CHALLENGE_SESSION) ||
        (method != VERIFY_EXTERNAL && method != VERIFY_OTP))
        return false;
    ret->kind = (enum challenge_kind)kind;
    ret->method = (enum verify_method)method;
    ret->issued_ms = (int64_t)bytes_get(bytes.data + AT_ISSUED, AT_SECRET - AT_ISSUED);
    memcpy(ret->secret, bytes.data + AT_SECRET, SECRET_LENGTH);
    ret->body = (struct text){bytes.data + HEAD, bytes.length - HEAD};
    return true;
}

void challenge_code(const struct keyring *keyring, const struct user_tag *owner,
                    const uint8_t secret[SECRET_LENGTH], char ret[CHALLENGE_CODE])
{
    const struct text parts[] = {{(const char *)owner, sizeof(*owner)},
                                 {(const char *)secret, SECRET_LENGTH}};
    uint64_t number;
    crypto_keyed_hash(keyring, CRYPTO_CODE, parts, 2, &number, sizeof(number));
    for (size_t i = CHALLENGE_CODE; i-- > 0; number /= 10)
        ret[i] = (char)('0' + number % 10);
    crypto_wipe(&number, sizeof(number));
}

bool challenge_is_solved(const struct keyring *keyring, const struct user_tag *owner,
                         const struct challenge *challenge, struct text code, bool verified)
{
    char expected[CHALLENGE_CODE];
    if (challenge->method == VERIFY_EXTERNAL)
        return verified;
    challenge_code(keyring, owner, challenge->secret, expected);
    bool same = code.length == CHALLENGE_CODE && crypto_equal(code.data, expected, CHALLENGE_CODE);
    crypto_wipe(expected, sizeof(expected));
    return same;
}

/* --- Redis --- */

static void print_hash(const struct keyring *keyring, const uint8_t id[SESSION_ID],
                       const uint8_t secret[SECRET_LENGTH], char ret[2 * SECRET_HASH])
{
    uint8_t hash[SECRET_HASH];
    token_hash_secret(keyring, TOKEN_CHALLENGE, id, secret, hash);
    text_to_hex(ret, hash, sizeof(hash));
}

/* Opens the bytes stored under this id; the body lies in the operation's arena. */
static enum err open_stored(const struct operation *operation, const struct user_tag *owner,
                            const uint8_t id[SESSION_ID], struct text stored, struct challenge *ret)
{
    const struct keyring *keyring = operation->context->keyring;
    bool encrypt = operation->conf->keys_encryption != ENCRYPTION_NONE;
    struct record_position place = {owner, id};
    struct record_content content;
    if (record_is_foreign(keyring, stored))
        return ERR_SEAL_KEY_UNKNOWN;
    if (record_read(keyring, encrypt, place, stored, operation->arena, &content) !=
            RECORD_CHALLENGE ||
        !challenge_read(content.bytes, ret))
        return ERR_CHALLENGE_OVER;
    if (operation->now_ms / 1000 >= ret->issued_ms / 1000 + CHALLENGE_SECONDS)
        return ERR_CHALLENGE_OVER;
    return ERR_OK;
}

/* Asks for attempts left and sealed bytes, in the form that the scripts answer. */
static void send_look(const struct operation *operation, struct store_call *call, struct text key,
                      store_done_fn *done)
{
    const struct text arguments[] = {TEXT("HMGET"), key, TEXT("n"), TEXT("r")};
    operation_ask(operation, call, arguments, 4, STORE_REPEATABLE, done);
}

/* Reads attempts left and sealed bytes from a reply. */
static bool read_pair(const struct store_reply *reply, int64_t *left, struct text *stored)
{
    if (store_reply_type(reply) != STORE_ARRAY || store_reply_count(reply) != 2)
        return false;
    *stored = store_reply_text(store_reply_element(reply, 1));
    return store_reply_int(store_reply_element(reply, 0), INT32_MIN, INT32_MAX, left) &&
           stored->data;
}

/* --- offering --- */

struct offering {
    struct store_call call;
    struct operation *operation;
    struct waiter *waiter;
    struct user_tag owner;
    uint8_t id[SESSION_ID];
    struct challenge challenge;
    char key[KEYS_CHALLENGE_LENGTH];
};

static void set_offered_challenge(struct offering *offering, int64_t attempts)
{
    assert(!offering->operation->out.challenge);
    struct operation *operation = offering->operation;
    const struct keyring *keyring = operation->context->keyring;
    const struct challenge *challenge = &offering->challenge;
    struct offered_challenge *offered = arena_zalloc(operation->arena, sizeof(*offered));
    struct token token = {.key_id = keyring_newest(keyring), .owner = offering->owner};
    memcpy(token.session_id, offering->id, SESSION_ID);
    memcpy(token.secret, challenge->secret, SECRET_LENGTH);
    token_print(keyring, TOKEN_CHALLENGE, &token, offered->id);
    crypto_wipe(&token, sizeof(token));
    offered->method = challenge->method;
    offered->attempts = attempts;
    /* Behind a cutoff ahead of now it counts as issued later than it was. */
    int64_t issued_ms =
        challenge->issued_ms < operation->now_ms ? challenge->issued_ms : operation->now_ms;
    offered->expires_s = issued_ms / 1000 + CHALLENGE_SECONDS;
    if (challenge->method == VERIFY_OTP)
        challenge_code(keyring, &offering->owner, challenge->secret, offered->code);
    operation->out.challenge = offered;
}

static struct offering *begin_offering(struct operation *operation, const struct user_tag *owner,
                                       const uint8_t id[SESSION_ID], struct waiter *waiter)
{
    assert(waiter->then && operation->out.err == ERR_OK);
    struct offering *offering = arena_zalloc(operation->arena, sizeof(*offering));
    *offering = (struct offering){.operation = operation, .waiter = waiter, .owner = *owner};
    memcpy(offering->id, id, SESSION_ID);
    keys_challenge(owner, id, offering->key);
    return offering;
}

static void end_offering(struct offering *offering, enum err err, int64_t attempts)
{
    if (err == ERR_OK)
        set_offered_challenge(offering, attempts);
    else
        offering->operation->out.err = err;
    crypto_wipe(offering->challenge.secret, SECRET_LENGTH);
    waiter_go_on(offering->waiter);
}

static enum err open_offered(struct offering *offering, struct text stored)
{
    return open_stored(offering->operation, &offering->owner, offering->id, stored,
                       &offering->challenge);
}

static void offered_again(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct offering *offering = container_of(call, struct offering, call);
    int64_t attempts = 0;
    struct text stored;
    if (err == ERR_OK)
        err = read_pair(reply, &attempts, &stored) ? open_offered(offering, stored)
                                                   : ERR_CHALLENGE_OVER;
    end_offering(offering, err, attempts);
}

void challenge_offer_again(struct operation *operation, const struct user_tag *owner,
                           const uint8_t id[SESSION_ID], struct waiter *waiter)
{
    struct offering *offering = begin_offering(operation, owner, id, waiter);
    send_look(operation, &offering->call, (struct text){offering->key, sizeof(offering->key)},
              offered_again);
}

static void offer_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct offering *offering = container_of(call, struct offering, call);
    int64_t attempts = CHALLENGE_ATTEMPTS;
    struct text stored;
    if (err == ERR_OK && read_pair(reply, &attempts, &stored))
        err = open_offered(offering, stored);
    else if (err == ERR_OK)
        metrics_add(METRIC_CHALLENGES, 1);
    /* A challenge over by this node's clock is over for the server in a moment. */
    if (err == ERR_CHALLENGE_OVER)
        err = ERR_STORE_CONTENDED;
    end_offering(offering, err, attempts);
}

void challenge_offer(struct operation *operation, const struct user_tag *owner,
                     const uint8_t id[SESSION_ID], const struct challenge *challenge,
                     struct waiter *waiter)
{
    const struct keyring *keyring = operation->context->keyring;
    struct offering *offering = begin_offering(operation, owner, id, waiter);
    SCOPED(buffer_free) struct buffer bytes = {0}, sealed = {0};
    char hash[2 * SECRET_HASH], attempts[2] = {'0' + CHALLENGE_ATTEMPTS}, expiry[EXPIRY_TEXT];
    offering->challenge = *challenge;
    print_hash(keyring, id, challenge->secret, hash);
    challenge_write(challenge, &bytes);
    record_write_bytes(keyring, operation->conf->keys_encryption != ENCRYPTION_NONE,
                       (struct record_position){owner, offering->id}, RECORD_CHALLENGE,
                       buffer_text(&bytes), &sealed);
    const struct text arguments[] = {
        buffer_text(&sealed),
        {hash, sizeof(hash)},
        {attempts, 1},
        expiry_print(expiry, operation->now_ms + CHALLENGE_SECONDS * 1000, operation->now_ms),
    };
    offering->call = (struct store_call){
        .key = {offering->key, sizeof(offering->key)},
        .script = &offer_script,
        .arguments = arguments,
        .argument_count = 4,
        .flags = STORE_REPEATABLE,
        .deadline_ms = operation->deadline_ms,
        .done = offer_done,
    };
    store_send(operation->context->worker->link, &offering->call);
}

/* --- trying --- */

static struct challenge_try *try_of(struct store_call *call)
{
    return container_of(call, struct challenge_try, call);
}

static void try_read(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct challenge_try *attempt = try_of(call);
    const struct token *token = &attempt->token;
    struct text stored;
    if (err == ERR_OK)
        err = read_pair(reply, &attempt->left, &stored)
                  ? open_stored(attempt->operation, &token->owner, token->session_id, stored,
                                &attempt->challenge)
                  : ERR_CHALLENGE_OVER;
    if (err == ERR_OK && !crypto_equal(attempt->challenge.secret, token->secret, SECRET_LENGTH))
        err = ERR_CHALLENGE_OVER;
    attempt->operation->out.err = err;
    attempt->then(attempt);
}

void challenge_look(struct challenge_try *attempt)
{
    assert(attempt->operation && attempt->then);
    const struct token *token = &attempt->token;
    struct operation *operation = attempt->operation;
    keys_challenge(&token->owner, token->session_id, attempt->key);
    send_look(operation, &attempt->call, (struct text){attempt->key, sizeof(attempt->key)},
              try_read);
}

/* Not repeatable: an attempt that may have been counted is not counted twice. */
void challenge_take(struct challenge_try *attempt)
{
    assert(attempt->then && attempt->operation->out.err == ERR_OK);
    const struct token *token = &attempt->token;
    struct operation *operation = attempt->operation;
    keys_challenge(&token->owner, token->session_id, attempt->key);
    print_hash(operation->context->keyring, token->session_id, token->secret, attempt->hash);
    const struct text argument = {attempt->hash, sizeof(attempt->hash)};
    attempt->call = (struct store_call){
        .key = {attempt->key, sizeof(attempt->key)},
        .script = &take_script,
        .arguments = &argument,
        .argument_count = 1,
        .deadline_ms = operation->deadline_ms,
        .done = try_read,
    };
    store_send(operation->context->worker->link, &attempt->call);
}

static void claim_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct challenge_try *attempt = try_of(call);
    int64_t deleted = 0;
    if (err == ERR_OK && !store_reply_int(reply, 1, INT32_MAX, &deleted))
        err = ERR_CHALLENGE_OVER;
    attempt->operation->out.err = err;
    attempt->then(attempt);
}

void challenge_claim(struct challenge_try *attempt)
{
    assert(attempt->then && attempt->operation->out.err == ERR_OK);
    const struct text key = {attempt->key, sizeof(attempt->key)};
    const struct text arguments[] = {TEXT("HDEL"), key, TEXT("r"), TEXT("s"), TEXT("n")};
    operation_ask(attempt->operation, &attempt->call, arguments, 5, 0, claim_done);
}
