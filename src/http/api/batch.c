/* Validation of many tokens by one call. */
#include <assert.h>
#include <string.h>

#include "batch_body.h"
#include "begin.h"
#include "handlers.h"
#include "http/access/alert_triggers.h"
#include "http/access/throttle.h"
#include "http/exchange/request_private.h"
#include "http/exchange/response.h"
#include "request_fields.h"
#include "response_objects.h"

enum {
    ROWS = 2048,         /* of the table of tokens: a power of two, twice BATCH_MAX */
    LIMITED = UINT16_MAX /* instead of an item's number: its tenant is over its rate */
};
static_assert(ROWS >= 2 * BATCH_MAX, "a half of the rows stays free");

/* Equal elements share an item, which is looked up once. */
struct batch {
    struct validate_batch validations; /* first: the operation */
    uint16_t *item_of;                 /* of each element */
    size_t element_count;
};

/* --- equal elements --- */

static bool is_same(const struct validate *item, const struct batch_element *element)
{
    const struct text *shown = &item->base.claims.fingerprint; /* both are the caller's own words */
    return text_equal(item->token, element->token) &&
           text_equal(*shown, element->device_fingerprint);
}

/* The table is keyed by secret numbers: its rows hold tokens that users choose. */
struct token_rows {
    uint8_t key[CRYPTO_TABLE_KEY];
    uint16_t item[ROWS]; /* its number plus one; 0: free */
    struct text ip[BATCH_MAX];
};

static void fill_item(struct request *request, struct validate *item,
                      const struct batch_element *element, const struct validate *pattern)
{
    *item = *pattern;
    item->token = element->token.data ? element->token : TEXT("");
    item->base.claims.ip = api_given_address(request, element->ip);
    item->base.claims.fingerprint = element->device_fingerprint;
}

/* The number of the element's item, which is made if it is the first of its kind. */
static uint16_t find_item(struct request *request, struct token_rows *rows, struct batch *batch,
                          const struct batch_element *element, const struct validate *pattern)
{
    struct validate_batch *validations = &batch->validations;
    size_t row = crypto_table_hash(rows->key, element->token.data, element->token.length);
    for (row %= ROWS; rows->item[row] != 0; row = (row + 1) % ROWS) {
        uint16_t number = (uint16_t)(rows->item[row] - 1);
        if (is_same(&validations->items[number], element) &&
            text_equal(rows->ip[number], element->ip))
            return number;
    }
    uint16_t number = (uint16_t)validations->count++;
    rows->item[row] = (uint16_t)(number + 1);
    rows->ip[number] = element->ip;
    fill_item(request, &validations->items[number], element, pattern);
    return number;
}

/* For a key of all tenants each token is counted against its own: a tenant over its rate does not
 * spoil the batch for the others. */
static void fill_batch(struct request *request, const struct batch_body *body, struct batch *batch,
                       const struct validate *pattern)
{
    bool mixed = !pattern->tenant.data;
    struct token_rows *rows = arena_alloc(&request->arena, sizeof(*rows));
    memset(rows->item, 0, sizeof(rows->item));
    crypto_random(rows->key, sizeof(rows->key));
    batch->element_count = body->count;
    batch->item_of = arena_alloc(&request->arena, body->count * sizeof(*batch->item_of));
    batch->validations.items =
        arena_alloc(&request->arena, body->count * sizeof(*batch->validations.items));
    for (size_t i = 0; i < body->count; i++) {
        const struct batch_element *element = &body->elements[i];
        bool within = !mixed || throttle_admit_item(request, element->token);
        batch->item_of[i] = within ? find_item(request, rows, batch, element, pattern) : LIMITED;
    }
}

/* --- the answer --- */

/* A token of which nothing is known now, or that may not be asked about. */
static void write_undecided(struct json_writer *writer, enum err err)
{
    json_open_object(writer);
    json_name(writer, "active");
    json_none(writer);
    json_member_string(writer, "code", text_of(err_code(err)));
    json_close_object(writer);
}

/* True if the item is a guess of an address that guesses too often, as far as the caller named it.
 */
static bool is_guess_too_many(const struct request *request, const struct validate *item)
{
    struct text ip = item->base.claims.ip;
    if (!item->base.out.forged || !ip.data)
        return false;
    alert_triggers_guess(request, ip);
    return !throttle_note_forged_item(request, ip);
}

/* A bound key learns no more of a foreign token than that it is not for it. */
static void write_result(struct json_writer *writer, struct request *request,
                         const struct validate *item)
{
    enum err err = item->base.out.err;
    struct audit_record *record = &request->audit;
    if (err == ERR_OK) {
        api_write_session(writer, item);
        record->batch_active++;
    } else if (is_guess_too_many(request, item)) {
        write_undecided(writer, ERR_RATE_LIMITED);
    } else if (api_is_inactive(err) || err == ERR_TENANT_FORBIDDEN) {
        api_write_inactive(writer, request, &item->base);
        record->batch_inactive++;
    } else {
        write_undecided(writer, err);
    }
    if (item->stale) {
        record->stale = true;
        if (item->stale_for_s > record->stale_for_s)
            record->stale_for_s = item->stale_for_s;
    }
}

/* A session comes twice if two of its tokens were asked about. */
static void note_sessions(struct request *request, const struct validate_batch *validations)
{
    struct text *ids = arena_alloc(&request->arena, (validations->count + 1) * sizeof(*ids));
    struct audit_record *record = &request->audit;
    for (size_t i = 0; i < validations->count; i++)
        if (validations->items[i].base.facts.session_id.data)
            ids[record->session_count++] = validations->items[i].base.facts.session_id;
    record->sessions = ids;
}

static enum handled answer_batch(struct request *request, const struct batch *batch)
{
    enum { USUAL_RESULT = 384 };
    struct json_writer writer = {.out = request_body(request)};
    buffer_reserve(writer.out, batch->element_count * USUAL_RESULT);
    request->audit.batch_tokens = (int64_t)batch->element_count;
    json_open_object(&writer);
    json_member_array(&writer, "results");
    for (size_t i = 0; i < batch->element_count; i++)
        if (batch->item_of[i] == LIMITED)
            write_undecided(&writer, ERR_RATE_LIMITED);
        else
            write_result(&writer, request, &batch->validations.items[batch->item_of[i]]);
    json_close_array(&writer);
    json_close_object(&writer);
    note_sessions(request, &batch->validations);
    return response_answer(request, MHD_HTTP_OK, true);
}

static enum handled finish_batch(struct request *request, struct operation *operation)
{
    assert(operation->out.err == ERR_OK);
    return answer_batch(request, (const struct batch *)operation);
}

/* A batch costs as much of the tenant's rate as its tokens one by one. */
static enum handled check_cost(struct request *request, struct text tenant, size_t count)
{
    struct text detail = {0};
    enum err err = throttle_admit_more(request, tenant, (int64_t)count - 1, &detail);
    return err == ERR_OK ? GO_ON : response_fail(request, err, detail);
}

enum handled api_validate_batch(struct request *request)
{
    struct batch_body body;
    struct validate pattern = {.max_age_s = -1};
    struct batch *batch = arena_zalloc(&request->arena, sizeof(*batch));
    if (batch_body_read(request, &body) ||
        api_token_tenant(request, &pattern.tenant, &pattern.tenant_bound) ||
        check_cost(request, pattern.tenant, body.count))
        return ANSWERED;
    pattern.touch = body.touch;
    fill_batch(request, &body, batch, &pattern);
    api_begin(request, &batch->validations.base, finish_batch);
    if (batch->validations.count > 0) {
        session_validate_batch(&batch->validations);
    } else {
        struct operation *operation = &batch->validations.base;
        operation->done(operation); /* all tenants are over their rates */
    }
    return PENDING;
}
