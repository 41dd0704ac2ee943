/* The receiver of alerts: the webhook's URL, its secret, and its CAs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alerts_private.h"
#include "private_file.h"

#define OPTION           "alerts.webhook_secret_file"
#define PREFIX           "whsec_"
#define BYTES_OF(digits) ((digits)*3 / 4)
#define CA_OPTION        "alerts.tls_ca_file"

enum { AUTHORITIES_MAX = 1024 * 1024, PART = 16 * 1024 };

/* Converts base64 to base64url without padding; false if a character belongs to base64url only. */
static bool respell(char *digits, size_t *length)
{
    while (*length > 0 && digits[*length - 1] == '=')
        (*length)--;
    for (size_t i = 0; i < *length; i++)
        if (digits[i] == '+')
            digits[i] = '-';
        else if (digits[i] == '/')
            digits[i] = '_';
        else if (digits[i] == '-' || digits[i] == '_')
            return false;
    return true;
}

/* whsec_ and base64, the form of the Standard Webhooks libraries, is decoded; anything else is the
 * key itself. */
static bool read_secret(char *line, struct text secret, const char *path,
                        struct alerts_target *target, struct buffer *error)
{
    static const size_t prefix = sizeof(PREFIX) - 1;
    if (secret.length > prefix && memcmp(secret.data, PREFIX, prefix) == 0) {
        size_t digits = secret.length - prefix;
        bool spelled = respell(line + prefix, &digits);
        target->secret_length = BYTES_OF(digits);
        if (!spelled || !text_from_base64url(target->secret, target->secret_length,
                                             (struct text){line + prefix, digits}))
            return private_file_refuse(error, OPTION, path,
                                       "what follows " PREFIX " is not base64");
    } else {
        target->secret_length = secret.length;
        memcpy(target->secret, secret.data, secret.length);
    }
    if (target->secret_length < ALERTS_SECRET_MIN)
        return private_file_refuse(error, OPTION, path, "shorter than 24 bytes");
    return true;
}

/* Reads the file, little more than its limit if it is larger. 0 or an error number. */
static int read_ca_file(const char *path, struct buffer *out)
{
    char part[PART];
    ssize_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd >= 0 && out->length <= AUTHORITIES_MAX && (length = read(fd, part, PART)) > 0)
        buffer_add(out, part, (size_t)length);
    int cause = fd < 0 || length < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return cause;
}

/* Into memory: the file may be rewritten while it is in use. */
static bool read_authorities(const char *value, struct buffer *out, struct buffer *error)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    char path[PRIVATE_FILE_PATH];
    if (value[0] == '\0')
        return true;
    if (!private_file_find(CA_OPTION, value, path, error))
        return false;
    int cause = read_ca_file(path, out);
    if (cause != 0)
        return private_file_refuse(error, CA_OPTION, path, strerrordesc_np(cause));
    if (out->length > AUTHORITIES_MAX)
        return private_file_refuse(error, CA_OPTION, path, "larger than 1 MiB");
    if (out->length == 0 || !memmem(out->data, out->length, begin, sizeof(begin) - 1))
        return private_file_refuse(error, CA_OPTION, path, "has no certificate (PEM)");
    return true;
}

struct alerts_target *alerts_target_load(const struct conf *conf, struct buffer *error)
{
    struct alerts_target *target = xcalloc(1, sizeof(*target));
    target->url = xstrdup(conf->alerts_webhook_url);
    if (target->url[0] == '\0')
        return target;
    const char *path = conf->alerts_webhook_secret_file;
    char line[ALERTS_SECRET_MAX];
    struct text secret;
    if (!private_file_read_line(OPTION, path, line, sizeof(line), &secret, error) ||
        !read_secret(line, secret, path, target, error) ||
        !read_authorities(conf->alerts_tls_ca_file, &target->authorities, error))
        alerts_target_free(&target);
    crypto_wipe(line, sizeof(line));
    return target;
}

void alerts_target_free(struct alerts_target **target)
{
    if (*target) {
        crypto_wipe((*target)->secret, sizeof((*target)->secret));
        free((*target)->url);
        buffer_free(&(*target)->authorities);
        free(*target);
    }
    *target = NULL;
}
