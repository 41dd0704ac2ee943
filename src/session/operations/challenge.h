/* Second verifications that are pending: offered, tried, used once.
 *
 * `sd:c:{T.U}:<id in hex>` is a hash: "r" the sealed challenge, "s" a hash of its secret, "n" the
 * tries that are left; it expires with the challenge. A try is taken off before the code is looked
 * at, in one step on the server, so that parallel tries never are more than there are. What wins is
 * who then deletes the challenge. An answer of the wrong kind is found out before, and costs none.
 *
 * The id that callers get is a token (TOKEN_CHALLENGE): it leads to the slot, cannot be guessed,
 * and names nobody. The code is no part of what is stored: it follows from the secret by a keyed
 * hash.
 *
 * Sealed bytes: kind 1, method 1, issued_ms 6, secret 16, then the body, which is of the kind's
 * module. Integers big-endian. */
#pragma once

#include "session/engine/operation.h"
#include "policy.h"
#include "session/engine/waiter.h"

#define CHALLENGE_ATTEMPTS 5
#define CHALLENGE_SECONDS  300
/* Of one user's living sessions, that a node has begun, at any time. */
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

/* The bytes that are sealed. False for anything that challenge_write() did not write. */
void challenge_write(const struct challenge *challenge, struct buffer *out);
bool challenge_read(struct text bytes, struct challenge *ret);
/* The six digits. */
void challenge_code(const struct keyring *keyring, const struct user_tag *owner,
                    const uint8_t secret[SECRET_LENGTH], char ret[CHALLENGE_CODE]);
/* True if this answer solves it: the code, in constant time, for one that wants a code; the word of
 * the service for one that is verified elsewhere. */
bool challenge_is_solved(const struct keyring *keyring, const struct user_tag *owner,
                         const struct challenge *challenge, struct text code, bool verified);

/* Once, before the first call. */
void challenge_prepare(void);

/* Offers again what is pending under this id, as it is; operation->out.err is ERR_CHALLENGE_OVER if
 * nothing is. Then goes on. */
void challenge_offer_again(struct operation *operation, const struct user_tag *owner,
                           const uint8_t id[SESSION_ID], struct waiter *waiter);
/* Offers a challenge under this id and sets operation->out.challenge, or operation->out.err, then
 * goes on. One that is pending under the id already is offered again, as it is. */
void challenge_offer(struct operation *operation, const struct user_tag *owner,
                     const uint8_t id[SESSION_ID], const struct challenge *challenge,
                     struct waiter *waiter);

/* A try, in the caller's arena. */
struct challenge_try {
    struct operation *operation;
    struct token token; /* the challenge's id, opened; the caller wipes it */
    /* operation->out.err is ERR_OK, or ERR_CHALLENGE_OVER, or the store's. */
    void (*then)(struct challenge_try *attempt);

    struct challenge challenge; /* after challenge_look() */
    int64_t left;               /* tries; after challenge_take() this one not counted */

    /* Private. */
    struct store_call call;
    char key[USER_KEY_LENGTH + 1 + 2 * SESSION_ID];
    char hash[2 * SECRET_HASH];
};
/* Reads the challenge, and costs nothing. */
void challenge_look(struct challenge_try *attempt);
/* Takes one try and reads the challenge. */
void challenge_take(struct challenge_try *attempt);
/* Uses the challenge up: ERR_CHALLENGE_OVER if somebody else was faster. */
void challenge_claim(struct challenge_try *attempt);
