/* Who calls: credentials, the person behind a service, the address a call comes from. */
#pragma once

#include "http/exchange/request_private.h"

/* Where the call comes from: fills caller.address and user_agent. X-Forwarded-For counts only if a
 * trusted proxy wrote it. */
void callers_locate(struct request *request);
/* Fills request->caller as the route's row demands; ERR_OK, or the refusal with its *detail. */
enum err callers_establish(struct request *request, struct text *detail);
/* Notes for the audit line that an address which the caller gave could not be read. */
void callers_note_unreadable(struct request *request, struct text given);
/* Does the call show what strangers cannot make: a key that is known, or a token whose MAC holds,
 * whether it lives or not? Of a request with headers at all, answered or not. */
bool callers_are_genuine(const struct request *request);
