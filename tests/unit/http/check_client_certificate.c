/* When a client certificate is the credential of a request. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "http/access/client_certificate.h"

#include "support_run.h"

enum { BEGIN = 1000, END = 2000 };

static const struct {
    const char *name; /* of a header; NULL: none */
    int64_t now_s;
    bool absent, cookie;
    enum certificate_use use;
} cases_of_use[] = {
    {NULL, BEGIN, false, false, CERTIFICATE_COUNTS},
    {NULL, END, false, false, CERTIFICATE_COUNTS},
    {"Host", BEGIN, false, false, CERTIFICATE_COUNTS},
    {"X-Session-Token", BEGIN, false, false, CERTIFICATE_COUNTS},
    {"X-Forwarder", BEGIN, false, false, CERTIFICATE_COUNTS},
    {"Forwarded-For", BEGIN, false, false, CERTIFICATE_COUNTS},
    {NULL, BEGIN, true, false, CERTIFICATE_ABSENT},
    {"Authorization", BEGIN, true, true, CERTIFICATE_ABSENT},
    {NULL, BEGIN - 1, false, false, CERTIFICATE_OUTDATED},
    {NULL, END + 1, false, false, CERTIFICATE_OUTDATED},
    {"Authorization", BEGIN, false, false, CERTIFICATE_TWICE},
    {"Authorization", END + 1, false, false, CERTIFICATE_TWICE},
    {"Cookie", BEGIN, false, true, CERTIFICATE_TWICE},
    {"X-Forwarded-For", BEGIN, false, true, CERTIFICATE_TWICE},
    {"Cookie", BEGIN, false, false, CERTIFICATE_IGNORED},
    {"Origin", BEGIN, false, false, CERTIFICATE_IGNORED},
    {"forwarded", BEGIN, false, false, CERTIFICATE_IGNORED},
    {"x-forwarded-anything", BEGIN, false, false, CERTIFICATE_IGNORED},
    {"X-Forwarded", BEGIN, false, false, CERTIFICATE_IGNORED},
    {"X-ORIGINAL-URL", BEGIN, false, false, CERTIFICATE_IGNORED},
    {"Origin", END + 1, false, false, CERTIFICATE_IGNORED},
};
enum { CASES = sizeof(cases_of_use) / sizeof(cases_of_use[0]) };

START_TEST(it_counts_only_in_a_request_that_its_holder_wrote)
{
    struct arena arena = {0};
    struct headers headers = {.arena = &arena};
    char value[] = "a=b"; /* wiped if it is a credential */
    if (cases_of_use[_i].name != NULL)
        ck_assert(guard_header(&headers, text_of(cases_of_use[_i].name), text_of(value)));
    const struct client_certificate certificate = {
        .shown = !cases_of_use[_i].absent, .valid_from_s = BEGIN, .valid_until_s = END};
    enum certificate_use use = client_certificate_use(
        &certificate, &headers, cases_of_use[_i].cookie, cases_of_use[_i].now_s);
    ck_assert_int_eq(use, cases_of_use[_i].use);
    arena_free(&arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_certificate");
    TCase *tests = tcase_create("client_certificate");
    tcase_add_loop_test(tests, it_counts_only_in_a_request_that_its_holder_wrote, 0, CASES);
    suite_add_tcase(suite, tests);
    return support_run(suite);
}
