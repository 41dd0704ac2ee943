/* Challenges, pending additional verifications: offered, tried, used once.
 *
 * `sd:c:{T.U}:<id in hex>` is a hash: "r" the sealed challenge, "s" a hash of its secret, "n" the
 * attempts left. It expires with the challenge. An attempt is counted before the code is checked,
 * in one step on the server, so parallel attempts never exceed the limit. The winner is the attempt
 * that then deletes the challenge. An answer of the wrong kind is found before and costs no
 * attempt.
 *
 * Callers get a token as id (TOKEN_CHALLENGE): it leads to the slot, cannot be guessed, and
 * contains no names. The code is not stored: it is a keyed hash of the secret.
 *
 * Sealed bytes: kind 1, method 1, issued_ms 6, secret 16, then the body in the format of the kind's
 * module. Integers big-endian. */
#pragma once

#include "policy.h"
#include "session/engine/operation.h"
#include "session/engine/waiter.h"
#include "session/model/keys.h"

#define CHALLENGE_ATTEMPTS 5
#define CHALLENGE_SECONDS  300
/* Most step-up challenges of one user that a node has begun, at any time. */
#define CHALLENGES_PENDING 20

enum challenge_kind {
    CHALLENGE_LOGIN = 'l',  /* body: login_request.h */
    CHALLENGE_SESSION = 's' /* body: step_up.h */
};

struct challenge {
    enum challenge_kind kind;
    enum verify_method method;
    int64_t issued_ms;
    uint8_t secret[SECRET_LENGTH];
    struct text body;
};

/* Writes and reads the bytes that are sealed. challenge_read() returns false for bytes that
 * challenge_write() did not write. */
void challenge_write(const struct challenge *challenge, struct buffer *out);
bool challenge_read(struct text bytes, struct challenge *ret);
/* Derives the six digits from the secret. */
void challenge_code(const struct keyring *keyring, const struct user_tag *owner,
                    const uint8_t secret[SECRET_LENGTH], char ret[CHALLENGE_CODE]);
/* True if the answer solves the challenge: the code, compared in constant time, for VERIFY_OTP;
 * `verified`, the service's statement, for VERIFY_EXTERNAL. */
bool challenge_is_solved(const struct keyring *keyring, const struct user_tag *owner,
                         const struct challenge *challenge, struct text code, bool verified);

/* Call once, before the first use. */
void challenge_prepare(void);

/* Offers the pending challenge of this id again, unchanged, then goes on. operation->out.err is
 * ERR_CHALLENGE_OVER if there is none. */
void challenge_offer_again(struct operation *operation, const struct user_tag *owner,
                           const uint8_t id[SESSION_ID], struct waiter *waiter);
/* Offers a challenge under this id, then goes on. Sets operation->out.challenge, or
 * operation->out.err. A challenge pending under the id is offered again, unchanged. */
void challenge_offer(struct operation *operation, const struct user_tag *owner,
                     const uint8_t id[SESSION_ID], const struct challenge *challenge,
                     struct waiter *waiter);

/* An attempt, in the caller's arena. */
struct challenge_try {
    struct operation *operation;
    struct token token; /* the challenge's id, opened; the caller wipes it */
    /* operation->out.err is ERR_OK, or ERR_CHALLENGE_OVER, or the store's. */
    void (*then)(struct challenge_try *attempt);

    struct challenge challenge; /* after challenge_look() */
    int64_t left;               /* attempts left; after challenge_take() without this one */

    /* Private. */
    struct store_call call;
    char key[KEYS_CHALLENGE_LENGTH];
    char hash[2 * SECRET_HASH];
};
/* Reads the challenge; costs no attempt. */
void challenge_look(struct challenge_try *attempt);
/* Counts one attempt and reads the challenge. */
void challenge_take(struct challenge_try *attempt);
/* Uses the challenge up. ERR_CHALLENGE_OVER if another attempt was faster. */
void challenge_claim(struct challenge_try *attempt);
