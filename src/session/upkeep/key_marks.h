/* Marks in Redis of the nodes, so that nodes on one Redis can compare their key files, and know
 * which record formats all of them read.
 *
 * The hash sd:k (with ":NAME" appended for a named installation, keys.installation) has a field for
 * the names secret ("names") and for each numbered or signing key ("1" to "63"). The value is "MARK
 * FIRST LAST": the key's fingerprint in hexadecimal (keyring_mark()), and by the clock of Redis the
 * seconds of the first write and of the last confirmation. A node writes only if all its keys agree
 * with the marks, so the first key file that Redis meets holds.
 *
 * Behind the names' mark a node adds the latest record format that it reads; nodes of the first
 * format add none. A node that overwrites an earlier format keeps its time in the field "reads1"
 * and so on: the last confirmation by a node that reads no later one. Nodes confirm every five
 * minutes. */
#pragma once

#include "crypto.h"
#include "store.h"

enum { KEY_MARKS = KEY_ID_MAX + 1 };

struct key_mark {
    bool present;
    uint8_t mark[KEY_MARK];
    int64_t first_s, last_s;
};

/* The field "store" identifies this Redis: random digits that the first node wrote. A copy of the
 * Redis has them too. */
enum { KEY_MARKS_STORE = 40 };
/* More than this version knows: a later one that was here may have left some. */
enum { KEY_MARKS_FORMATS = 8 };

struct key_marks {
    struct key_mark of[KEY_MARKS];     /* 0: the names secret */
    char store[KEY_MARKS_STORE + 1];   /* "": Redis has none */
    unsigned format;                   /* of the node that confirmed the names last */
    int64_t read_s[KEY_MARKS_FORMATS]; /* by format: the last confirmation; 0: none */
};

/* Call once, before the first use. */
void key_marks_prepare(void);

/* Reads one value. False, with an absent mark, if it is invalid. */
bool key_marks_read_one(struct text value, struct key_mark *ret);
/* Reads the reply of HGETALL or of the script, which is the same; skips fields that are no marks.
 * False if it is no such reply. */
bool key_marks_read(const struct store_reply *reply, struct key_marks *ret);

/* Result of comparing a keyring with the marks. Sets are bits by key id, bit 0 for the names
 * secret. */
struct key_verdict {
    uint64_t foreign;  /* keys that differ from the other nodes' */
    uint64_t missing;  /* newer keys lately confirmed by others that this ring lacks */
    uint64_t unmarked; /* keys of the ring without a mark in Redis */
};
/* A key dropped everywhere stops counting: as missing after 15 minutes without a confirmation while
 * the names secret was confirmed, as foreign after an hour. */
void key_marks_judge(const struct key_marks *marks, const struct keyring *keyring,
                     struct key_verdict *ret);

/* The latest record format that may be written: all nodes seen within the last 15 minutes read it.
 */
unsigned key_marks_format(const struct key_marks *marks);

/* The call that writes or confirms the ring's marks if none differs, and the store's digits if it
 * has none. It gives `call` its script and arguments, which lie in `ret` until store_send() has
 * copied them. */
struct key_marks_write {
    char now[24];
    char store[KEY_MARKS_STORE + 1];
    char format[4];
    char fields[KEY_MARKS][8];
    char marks[KEY_MARKS][2 * KEY_MARK];
    struct text arguments[3 + 2 * KEY_MARKS];
};
/* `store`: the digits that Redis had, to restore them; "": new ones. */
void key_marks_write(const struct keyring *keyring, int64_t now_s, const char *store,
                     struct key_marks_write *ret, struct store_call *call);
