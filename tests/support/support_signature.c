/* Verifies as any other party does: from the two coordinates, with OpenSSL's DER. */
#include "support_signature.h"

#include <check.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

bool support_verifies(const char *x, const char *y, struct text input, const uint8_t *signature)
{
    uint8_t point[65] = {4}, hash[32], *der = NULL;
    unsigned length = 0;
    ck_assert(text_from_base64url(point + 1, 32, text_of(x)));
    ck_assert(text_from_base64url(point + 33, 32, text_of(y)));
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0);
    OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point));
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX *importer = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *public = NULL;
    ck_assert_int_eq(EVP_PKEY_fromdata_init(importer), 1);
    ck_assert_int_eq(EVP_PKEY_fromdata(importer, &public, EVP_PKEY_PUBLIC_KEY, parameters), 1);
    ECDSA_SIG *parts = ECDSA_SIG_new();
    ECDSA_SIG_set0(parts, BN_bin2bn(signature, 32, NULL), BN_bin2bn(signature + 32, 32, NULL));
    int der_length = i2d_ECDSA_SIG(parts, &der);
    EVP_Digest(input.data, input.length, hash, &length, EVP_sha256(), NULL);
    EVP_PKEY_CTX *verifier = EVP_PKEY_CTX_new_from_pkey(NULL, public, NULL);
    ck_assert_int_eq(EVP_PKEY_verify_init(verifier), 1);
    bool good = EVP_PKEY_verify(verifier, der, (size_t)der_length, hash, sizeof(hash)) == 1;
    OPENSSL_free(der);
    ECDSA_SIG_free(parts);
    EVP_PKEY_CTX_free(verifier);
    EVP_PKEY_CTX_free(importer);
    EVP_PKEY_free(public);
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    return good;
}
