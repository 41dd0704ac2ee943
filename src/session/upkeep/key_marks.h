/* Marks of keys: which key file the nodes on one Redis have.
 *
 * The hash sd:k, with ":NAME" behind it for an installation that has a name (keys.installation),
 * holds a field for the names secret ("names") and for each numbered key ("1" to "63"). Its value
 * is "MARK FIRST LAST": the key's fingerprint in hexadecimal (keyring_mark()), and by the clock of
 * Redis the seconds when a node first wrote it, and when one last confirmed it. A field is only
 * written by a node all of whose keys agree with what is there, so the first file that Redis meets
 * is the one that holds. */
#pragma once

#include "crypto.h"
#include "store.h"

enum { KEY_MARKS = KEY_ID_MAX + 1 };

struct key_mark {
    bool present;
    uint8_t mark[KEY_MARK];
    int64_t first_s, last_s;
};

/* The field "store" holds what tells this Redis from others: random digits that the first node
 * wrote, and that a copy of the Redis has as well. */
enum { KEY_MARKS_STORE = 40 };

struct key_marks {
    struct key_mark of[KEY_MARKS];   /* 0: the names secret */
    char store[KEY_MARKS_STORE + 1]; /* "": Redis has none */
};

/* Once, before the first call. */
void key_marks_prepare(void);

/* The hash's name, in `ret`. */
enum { KEY_MARKS_NAME = 72 };
struct text key_marks_name(const struct conf *conf, char ret[KEY_MARKS_NAME]);

/* The text of one value; false, with an absent mark, for what is none. */
bool key_marks_read_one(struct text value, struct key_mark *ret);
/* HGETALL's answer, or the script's, which is the same: fields that are no marks are left out.
 * False if it is no such answer. */
bool key_marks_read(const struct store_reply *reply, struct key_marks *ret);

/* What the marks say of a keyring. Sets are bits by key id, bit 0 for the names secret. */
struct key_verdict {
    uint64_t foreign;  /* keys that differ from those of the other nodes */
    uint64_t missing;  /* newer keys that others have confirmed lately, and this ring lacks */
    uint64_t unmarked; /* keys of the ring that Redis has no mark of */
};
/* A key that was dropped everywhere counts no more: as missing after 15 minutes without a
 * confirmation while the names secret was confirmed, as foreign after an hour. */
void key_marks_judge(const struct key_marks *marks, const struct keyring *keyring,
                     struct key_verdict *ret);

/* The call that writes the ring's marks where none differs, and confirms them, and the digits of
 * the store if it has none: gives `call` its script and arguments, which lie in `ret` until
 * store_send() has copied them. */
struct key_marks_write {
    char now[24];
    char store[KEY_MARKS_STORE + 1];
    char fields[KEY_MARKS][8];
    char marks[KEY_MARKS][2 * KEY_MARK];
    struct text arguments[2 + 2 * KEY_MARKS];
};
/* `store`: the digits that Redis had, in case that it lost them; "": new ones. */
void key_marks_write(const struct keyring *keyring, int64_t now_s, const char *store,
                     struct key_marks_write *ret, struct store_call *call);
