/* Reads the sections [audience:NAME]: receivers of signed identities. */
#include "conf_options.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"

enum { MOST_ROLES = 32, ROLE_LENGTH_MAX = 128 };

/* --- grammars beyond the types --- */

static bool names_tenant(const struct audience *audience)
{
    return strcmp(audience->tenant, "*") == 0 || conf_is_name(text_of(audience->tenant));
}

static bool lists_roles(const struct audience *audience)
{
    const struct conf_list *roles = &audience->roles;
    bool good = roles->count >= 1 && roles->count <= MOST_ROLES;
    for (size_t i = 0; good && i < roles->count; i++)
        good = strlen(roles->items[i]) <= ROLE_LENGTH_MAX;
    return good;
}

static bool names_acr(const struct audience *audience)
{
    return conf_is_acr(text_of(audience->acr));
}

static const struct grammar {
    const char *name;
    bool (*accepts)(const struct audience *audience);
    const char *wanted;
} grammars[] = {
    {"tenant", names_tenant, "* or the id of a tenant: [a-z0-9][a-z0-9._-]{0,62}"},
    {"role", lists_roles, "1 to 32 words of at most 128 bytes"},
    {"acr", names_acr, "1 to 128 printable ASCII characters without blank, \" and \\"},
};

/* The form that the option must have, if its value has another; else NULL. */
static const char *missed_grammar(const struct audience *audience, const char *name)
{
    for (size_t i = 0; i < sizeof(grammars) / sizeof(grammars[0]); i++)
        if (strcmp(grammars[i].name, name) == 0 && !grammars[i].accepts(audience))
            return grammars[i].wanted;
    return NULL;
}

/* --- reading --- */

void conf_audience_begin(struct conf_report *report, struct conf_audience_draft **drafts,
                         struct text name, unsigned line)
{
    char quoted[96];
    struct conf_audience_draft *draft = xcalloc(1, sizeof(*draft));
    draft->line = line;
    draft->audience.name = xstrndup(name.data, name.length);
    for (const struct option_row *row = conf_audience_rows;
         row < conf_audience_rows + AUDIENCE_ROWS; row++)
        row->type->set_initial(row, conf_audience_field(row, &draft->audience));
    if (!conf_is_name(name)) {
        conf_report_at(report, line,
                       "the name of an audience is [a-z0-9][a-z0-9._-]{0,62}, not '%s'",
                       log_quote(quoted, sizeof(quoted), name));
    }
    for (const struct conf_audience_draft *other = *drafts; other; other = other->next) {
        if (strcmp(other->audience.name, draft->audience.name) == 0) {
            conf_report_at(report, line, "an audience '%s' was already begun in line %u",
                           log_quote(quoted, sizeof(quoted), name), other->line);
            break;
        }
    }
    draft->next = *drafts;
    *drafts = draft;
}

static void refuse_audience_value(struct conf_report *report, unsigned line,
                                  const struct option_row *row, const char *wanted,
                                  struct text value)
{
    char quoted[96];
    SCOPED(buffer_free) struct buffer form = {0};
    if (!wanted)
        row->type->describe(row, &form);
    else
        buffer_add_text(&form, text_of(wanted));
    conf_report_at(report, line, "%s of an audience must be %.*s, not '%s'", row->name,
                   (int)form.length, form.data, log_quote(quoted, sizeof(quoted), value));
}

void conf_audience_set(struct conf_report *report, struct conf_audience_draft *draft, unsigned line,
                       struct text name, struct text value)
{
    char quoted[96];
    const struct option_row *row = conf_audience_rows;
    while (row < conf_audience_rows + AUDIENCE_ROWS && !text_equal(text_of(row->name), name))
        row++;
    if (row == conf_audience_rows + AUDIENCE_ROWS) {
        conf_report_at(report, line,
                       "there is no option '%s' of an audience; there are tenant, role, max_age, "
                       "acr, ttl",
                       log_quote(quoted, sizeof(quoted), name));
        return;
    }
    unsigned bit = 1u << (row - conf_audience_rows);
    if ((draft->seen & bit) != 0) {
        conf_report_at(report, line, "%s was already set for this audience", row->name);
        return;
    }
    draft->seen |= bit;
    bool parsed = row->type->parse(row, value, conf_audience_field(row, &draft->audience));
    const char *wanted = parsed ? missed_grammar(&draft->audience, row->name) : NULL;
    if (!parsed || wanted)
        refuse_audience_value(report, line, row, wanted, value);
}

static void check_acr_is_ordered(struct conf_report *report,
                                 const struct conf_audience_draft *draft, const struct conf *conf)
{
    const struct conf_list *order = &conf->auth_acr_order;
    const char *acr = draft->audience.acr;
    bool found = order->count == 0 || acr[0] == '\0' || !conf_is_acr(text_of(acr));
    for (size_t i = 0; i < order->count && !found; i++)
        found = strcmp(order->items[i], acr) == 0;
    if (!found)
        conf_report_at(report, draft->line,
                       "acr of [audience:%s] must be one of [auth] acr_order, "
                       "not '%s'",
                       draft->audience.name, acr);
}

void conf_audiences_finish(struct conf_report *report, struct conf_audience_draft **drafts,
                           struct conf *conf)
{
    for (const struct conf_audience_draft *draft = *drafts; draft; draft = draft->next) {
        conf->audience_count++;
        check_acr_is_ordered(report, draft, conf);
        if (conf->oauth_issuer[0] == '\0' && !report->refused[OPTION_ID_oauth_issuer])
            conf_report_at(report, draft->line,
                           "[audience:%s] needs [oauth] issuer, which is empty",
                           draft->audience.name);
    }
    if (conf->audience_count > 0)
        conf->audiences = xcalloc(conf->audience_count, sizeof(conf->audiences[0]));
    /* Drafts are newest first, audiences in the file's order. */
    size_t left = conf->audience_count;
    for (struct conf_audience_draft *draft = *drafts; draft; draft = *drafts) {
        conf->audiences[--left] = draft->audience;
        *drafts = draft->next;
        free(draft);
    }
    assert(left == 0);
}
