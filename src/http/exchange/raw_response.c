/* Writes a status line, Date, the response's headers, Content-Length, Connection, and the body. */
#include "raw_response.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "clock.h"
#include "http/server/https.h"

#define DATE_FORM "Date: %a, %d %b %Y %H:%M:%S GMT\r\n" /* RFC 9110, section 5.6.7 */

static enum MHD_Result count_header(void *user, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    (void)kind;
    size_t *size = user;
    *size += strlen(name) + strlen(": \r\n") + strlen(value);
    return MHD_YES;
}

size_t raw_response_headers_size(const struct request *request)
{
    /* The most that libmicrohttpd adds, and the byte behind the date that it reserves. */
    static const char added[] = "HTTP/1.1 200 \r\n"
                                "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                                "Connection: Keep-Alive\r\n"
                                "Content-Length: 18446744073709551615\r\n\r\n";
    const struct request_private *private = request->private;
    size_t size = sizeof(added) + strlen(MHD_get_reason_phrase_for(private->status));
    MHD_get_response_headers(private->response, count_header, &size);
    return size;
}

static enum MHD_Result write_header(void *user, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    (void)kind;
    buffer_addf(user, "%s: %s\r\n", name, value);
    return MHD_YES;
}

static void write_header_section(struct buffer *head, const struct request *request)
{
    const struct request_private *private = request->private;
    char date[64];
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm broken;
    assert(private->status >= 200 && private->status < 600);
    date[strftime(date, sizeof(date), DATE_FORM, gmtime_r(&now, &broken))] = '\0';
    buffer_addf(head, "HTTP/1.1 %u %s\r\n%s", private->status,
                MHD_get_reason_phrase_for(private->status), date);
    MHD_get_response_headers(private->response, write_header, head);
    if (MHD_get_response_header(private->response, "Connection") == NULL)
        buffer_add_literal(head, "Connection: close\r\n");
    if (private->status != MHD_HTTP_NO_CONTENT)
        buffer_addf(head, "Content-Length: %zu\r\n", request_answer_body(request).length);
    buffer_add_literal(head, "\r\n");
}

static bool sends_body(const struct request *request)
{
    unsigned status = request->private->status;
    return status != MHD_HTTP_NO_CONTENT && status != MHD_HTTP_NOT_MODIFIED &&
           !text_equal(request->method, TEXT("HEAD"));
}

/* The kernel doubles the size, and keeps within net.core.wmem_max. */
static void enlarge_send_buffer(int fd, size_t size)
{
    int now = 0, wanted = (int)size;
    socklen_t length = sizeof(now);
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &now, &length) == 0 && now < 2 * wanted)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted));
}

enum MHD_Result raw_response_send(struct request *request)
{
    struct request_private *private = request->private;
    struct buffer head = {0};
    assert(private->response != NULL && !private->sent_raw);
    struct text body = request_answer_body(request);
    write_header_section(&head, request);
    struct iovec parts[] = {
        {head.data, head.length},
        {(char *)body.data, sends_body(request) ? body.length : 0},
    };
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    enlarge_send_buffer(private->client->fd, parts[0].iov_len + parts[1].iov_len);
    if (private->client->tls) {
        (void)(https_send(request->connection, parts[0].iov_base, parts[0].iov_len) &&
               https_send(request->connection, parts[1].iov_base, parts[1].iov_len));
    } else {
        ssize_t sent = sendmsg(private->client->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)sent;
    }
    private->sent_raw = true;
    buffer_free(&head); /* wiped: it may have a cookie */
    return MHD_NO;
}
