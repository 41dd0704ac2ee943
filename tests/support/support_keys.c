#include "support_keys.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void support_key_file(const char *content, unsigned mode, char path[SUPPORT_PATH])
{
    snprintf(path, SUPPORT_PATH, "/tmp/sessiond-check-keys-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

struct keyring *support_keyring(const char *content)
{
    crypto_init();
    char path[SUPPORT_PATH];
    support_key_file(content, 0600, path);
    struct buffer error = {0};
    struct keyring *keyring = keyring_load(path, false, &error);
    unlink(path);
    ck_assert_msg(keyring != NULL, "%.*s", (int)error.length, error.data);
    buffer_free(&error);
    return keyring;
}

uint64_t support_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}
