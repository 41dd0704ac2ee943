/* The question, its answer, and when to ask next. */
#include "inspection.h"

#include "clock.h"
#include "fitness.h"

enum { TIMEOUT_MS = 500, PAUSE_MS = 60 * 1000, FAULTY_PAUSE_MS = 2000, FAULTY_PAUSE_EACH_MS = 50 };

static void plan_inspection(struct inspection *inspection, bool faulty)
{
    int64_t soon_ms = FAULTY_PAUSE_MS + FAULTY_PAUSE_EACH_MS * (int64_t)inspection->servers;
    int64_t pause_ms = faulty && soon_ms < PAUSE_MS ? soon_ms : PAUSE_MS;
    inspection->due_ms = clock_monotonic_ms() + pause_ms;
}

static void assess_info(struct inspection *inspection, struct text info)
{
    struct settings *settings = inspection->link->settings;
    char why[FITNESS_WHY_MAX];
    inspection->unfit = fitness_check(info, settings, why);
    if (why[0])
        server_problems_log(&settings->faults, inspection->endpoint, why);
    else
        server_problems_over(&settings->faults, inspection->endpoint);
    plan_inspection(inspection, why[0] != '\0');
}

static void note_denied(struct inspection *inspection)
{
    server_problems_log(
        &inspection->link->settings->faults, inspection->endpoint,
        "NOPERM for INFO: version, replicas and evictions are not known; grant +info");
    plan_inspection(inspection, true);
}

static void on_info(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct inspection *inspection = (struct inspection *)call;
    if (err == ERR_OK)
        assess_info(inspection, store_reply_text(reply));
    else if (err == ERR_STORE_DENIED && inspection->reachable)
        note_denied(inspection);
    inspection->done(inspection);
}

bool inspection_begin(struct inspection *inspection, struct store_link *link,
                      const struct endpoint *endpoint)
{
    static const struct text arguments[] = {{"INFO", 4}};
    if (clock_monotonic_ms() < inspection->due_ms)
        return false;
    inspection->link = link;
    inspection->endpoint = endpoint;
    inspection->call = link_question(arguments, 1, TIMEOUT_MS, on_info);
    inspection->call.flags = STORE_DISPENSABLE;
    link_send_direct(link, &inspection->call, endpoint);
    return true;
}
