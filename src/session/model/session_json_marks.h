/* How session_json.c spells the members of a session, in their order: the one place for their names
 * and the punctuation around them. Stored records and the entries of dictionary.c are made of these
 * spellings, so they may not change. */
#pragma once

#define MARK_TENANT     "\"tenant\":"
#define MARK_USER_ID    ",\"user_id\":"
#define MARK_ROLES      ",\"roles\":"
#define MARK_AUTH_TIME  ",\"auth_time\":"
#define MARK_ACR        ",\"acr\":"
#define MARK_AMR        ",\"amr\":"
#define MARK_DEVICE     ",\"device\":"
#define MARK_ATTRIBUTES ",\"attributes\":"

/* The members of the device. */
#define MARK_DEVICE_ID   "\"id\":"
#define MARK_DEVICE_TYPE "\"type\":"
#define MARK_DEVICE_NAME "\"name\":"

/* The members that session_json_complete() appends. */
#define MARK_SESSION_ID ",\"session_id\":"
#define MARK_CREATED_AT ",\"created_at\":"
