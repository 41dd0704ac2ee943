/* ES256: signatures that others verify, keys as RFC 7515 and RFC 7638 print them. */
#include "signing.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "crypto.h"
#include "support_run.h"
#include "support_signature.h"

/* The key and the signed text of RFC 7515, appendix A.3. */
#define RFC_D "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
#define RFC_X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define RFC_Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define RFC_INPUT                                                                                  \
    "eyJhbGciOiJFUzI1NiJ9."                                                                        \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"
#define RFC_SIGNATURE \
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
/* SHA-256 over {"crv":"P-256","kty":"EC","x":RFC_X,"y":RFC_Y}, RFC 7638, section 3. */
#define RFC_THUMBPRINT "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"

static struct signing_key *key_of(const char *digits)
{
    uint8_t secret[SIGNING_SECRET];
    ck_assert(text_from_base64url(secret, sizeof(secret), text_of(digits)));
    return signing_key_create(secret);
}

START_TEST(the_key_of_the_rfc_has_its_coordinates_and_thumbprint)
{
    struct signing_key *key = key_of(RFC_D);
    struct buffer jwk = {0};
    signing_key_print(key, &jwk);
    buffer_add_char(&jwk, '\0');
    ck_assert_str_eq(jwk.data,
                     "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" RFC_X "\",\"y\":\"" RFC_Y
                     "\",\"kid\":\"" RFC_THUMBPRINT "\",\"alg\":\"ES256\",\"use\":\"sig\"}");
    ck_assert(text_equal(signing_key_id(key), TEXT(RFC_THUMBPRINT)));
    buffer_free(&jwk);
    signing_key_destroy(&key);
    ck_assert_ptr_null(key);
}
END_TEST

START_TEST(the_form_of_signatures_is_that_of_the_rfc)
{
    uint8_t signature[SIGNING_SIGNATURE];
    ck_assert(text_from_base64url(signature, sizeof(signature), TEXT(RFC_SIGNATURE)));
    ck_assert(support_verifies(RFC_X, RFC_Y, TEXT(RFC_INPUT), signature));
}
END_TEST

/* Many signatures: r or s of some are shorter than 32 bytes in DER. */
START_TEST(signatures_verify_and_hold_for_their_input_alone)
{
    struct signing_key *key = key_of(RFC_D);
    uint8_t signature[SIGNING_SIGNATURE], before[SIGNING_SIGNATURE] = {0};
    for (int i = 0; i < 600; i++) {
        signing_sign(key, TEXT(RFC_INPUT), signature);
        ck_assert(support_verifies(RFC_X, RFC_Y, TEXT(RFC_INPUT), signature));
        ck_assert_mem_ne(signature, before, sizeof(before));
        memcpy(before, signature, sizeof(before));
    }
    ck_assert(!support_verifies(RFC_X, RFC_Y, TEXT(RFC_INPUT "x"), signature));
    signature[40] ^= 1;
    ck_assert(!support_verifies(RFC_X, RFC_Y, TEXT(RFC_INPUT), signature));
    signing_key_destroy(&key);
}
END_TEST

START_TEST(a_signed_text_has_three_parts_that_verify)
{
    struct signing_key *key = key_of(RFC_D);
    struct buffer out = {0};
    buffer_add_literal(&out, "before ");
    signing_write_jws(key, TEXT("{\"alg\":\"ES256\"}"),
                      TEXT("{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n "
                           "\"http://example.com/is_root\":true}"),
                      &out);
    struct text text = {out.data + 7, out.length - 7};
    size_t input = sizeof(RFC_INPUT) - 1;
    uint8_t signature[SIGNING_SIGNATURE];
    ck_assert_uint_eq(text.length, sizeof(RFC_INPUT "." RFC_SIGNATURE) - 1);
    ck_assert_mem_eq(text.data, RFC_INPUT ".", input + 1);
    ck_assert(text_from_base64url(signature, sizeof(signature),
                                  (struct text){text.data + input + 1, text.length - input - 1}));
    ck_assert(support_verifies(RFC_X, RFC_Y, TEXT(RFC_INPUT), signature));
    buffer_free(&out);
    signing_key_destroy(&key);
}
END_TEST

/* The order of P-256 (SEC 2, section 2.4.2), big-endian. */
static const char order[] = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

START_TEST(only_scalars_of_the_curve_are_keys)
{
    uint8_t secret[SIGNING_SECRET] = {0};
    ck_assert_ptr_null(signing_key_create(secret));
    ck_assert(text_from_hex(secret, sizeof(secret), text_of(order)));
    ck_assert_ptr_null(signing_key_create(secret));
    secret[31]--;
    struct signing_key *largest = signing_key_create(secret);
    ck_assert_ptr_nonnull(largest);
    signing_key_destroy(&largest);
    memset(secret, 0, sizeof(secret));
    secret[31] = 1;
    struct signing_key *least = signing_key_create(secret);
    ck_assert_ptr_nonnull(least);
    signing_key_destroy(&least);
    memset(secret, 0xff, sizeof(secret));
    ck_assert_ptr_null(signing_key_create(secret));
}
END_TEST

int main(void)
{
    crypto_init();
    Suite *suite = suite_create("signing");
    TCase *tcase = tcase_create("es256");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, the_key_of_the_rfc_has_its_coordinates_and_thumbprint);
    tcase_add_test(tcase, the_form_of_signatures_is_that_of_the_rfc);
    tcase_add_test(tcase, signatures_verify_and_hold_for_their_input_alone);
    tcase_add_test(tcase, a_signed_text_has_three_parts_that_verify);
    tcase_add_test(tcase, only_scalars_of_the_curve_are_keys);
    suite_add_tcase(suite, tcase);
    return support_run(suite);
}
