/* The answers of a request. Each function answers it, once, puts it on record and returns ANSWERED
 * for its caller to return. */
#pragma once

#include "request.h"

/* With the body in request_body(), as application/json. Pass no_store if it has tokens. */
MUST_CHECK enum handled response_answer(struct request *request, unsigned status, bool no_store);
/* The same with another content type, or NULL without a body. */
MUST_CHECK enum handled response_answer_as(struct request *request, unsigned status,
                                           const char *content_type);
/* With 200, `body` as response_answer() sends it with no_store, and its tag. A GET whose
 * If-None-Match has this tag is answered with 304 and the tag alone. api_check_conditions() must
 * have been called. */
MUST_CHECK enum handled response_answer_tagged(struct request *request, struct text body,
                                               const char etag[ETAG_LENGTH]);
/* With 200 and `document`, JSON in static storage that is public and may be cached; or with 304 as
 * above. */
MUST_CHECK enum handled response_answer_document(struct request *request, struct text document,
                                                 const char etag[ETAG_LENGTH]);
/* With a problem (problem_write()); `detail` may be absent. */
MUST_CHECK enum handled response_fail(struct request *request, enum err err, struct text detail);
/* The same with `members` appended, JSON members without braces. */
MUST_CHECK enum handled response_fail_with(struct request *request, enum err err,
                                           struct text detail, struct text members);
/* The operation is overdue: a request without an answer gets 500, and is put on record so. The
 * operation's outcome is logged when it comes. */
void response_give_up(struct request *request);
